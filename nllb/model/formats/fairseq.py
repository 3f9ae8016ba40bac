"""Reads checkpoints of fairseq (branch `nllb`): dense files, and mixture-of-experts files per rank.

A dense checkpoint is one file. A sparse one is `NAME-shared.pt` and `NAME-rank-R.pt` for each rank
R; each rank's file holds its own experts, counted from 0 within the rank, so that expert
R * (experts a rank) + e of a layer is expert e of rank R.

The ids are those of Hugging Face's form (<s>, <pad>, </s>, <unk>, pieces, languages, tags): no row
moves. The vocabulary is looked for beside the checkpoint and in the folder above: a SentencePiece
model, and `dictionary.txt`, whose order is checked against it where it is there.
"""

import pickle
import re
from argparse import Namespace
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nllb.errors import CheckpointError
from nllb.io.text import read_lines
from nllb.model.configuration import ModelConfig, Side, read_document
from nllb.model.formats.model_directory import SETTINGS_FILE, ModelDirectory
from nllb.model.formats.weight_names import Weight
from nllb.model.formats.weights import Place, TorchFile, Weights, gather_weights

if TYPE_CHECKING:
    from nllb.model.tokenizer import Tokenizer

_RANK_FILE = re.compile(r"(?P<stem>.+)-(?:rank-(?P<rank>\d+)|shared)\.pt")
_EXPERT = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.moe_layer\.experts\.(\d+)\.fc1\.weight")
_WITHOUT_WEIGHT = re.compile(
    r"((encoder|decoder)\.(version|embed_positions\._float_tensor|embed_positions\.weights))"
    r"|(encoder\.embed_tokens|decoder\.output_projection)\.weight"
)
"""Tensors that are tied to others, or no weights."""
_CONFIGURATION_PACKAGES = ("argparse", "fairseq", "omegaconf", "typing", "enum")
_NLLB_HEADS = 16
"""Heads of every released NLLB model, for a checkpoint without its arguments."""


def find_fairseq(path: Path) -> list[Path]:
    """Return the files of the fairseq checkpoint at a path: a file of it, or the folder with it.

    Empty where there is none, or where a folder holds several.
    """
    if path.is_dir():
        files = sorted(path.glob("*.pt"))
        stems = {
            match["stem"] if (match := _RANK_FILE.fullmatch(f.name)) else f.name for f in files
        }
        return files if len(stems) == 1 else []
    if path.suffix != ".pt" or not path.is_file():
        return []
    match = _RANK_FILE.fullmatch(path.name)
    if match is None:
        return [path]
    names = [_RANK_FILE.fullmatch(file.name) for file in path.parent.glob("*.pt")]
    return sorted(path.parent / name[0] for name in names if name and name["stem"] == match["stem"])


def open_fairseq(files: list[Path], *, name: str) -> ModelDirectory:
    """Open a checkpoint from its files.

    Raises:
        CheckpointError: it is damaged, not a translation model, or ranks of it are missing.
    """
    shared: TorchFile | None = None
    ranks: dict[int, TorchFile] = {}
    for path in files:
        file = TorchFile(path, partial(_select_model, path), safe_classes=_stand_ins(path))
        rank = _rank(path)
        if rank is None:
            shared = file
        else:
            ranks[rank] = file
    if shared is None:
        raise CheckpointError(f"{files[0].parent} has files of ranks and no ...-shared.pt")
    if sorted(ranks) != list(range(len(ranks))):
        raise CheckpointError(f"{files[0].parent} lacks files of ranks: it has {sorted(ranks)}")
    experts = _place_experts(shared, [ranks[rank] for rank in sorted(ranks)])
    config = _read_config(shared, experts)
    folder = files[0].parent
    settings_path = folder / SETTINGS_FILE
    return ModelDirectory(
        name=name,
        path=files[0] if len(files) == 1 else folder,
        config=config,
        weights=_open_weights(shared, experts, config),
        settings=read_document(settings_path) if settings_path.is_file() else {},
        format="fairseq",
        open_tokenizer=partial(_open_tokenizer, folder, config, _languages(shared.content)),
    )


class Inert:
    """Stands in for a class of fairseq's configuration: its code is neither needed nor run."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


def _stand_ins(path: Path) -> list[type | tuple[type, str]]:
    # Configurations hold enumerations of fairseq and nodes of omegaconf beside plain values.
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, OSError, pickle.UnpicklingError):
        return []  # opening the file says what is wrong with it
    known = [name for name in names if name.partition(".")[0] in _CONFIGURATION_PACKAGES]
    return [Namespace, *((Inert, name) for name in known if name != "argparse.Namespace")]


def _select_model(path: Path, saved: Any) -> Any:
    if not isinstance(saved, Mapping) or not isinstance(saved.get("model"), Mapping):
        raise CheckpointError(f"{path} is no fairseq checkpoint: it holds no 'model'")
    return saved["model"]


def _rank(path: Path) -> int | None:
    match = _RANK_FILE.fullmatch(path.name)
    return int(match["rank"]) if match and match["rank"] else None


def _place_experts(shared: TorchFile, ranks: list[TorchFile]) -> list[tuple[TorchFile, int]]:
    # The file and the number within it of each expert, by its number in the whole layer.
    places = []
    for file in ranks or [shared]:
        local = {int(match[3]) for name in file.names() if (match := _EXPERT.fullmatch(name))}
        if local != set(range(len(local))) or (ranks and not local):
            raise CheckpointError(f"{file.path} has experts {sorted(local)}, not 0, 1, ...")
        places += [(file, number) for number in sorted(local)]
    return places


def _open_weights(
    shared: TorchFile, experts: list[tuple[TorchFile, int]], config: ModelConfig
) -> Weights:
    def find(weight: Weight) -> Place | None:
        file, local = (shared, None) if weight.expert is None else experts[weight.expert]
        name = weight.name_in("fairseq", expert=local)
        return Place(file=file, name=name) if name in file.names() else None

    weights = gather_weights(config, find, where=shared.path)
    used = {weights.stored_name(name) for name in weights}
    surplus = [
        name for name in shared.names() if name not in used and not _WITHOUT_WEIGHT.fullmatch(name)
    ]
    if surplus:
        raise CheckpointError(
            f"{shared.path} holds {len(surplus)} tensors that an NLLB model does not have, among "
            f"them {', '.join(surplus[:3])}"
        )
    return weights


def _read_config(shared: TorchFile, experts: list[tuple[TorchFile, int]]) -> ModelConfig:
    files = [shared, experts[0][0]] if experts else [shared]
    shapes = {name: file.shape(name) for file in files for name in file.names()}
    if "decoder.embed_tokens.weight" not in shapes or "encoder.layer_norm.weight" not in shapes:
        raise CheckpointError(
            f"{shared.path} is no pre-norm encoder-decoder of fairseq: it has no "
            f"decoder.embed_tokens.weight or no encoder.layer_norm.weight"
        )
    vocabulary_size, model_dim = shapes["decoder.embed_tokens.weight"]
    sparse = _sparse_layers(shapes)
    arguments = _arguments(shared.content)
    return ModelConfig(
        vocabulary_size=vocabulary_size,
        model_dim=model_dim,
        encoder_layers=_count_layers(shapes, "encoder"),
        decoder_layers=_count_layers(shapes, "decoder"),
        encoder_heads=_heads(arguments, "encoder", model_dim, shared.path),
        decoder_heads=_heads(arguments, "decoder", model_dim, shared.path),
        encoder_ffn_dim=_ffn_dim(shapes, "encoder"),
        decoder_ffn_dim=_ffn_dim(shapes, "decoder"),
        activation=arguments.get("activation_fn") or "relu",
        scale_embedding=not arguments.get("no_scale_embedding", False),
        num_experts=len(experts),
        encoder_sparse_step=min(sparse["encoder"], default=-1) + 1,
        decoder_sparse_step=min(sparse["decoder"], default=-1) + 1,
        expert_output_masking=float(arguments.get("moe_eom") or 0.0) if experts else 0.0,
        second_expert_policy=arguments.get("moe_second_expert_policy") or "all",
        normalize_before_dropping=bool(arguments.get("moe_normalize_gate_prob_before_dropping")),
        batch_prioritized_routing=bool(arguments.get("moe_batch_prioritized_routing")),
        dropout=float(arguments.get("dropout") or 0.0),
        attention_dropout=float(arguments.get("attention_dropout") or 0.0),
        activation_dropout=float(arguments.get("activation_dropout") or 0.0),
    )


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    # New checkpoints keep the model's arguments in cfg["model"], old ones in args.
    return _plain(_section(content, "model")) or _plain(content.get("args"))


def _section(content: Mapping[str, Any], name: str) -> Any:
    return _plain(content.get("cfg")).get(name)


def _plain(section: Any) -> dict[str, Any]:
    # A part of a configuration, as fairseq saved it over the years: mapping, namespace, omegaconf.
    if isinstance(section, Inert):
        nodes = vars(section).get("_content")
        nodes = nodes if isinstance(nodes, Mapping) else {}
        return {key: vars(node).get("_val", node) for key, node in nodes.items()}
    if isinstance(section, Namespace):
        return dict(vars(section))
    return dict(section) if isinstance(section, Mapping) else {}


def _count_layers(shapes: Mapping[str, Any], side: Side) -> int:
    name = side + ".layers.{}.self_attn_layer_norm.weight"
    return next(number for number in range(len(shapes) + 1) if name.format(number) not in shapes)


def _sparse_layers(shapes: Mapping[str, Any]) -> dict[str, list[int]]:
    found = [
        re.fullmatch(r"(\w+)\.layers\.(\d+)\.moe_layer\.gate\.wg\.weight", name) for name in shapes
    ]
    pairs = [(match[1], int(match[2])) for match in found if match]
    return {
        side: [layer for other, layer in pairs if other == side] for side in ("encoder", "decoder")
    }


def _ffn_dim(shapes: Mapping[str, Any], side: Side) -> int:
    form = re.compile(side + r"\.layers\.\d+\.(moe_layer\.experts\.0\.)?fc1\.weight")
    return next((int(shape[0]) for name, shape in shapes.items() if form.fullmatch(name)), 0)


def _heads(arguments: Mapping[str, Any], side: Side, model_dim: int, path: Path) -> int:
    heads = arguments.get(f"{side}_attention_heads")
    if heads is None and model_dim not in (1024, 2048):
        raise CheckpointError(f"{path} does not say how many attention heads its {side} has")
    return int(heads or _NLLB_HEADS)


def _languages(content: Mapping[str, Any]) -> list[str] | None:
    task = _plain(_section(content, "task")) or _plain(content.get("args"))
    languages = task.get("langs")
    if isinstance(languages, str):
        return [language.strip() for language in languages.split(",") if language.strip()]
    return list(languages) if languages else None


def _open_tokenizer(folder: Path, config: ModelConfig, languages: list[str] | None) -> "Tokenizer":
    from nllb.model.tokenizer import Tokenizer

    models = [path for place in (folder, folder.parent) for path in sorted(place.glob("*.model"))]
    if not models:
        raise CheckpointError(
            f"{folder} has no tokenizer: put the SentencePiece model of the checkpoint "
            f"(sentencepiece.bpe.model) beside it"
        )
    tokenizer = Tokenizer.build(models[0], languages)
    if tokenizer.layout.size != config.vocabulary_size:
        raise CheckpointError(
            f"{models[0]} and {len(tokenizer.languages)} languages make {tokenizer.layout.size:,} "
            f"rows, and the checkpoint has {config.vocabulary_size:,}; they do not belong together"
        )
    if (dictionary := models[0].parent / "dictionary.txt").is_file():
        _check_dictionary(dictionary, tokenizer)
    return tokenizer


def _check_dictionary(path: Path, tokenizer: "Tokenizer") -> None:
    for number, line in enumerate(read_lines(path), 4):
        symbol = line.rpartition(" ")[0]
        token = tokenizer.token(number) if number < tokenizer.layout.size else "nothing"
        if symbol not in (token, f"__{token}__") and not symbol.endswith("_DATA>"):
            raise CheckpointError(
                f"{path}:{number - 3}: {symbol!r} has the id {number}, which is {token!r} in the "
                f"SentencePiece model beside it; they do not belong together"
            )
