"""Reads fairseq checkpoints (branch `nllb`), dense or with mixture-of-experts files per rank.

A dense checkpoint is one file. A sparse checkpoint consists of `NAME-shared.pt` and a file
`NAME-rank-R.pt` for each rank R. The file of a rank contains the experts of this rank, numbered
from 0, so that expert R * (experts per rank) + e of a layer is expert e of rank R.

The ids are the same as in the Hugging Face format (<s>, <pad>, </s>, <unk>, pieces, languages,
tags), so that no row has to be moved. The SentencePiece model must be in the directory of the
checkpoint or in its parent directory. If there is a `dictionary.txt`, its order is compared with
the SentencePiece model.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args

from nllb.errors import CheckpointError
from nllb.io.paths import is_plain_name
from nllb.io.text import read_lines
from nllb.model.configuration import Activation, ModelConfig, SecondExpertPolicy, Side

from .model_directory import ModelDirectory
from .settings import read_settings
from .torch_files import Record, TorchFile, record_fields, record_items
from .weight_names import Weight
from .weights import TensorLocation, Weights, gather_weights, without_prefix

if TYPE_CHECKING:
    from nllb.model.tokenizer import Tokenizer

_RANK_FILE = re.compile(r"(?P<stem>.+)-(?:rank-(?P<rank>\d+)|shared)\.pt")
_EXPERT = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.moe_layer\.experts\.(\d+)\.fc1\.weight")
_WITHOUT_WEIGHT = re.compile(
    r"((encoder|decoder)\.(version|embed_positions\._float_tensor|embed_positions\.weights))"
    r"|(encoder\.embed_tokens|decoder\.output_projection)\.weight"
)
"""Tensors that are tied to others or that are not weights."""
_NLLB_HEADS = 16
"""Attention heads of all released NLLB models, for checkpoints without arguments."""


def find_fairseq(path: Path) -> list[Path]:
    """Return the files of the fairseq checkpoint at a path, which is a file or a directory.

    The list is empty if there is no checkpoint, or if a directory contains several.
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
        CheckpointError: it is damaged, not a translation model, or files of ranks are missing.
    """
    shared: TorchFile | None = None
    ranks: dict[int, TorchFile] = {}
    for path in files:
        file = TorchFile(path, partial(_select_model, path))
        rank = _rank(path)
        if rank is None:
            shared = file
        else:
            ranks[rank] = file
    if shared is None:
        raise CheckpointError(
            f"{files[0].parent} has files of ranks, but the file ...-shared.pt is missing"
        )
    if sorted(ranks) != list(range(len(ranks))):
        raise CheckpointError(
            f"{files[0].parent} lacks files of ranks: it only has those of {sorted(ranks)}"
        )
    experts = _place_experts(shared, [ranks[rank] for rank in sorted(ranks)])
    config = _read_config(shared, experts)
    folder = files[0].parent
    return ModelDirectory(
        name=name,
        path=files[0] if len(files) == 1 else folder,
        config=config,
        weights=_open_weights(shared, experts, config),
        settings=read_settings(folder),
        format="fairseq",
        open_tokenizer=partial(_open_tokenizer, folder, config, _languages(shared)),
    )


def _select_model(path: Path, saved: Any) -> Any:
    if not isinstance(saved, Mapping) or not isinstance(saved.get("model"), Mapping):
        raise CheckpointError(f"{path} is not a fairseq checkpoint: it has no 'model'")
    tensors = {name: value for name, value in saved["model"].items() if isinstance(name, str)}
    return {name: tensors[stored] for name, stored in without_prefix(tensors).items()}


def _rank(path: Path) -> int | None:
    match = _RANK_FILE.fullmatch(path.name)
    return int(match["rank"]) if match and match["rank"] else None


def _place_experts(shared: TorchFile, ranks: list[TorchFile]) -> list[tuple[TorchFile, int]]:
    # The file and the local index of each expert, by its index in the layer.
    places = []
    for file in ranks or [shared]:
        local = {int(match[3]) for name in file.names() if (match := _EXPERT.fullmatch(name))}
        if local != set(range(len(local))) or (ranks and not local):
            found = ", ".join(map(str, sorted(local)[:5])) or "none"
            raise CheckpointError(
                f"{file.path} has the experts {found} ...; they must be numbered from 0"
            )
        places += [(file, number) for number in sorted(local)]
    return places


def _open_weights(
    shared: TorchFile, experts: list[tuple[TorchFile, int]], config: ModelConfig
) -> Weights:
    def find(weight: Weight) -> TensorLocation | None:
        file, local = (shared, None) if weight.expert is None else experts[weight.expert]
        name = weight.name_in("fairseq", expert=local)
        return TensorLocation(file=file, name=name) if name in file.names() else None

    weights = gather_weights(config, find, where=shared.path)
    used = {weights.stored_name(name) for name in weights}
    surplus = [
        name for name in shared.names() if name not in used and not _WITHOUT_WEIGHT.fullmatch(name)
    ]
    if surplus:
        raise CheckpointError(
            f"{shared.path} contains {len(surplus)} tensors that an NLLB model does not have, "
            f"including {', '.join(surplus[:3])}"
        )
    return weights


def _read_config(shared: TorchFile, experts: list[tuple[TorchFile, int]]) -> ModelConfig:
    files = [shared, experts[0][0]] if experts else [shared]
    shapes = {name: file.shape(name) for file in files for name in file.names()}
    if "decoder.embed_tokens.weight" not in shapes or "encoder.layer_norm.weight" not in shapes:
        raise CheckpointError(
            f"{shared.path} is not a pre-norm encoder-decoder of fairseq: "
            f"decoder.embed_tokens.weight or encoder.layer_norm.weight is missing"
        )
    if len(shapes["decoder.embed_tokens.weight"]) != 2:
        raise CheckpointError(
            f"{shared.path} is damaged: decoder.embed_tokens.weight is not a matrix"
        )
    vocabulary_size, model_dim = shapes["decoder.embed_tokens.weight"]
    sparse = _sparse_layers(shapes)
    arguments = _Arguments(_arguments(shared.content), shared.path)
    values: dict[str, Any] = dict(
        vocabulary_size=vocabulary_size,
        model_dim=model_dim,
        encoder_layers=_count_layers(shapes, "encoder"),
        decoder_layers=_count_layers(shapes, "decoder"),
        encoder_heads=_heads(arguments, "encoder", model_dim, shared.path),
        decoder_heads=_heads(arguments, "decoder", model_dim, shared.path),
        encoder_ffn_dim=_ffn_dim(shapes, "encoder"),
        decoder_ffn_dim=_ffn_dim(shapes, "decoder"),
        activation=arguments.choice("activation_fn", get_args(Activation), "relu"),
        scale_embedding=not arguments.flag("no_scale_embedding"),
        num_experts=len(experts),
        encoder_sparse_step=min(sparse["encoder"], default=-1) + 1,
        decoder_sparse_step=min(sparse["decoder"], default=-1) + 1,
        expert_output_masking=arguments.number("moe_eom") if experts else 0.0,
        second_expert_policy=arguments.choice(
            "moe_second_expert_policy", get_args(SecondExpertPolicy), "all"
        ),
        normalize_before_dropping=arguments.flag("moe_normalize_gate_prob_before_dropping"),
        batch_prioritized_routing=arguments.flag("moe_batch_prioritized_routing"),
        dropout=arguments.number("dropout"),
        attention_dropout=arguments.number("attention_dropout"),
        activation_dropout=arguments.number("activation_dropout"),
    )
    try:
        return ModelConfig(**values)
    except CheckpointError as error:
        raise CheckpointError(f"{shared.path}: {error}") from None


class _Arguments:
    """The training arguments of a model, whose types are checked on access."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self._values, self._path = values, path

    def number(self, name: str, default: float = 0.0) -> float:
        value = self._values.get(name)
        if value is None:
            return default
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise self._error(name, "a number") from None

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        if not isinstance(value, (bool, int, NoneType)):
            raise self._error(name, "a boolean")
        return bool(value)

    def choice(self, name: str, valid: tuple[Any, ...], default: Any) -> Any:
        value = self._values.get(name) or default
        if not isinstance(value, str) or value not in valid:
            raise self._error(name, f"one of {', '.join(valid)}")
        return value

    def _error(self, name: str, expected: str) -> CheckpointError:
        value = self._values[name]
        shown = f"{value!r:.60}" if isinstance(value, (str, int, float)) else type(value).__name__
        return CheckpointError(
            f"{self._path}: its argument {name} is {shown}; it must be {expected}"
        )


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    # New checkpoints store the model's arguments in cfg["model"], old ones in args.
    return record_fields(_section(content, "model")) or record_fields(content.get("args"))


def _section(content: Mapping[str, Any], name: str) -> Any:
    return record_fields(content.get("cfg")).get(name)


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
    found = (shape for name, shape in shapes.items() if form.fullmatch(name) and shape)
    return next((int(shape[0]) for shape in found), 0)


def _heads(arguments: _Arguments, side: Side, model_dim: int, path: Path) -> int:
    heads = arguments.number(f"{side}_attention_heads")
    if not heads and model_dim not in (1024, 2048):
        raise CheckpointError(f"{path} does not define the number of attention heads of its {side}")
    if not abs(heads) <= model_dim:
        raise CheckpointError(
            f"{path} has {heads} attention heads in its {side} with model_dim {model_dim}"
        )
    return int(heads or _NLLB_HEADS)


def _languages(shared: TorchFile) -> list[str] | None:
    content = shared.content
    task = record_fields(_section(content, "task")) or record_fields(content.get("args"))
    languages = task.get("langs")
    if languages is None:
        return None
    if isinstance(languages, str):
        languages = [language.strip() for language in languages.split(",") if language.strip()]
    if isinstance(languages, Record):
        languages = record_items(languages)
    if not isinstance(languages, (list, tuple)) or not all(map(is_plain_name, languages)):
        raise CheckpointError(f"{shared.path}: its argument langs must be a list of language codes")
    return list(languages) or None


def _open_tokenizer(folder: Path, config: ModelConfig, languages: list[str] | None) -> "Tokenizer":
    from nllb.model.tokenizer import Tokenizer

    models = [path for place in (folder, folder.parent) for path in sorted(place.glob("*.model"))]
    if not models:
        raise CheckpointError(
            f"{folder} has no tokenizer: copy the SentencePiece model of the checkpoint "
            f"(sentencepiece.bpe.model) to this directory"
        )
    tokenizer = Tokenizer.build(models[0], languages)
    if tokenizer.layout.size != config.vocabulary_size:
        raise CheckpointError(
            f"{models[0]} and {len(tokenizer.languages)} languages need {tokenizer.layout.size:,} "
            f"rows, but the checkpoint has {config.vocabulary_size:,}; they are from different "
            f"models"
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
                f"SentencePiece model of the same directory; they are from different models"
            )
