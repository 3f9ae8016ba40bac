"""Packs what a GPU needs to train a run further: code, encoder, weights, and pairs.

The matrices of the checkpoint travel as int8 rows with a scale, the encoder as it is stored, but
without the embeddings of pieces that the text lacks. Moments of the optimizer do not travel: Muon's
and Adam's are averages over the last few dozen steps only.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nllb.config import load_config
from nllb.errors import ConfigError
from nllb.io.manifest import Manifest, read_manifest
from nllb.model.configuration import ModelConfig, read_document
from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer
from nllb.model.formats.encoder_directory import RANGE, EncoderDirectory
from nllb.model.formats.hugging_face import CONFIG_FILE, open_tokenizer
from nllb.model.formats.quantized_storage import is_quantizable, quantize_rows
from nllb.model.formats.row_codes import CENTRE, TIER, tensor_names
from nllb.model.transformer import sinusoidal_positions
from nllb.training.checkpoints.checkpoint import find_checkpoint, read_state
from nllb.training.checkpoints.export import CONFIG_NAME, START_DIR
from nllb.training.checkpoints.tensor_files import WEIGHT, TensorReader
from nllb.training.train_config import TrainConfig

from .archive_file import PAYLOAD, SCALE, compress
from .packed_encoder import EMBEDDING
from .text_archive import TextArchive, choose_pairs

CODE = "code"
_PACKAGES = (
    "nllb",
    "nllb/model",
    "nllb/model/formats",
    "nllb/training",
    "tests/bench/gpu_training",
)
_MODULES = (
    "nllb/model/formats/four_bit.py",
    "nllb/model/formats/row_codes.py",
    "nllb/training/muon.py",
    "tests/bench/gpu_train.py",
    "tests/bench/gpu_training/archive_file.py",
    "tests/bench/gpu_training/corpus_sampling.py",
    "tests/bench/gpu_training/gpu_loop.py",
    "tests/bench/gpu_training/output_loss.py",
    "tests/bench/gpu_training/packed_encoder.py",
    "tests/bench/gpu_training/packed_experts.py",
    "tests/bench/gpu_training/packed_model.py",
    "tests/bench/gpu_training/parts.py",
    "tests/bench/gpu_training/placement.py",
    "tests/bench/gpu_training/words.py",
)
_ROOT = Path(__file__).parents[3]
_FIRST_GUESS = 20
"""Bytes that a pair takes in the archive."""


@dataclass(frozen=True, kw_only=True)
class OpenedRun:
    """A training run, at its newest checkpoint."""

    config: TrainConfig
    shape: ModelConfig
    tokenizer: EncoderSourceTokenizer
    manifest: Manifest
    checkpoint: Path

    @classmethod
    def open(cls, folder: Path) -> "OpenedRun":
        """Open the output folder of `nllb train`.

        Raises:
            ConfigError: it is not a run that a GPU can continue in this way.
        """
        checkpoint = find_checkpoint(folder)
        if checkpoint is None:
            raise ConfigError(
                f"{folder} has no checkpoint: name the folder of a training run, such as "
                f"OUT/train of `nllb run mini OUT`"
            )
        run_dir = checkpoint.parent.parent
        config = load_config(TrainConfig, run_dir / CONFIG_NAME)
        shape = ModelConfig.from_hugging_face(read_document(run_dir / START_DIR / CONFIG_FILE))
        for problem in _unsupported(config, shape):
            raise ConfigError(f"{run_dir / CONFIG_NAME}: {problem}")
        return cls(
            config=config,
            shape=shape,
            tokenizer=cast(EncoderSourceTokenizer, open_tokenizer(run_dir / START_DIR, shape)),
            manifest=read_manifest(config.data),
            checkpoint=checkpoint,
        )


def _unsupported(config: TrainConfig, shape: ModelConfig) -> Iterator[str]:
    """Yield what the trainer for a GPU does not support."""
    if not shape.pretrained_layers or config.model.tune_encoder:
        yield "only a decoder on a frozen pretrained encoder can be trained there"
    if shape.dropout or shape.attention_dropout or shape.activation_dropout:
        yield "dropout must be 0 there; only experts' outputs are masked"
    sparse = {shape.is_sparse("decoder", layer) for layer in range(shape.decoder_layers)}
    if len(sparse) > 1 or shape.activation != "relu":
        yield "all layers must be alike there, with relu"
    routing = config.routing
    if True in sparse and (
        (routing.mode, routing.balance_by, routing.second_expert_policy)
        != ("dropless", "loss", "all")
        or routing.final_output_masking
    ):
        yield "routing must be dropless and balanced by the loss there, without further options"
    if config.optimizer.kind != "muon":
        yield "optimizer.kind must be muon there"


def pack(run_dir: Path, folder: Path, *, max_bytes: int, length: int, seed: int) -> dict[str, Any]:
    """Write an archive of at most `max_bytes`, and return figures about it.

    Args:
        run_dir: the output folder of a training run.
        folder: the folder to write; an earlier archive in it is replaced.
        max_bytes: limit of all files together.
        length: positions of a row; longer pairs are left out.
        seed: decides which pairs are carried, so that several archives can differ.

    Raises:
        ConfigError: the run is not suitable, or encoder and weights alone exceed the limit.
    """
    run = OpenedRun.open(run_dir)
    encoder = EncoderDirectory.open(run.tokenizer.encoder_path)
    shutil.rmtree(folder, ignore_errors=True)
    code_bytes = _copy_code(folder / CODE)
    weights = dict(_weights(run))
    first = run.shape.pad_id + 1
    table = sinusoidal_positions(first + length, run.shape.model_dim, pad_id=run.shape.pad_id)
    weights["positions"] = table[first:]
    settings = _settings(run, encoder, length=length, seed=seed)
    fixed = len(compress(settings, weights | _encoder_tensors(encoder, torch.tensor([0]))))
    room = max_bytes - code_bytes - fixed
    wanted = room // _FIRST_GUESS
    while True:
        if wanted < 1:
            raise ConfigError(
                f"code, weights and encoder take {code_bytes + fixed:,} of {max_bytes:,} bytes, "
                f"which leaves no room for text: allow more with --megabytes"
            )
        text = TextArchive(run.manifest, run.tokenizer, length=length)
        for choice in choose_pairs(run.manifest, run.config, wanted, seed=seed):
            text.add(choice)
        tensors, directions = text.tensors()
        used = text.source_ids()
        data = compress(settings | directions, weights | tensors | _encoder_tensors(encoder, used))
        if code_bytes + len(data) <= max_bytes:
            break
        taken = len(data) - fixed
        wanted = min(int(wanted * room / taken * 0.97), wanted - 1)
    (folder / PAYLOAD).write_bytes(data)
    return {
        "bytes": code_bytes + len(data),
        "text_bytes": len(data) - fixed,
        "pairs": text.num_pairs,
        "sentences": text.num_sentences,
        "encoder_rows": len(used),
    }


def _copy_code(folder: Path) -> int:
    """Copy the modules that the GPU's machine needs, and return their bytes."""
    names = [*_MODULES, *(f"{package}/__init__.py" for package in _PACKAGES)]
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_ROOT / name, target)
    return sum((folder / name).stat().st_size for name in names)


def _weights(run: OpenedRun) -> Iterator[tuple[str, Tensor]]:
    reader = TensorReader(run.checkpoint)
    for name in reader.names():
        kind, _, weight = name.partition("/")
        if kind == WEIGHT:
            value = reader.read(name).float()
            if is_quantizable(weight, tuple(value.shape)):
                codes, scale = quantize_rows(value)
                yield f"weight.{weight}", codes
                yield f"weight.{weight}{SCALE}", scale
            else:
                yield f"weight.{weight}", value


def _encoder_tensors(encoder: EncoderDirectory, used: Tensor) -> dict[str, Tensor]:
    """Return the stored tensors of an encoder with the embeddings of some pieces only."""
    names = set(encoder.file.names())
    coded = tensor_names(EMBEDDING, names)
    found = {
        f"encoder.{name}": encoder.file.read(name).clone()
        for name in sorted(names - coded)
        if not name.endswith(RANGE)
    }
    if not coded:
        for name in (EMBEDDING, EMBEDDING + SCALE):
            if name in names:
                found[f"encoder.{name}"] = encoder.file.read(name)[used].clone()
        return found
    tier_V = encoder.file.read(EMBEDDING + TIER)
    found[f"encoder.{EMBEDDING}{CENTRE}"] = encoder.file.read(EMBEDDING + CENTRE).clone()
    found[f"encoder.{EMBEDDING}{TIER}"] = tier_V[used].clone()
    for number in tier_V[used].unique().tolist():
        place_V = (tier_V == number).cumsum(0) - 1
        places = place_V[used[tier_V[used] == number]]
        for part in ("codes", "scale"):
            name = f"{EMBEDDING}.{part}.{number}"
            found[f"encoder.{name}"] = encoder.file.read(name)[places].clone()
        name = f"{EMBEDDING}.levels.{number}"
        found[f"encoder.{name}"] = encoder.file.read(name).clone()
    return found


def _settings(
    run: OpenedRun, encoder: EncoderDirectory, *, length: int, seed: int
) -> dict[str, Any]:
    """Return what the GPU's machine must know besides tensors, as JSON."""
    shape, config = run.shape, run.config
    names = (
        "vocabulary_size", "model_dim", "decoder_layers", "num_experts", "pretrained_layers",
        "memory", "scale_embedding", "expert_output_masking", "pad_id", "eos_id",
    )  # fmt: skip
    optimizer = config.optimizer
    state = read_state(run.checkpoint)
    return {
        "shape": {
            **{name: getattr(shape, name) for name in names},
            "num_experts": shape.num_experts if shape.is_sparse("decoder", 0) else 0,
            "heads": shape.num_heads("decoder"),
            "ffn_dim": shape.ffn_dim("decoder"),
            "label_smoothing": config.label_smoothing,
        },
        "encoder": asdict(encoder.config),
        "length": length,
        "seed": seed,
        "join": config.reader.join,
        "max_length": min(config.reader.max_length, length, encoder.config.max_positions),
        "balance_weight": config.routing.balance_weight,
        "temperature": config.reader.temperature or run.manifest.temperature,
        "optimizer": json.loads(optimizer.model_dump_json()),
        "step": state.step,
        "tokens": state.tokens,
        "made_by": state.made_by,
    }
