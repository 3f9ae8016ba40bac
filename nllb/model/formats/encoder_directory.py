"""A pretrained encoder on disk, which is validated before memory is allocated for it.

`config.json` has the names of transformers' `BertConfig`; `model.safetensors` has our own names. A
matrix is stored in a floating-point type or as 4-bit blocks (`four_bit.py`), and the embedding may
also be stored in tiers of few bits (`row_codes.py`). `nllb.json` contains the origin, the licence
and the SHA-256 of the other files, which are verified when the directory is opened.

Next to the weights, the file may contain input ranges: the largest magnitude of each input channel
of `layers.N.query` and `layers.N.inner` on sample text. int8 engines use them to equalize the
channels.

An encoder for sentence vectors may have a `sentence_space.safetensors` with the common directions
that are removed from its vectors (`sentence_space.py`).
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final, Self

import torch
from safetensors.torch import save_file
from torch import Tensor

from nllb.errors import CheckpointError
from nllb.io.atomic import atomic_path
from nllb.io.pointers import refuse_pointer
from nllb.io.records import to_record
from nllb.io.text import write_json
from nllb.model.configuration import read_document
from nllb.model.encoder_normalization import CharacterMap
from nllb.model.encoder_tokenizer import (
    NORMALIZATION_FILE,
    TOKENIZER_FILE,
    EncoderTokenizer,
    write_tokenizer,
)
from nllb.model.pretrained_encoder import EncoderConfig, PretrainedEncoder, list_encoder_weights
from nllb.model.sentence_space import SentenceSpace

from .four_bit import dequantize_blocks, four_bit_shapes
from .row_codes import CodedTable, find_error, tensor_names
from .safetensors_files import SafetensorsFile
from .sentence_space_file import SENTENCE_SPACE_FILE, read_sentence_space, write_sentence_space
from .settings import SETTINGS_FILE, read_settings
from .weight_checks import check_finite
from .weights import SCALE
from .write_errors import library_write_errors

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
_HASHED_FILES: Final = (
    CONFIG_FILE,
    TOKENIZER_FILE,
    NORMALIZATION_FILE,
    WEIGHTS_FILE,
    SENTENCE_SPACE_FILE,
)
_EMBEDDING: Final = "embedding.weight"
RANGE: Final = ".input_range"
"""Suffix of input ranges: `layers.0.query.input_range` belongs to `layers.0.query`."""
_MODEL_TYPE: Final = "bert"
_CONFIG_NAMES: Final = {
    "vocabulary_size": "vocab_size",
    "model_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "ffn_dim": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "num_token_types": "type_vocab_size",
    "norm_epsilon": "layer_norm_eps",
    "bos_id": "bos_token_id",
    "pad_id": "pad_token_id",
    "eos_id": "eos_token_id",
    "unk_id": "unk_token_id",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingTable:
    """The embedding of the vocabulary, whose rows are dequantized on request.

    Attributes:
        stored: the matrix in a floating-point type, or its 4-bit blocks, in the memory-mapped file.
        scale: the scales of the 4-bit blocks, or None.
    """

    stored: Tensor
    scale: Tensor | None

    def rows(self, ids: Tensor) -> Tensor:
        """Return rows as float32; the ids must be within the vocabulary."""
        if self.scale is None:
            return self.stored[ids].float()
        return dequantize_blocks(self.stored[ids], self.scale[ids])


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderDirectory:
    """An opened encoder, whose weights are read and dequantized on request.

    Attributes:
        path: the directory.
        config: the encoder's shape.
        settings: the content of `nllb.json`; empty if the file does not exist.
        file: the file of the weights.
    """

    path: Path
    config: EncoderConfig
    settings: Mapping[str, Any]
    file: SafetensorsFile

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a directory and validate everything except the values of the matrices.

        Raises:
            CheckpointError: the directory is not an encoder, is incomplete or damaged, or contains
                a file that differs from its hash in `nllb.json` or weights that are not finite.
        """
        config = read_encoder_config(path / CONFIG_FILE)
        settings = read_settings(path)
        _check_hashes(path, settings.get("files", {}))
        directory = cls(
            path=path,
            config=config,
            settings=settings,
            file=SafetensorsFile(path / WEIGHTS_FILE),
        )
        directory._check_weights()
        return directory

    def tokenizer(self) -> EncoderTokenizer:
        """Open the tokenizer.

        Raises:
            CheckpointError: it is missing, damaged, or does not match the vocabulary.
        """
        return EncoderTokenizer.open(self.path, self.config)

    def sentence_space(self) -> SentenceSpace | None:
        """Return the common directions of the sentence vectors; None where they are unknown.

        Raises:
            CheckpointError: the file is damaged.
        """
        return read_sentence_space(self.path, self.config.model_dim)

    def read(self, name: str) -> Tensor:
        """Return a copy of a weight as float32."""
        if name == _EMBEDDING and tensor_names(name, self.file.names()):
            return self.embedding().rows(torch.arange(self.config.vocabulary_size))
        stored = self.file.read(name)
        if name + SCALE in self.file.names():
            return dequantize_blocks(stored, self.file.read(name + SCALE))
        return stored.to(torch.float32, copy=True)

    def embedding(self) -> EmbeddingTable | CodedTable:
        """Return the embedding as it is stored."""
        if tensor_names(_EMBEDDING, self.file.names()):
            return CodedTable.read(_EMBEDDING, self.file.read)
        has_scale = _EMBEDDING + SCALE in self.file.names()
        return EmbeddingTable(
            stored=self.file.read(_EMBEDDING),
            scale=self.file.read(_EMBEDDING + SCALE) if has_scale else None,
        )

    def input_range(self, name: str) -> Tensor | None:
        """Return the input ranges of a matrix, such as `layers.0.query`, if the file has them."""
        return self.file.read(name + RANGE) if name + RANGE in self.file.names() else None

    def load(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> PretrainedEncoder:
        """Load the encoder as a torch module, for evaluation."""
        with torch.device("meta"):
            encoder = PretrainedEncoder(self.config)
        state = {name: self.read(name).to(device, dtype) for name in encoder.state_dict()}
        encoder.load_state_dict(state, assign=True)
        return encoder.eval()

    def _check_weights(self) -> None:
        names, wrong = set(self.file.names()), []
        for weight in list_encoder_weights(self.config):
            coded = tensor_names(weight.name, names) if weight.name == _EMBEDDING else set()
            if coded:
                tensors = {name: self.file.read(name) for name in coded}
                error = find_error(weight.name, weight.shape, tensors)
                wrong += [error] if error else []
                names -= coded
                continue
            if weight.name not in names:
                raise CheckpointError(
                    f"{self.path} lacks the weight {weight.name}; it is incomplete, or its "
                    f"{CONFIG_FILE} belongs to another encoder"
                )
            wrong += self._unusable(weight.name, weight.shape)
            names -= {weight.name, weight.name + SCALE}
        width = (self.config.model_dim,)
        for name in [name for name in names if name.endswith((".query" + RANGE, ".inner" + RANGE))]:
            names.remove(name)
            if self.file.shape(name) != width or self.file.dtype(name) != torch.float32:
                wrong.append(f"{name} is {self.file.shape(name)}, not {width} of float32")
        wrong += [f"{name} is not one of its weights" for name in sorted(names)]
        if wrong:
            raise CheckpointError(
                f"{self.path / WEIGHTS_FILE} does not match {CONFIG_FILE}: "
                f"{'; '.join(wrong[:3])}"
                + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
            )
        for name in self.file.names():
            if self.file.dtype(name).is_floating_point:
                check_finite(self.file.read(name), f"{name} of {self.path}")

    def _unusable(self, name: str, shape: tuple[int, ...]) -> list[str]:
        """Return the reasons why a stored tensor cannot be used as the weight."""
        found, dtype = self.file.shape(name), self.file.dtype(name)
        if name + SCALE not in self.file.names():
            if found == shape and dtype.is_floating_point:
                return []
            return [f"{name} is {found} of {dtype}, not {shape} of a floating-point type"]
        scale, scale_dtype = self.file.shape(name + SCALE), self.file.dtype(name + SCALE)
        try:
            expected = four_bit_shapes(shape)
        except ValueError as error:
            return [f"{name} cannot be in 4-bit blocks: {error}"]
        if (found, scale) == expected and (dtype, scale_dtype) == (torch.uint8, torch.float16):
            return []
        return [
            f"{name} is {found} of {dtype} with scales {scale} of {scale_dtype}, not 4-bit blocks "
            f"of {shape}"
        ]


def read_encoder_config(path: Path) -> EncoderConfig:
    """Read a `config.json`.

    Raises:
        CheckpointError: the file is missing or damaged, or describes another kind of model.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.parent} is not a pretrained encoder: {path.name} is missing")
    values = read_document(path)
    if values.get("model_type") != _MODEL_TYPE or values.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(
            f"{path} describes a model of type {str(values.get('model_type'))[:40]!r} with the "
            f"activation {str(values.get('hidden_act'))[:40]!r}; pretrained encoders are of type "
            f"{_MODEL_TYPE!r} with 'gelu'"
        )
    known = {ours: values[theirs] for ours, theirs in _CONFIG_NAMES.items() if theirs in values}
    return to_record(EncoderConfig, known, path, error=CheckpointError).check(path)


def write_encoder(
    path: Path,
    config: EncoderConfig,
    tensors: Mapping[str, Tensor],
    pieces: list[tuple[str, float]],
    characters: CharacterMap,
    *,
    space: SentenceSpace | None = None,
    settings: Mapping[str, Any],
) -> None:
    """Write a directory; `tensors` are stored as given, and `nllb.json` is written last."""
    path.mkdir(parents=True, exist_ok=True)
    document = {theirs: getattr(config, ours) for ours, theirs in _CONFIG_NAMES.items()}
    fixed = {"architectures": ["BertModel"], "model_type": _MODEL_TYPE, "hidden_act": "gelu"}
    write_json(path / CONFIG_FILE, fixed | document)
    write_tokenizer(path, pieces, characters, config)
    with atomic_path(path / WEIGHTS_FILE) as beside, library_write_errors():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside)
    if space is not None:
        write_sentence_space(path, space)
    write_json(path / SETTINGS_FILE, {**settings, "files": _hashes(path)})


def write_tuned_encoder(
    path: Path,
    before: EncoderDirectory,
    read: Callable[[str], Tensor],
    *,
    space: SentenceSpace | None = None,
) -> None:
    """Write an encoder whose layers were trained further.

    Args:
        path: the new directory.
        before: the encoder that training began with; all but the layers is copied from it.
        read: returns a weight of the layers by its name. They are stored as float16.
        space: common directions of the new sentence vectors; None if they are unknown.
    """
    path.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name in before.file.names():
        is_trained = name.startswith("layers.") and not name.endswith((SCALE, RANGE))
        if is_trained:
            tensors[name] = read(name).to(torch.float16)
        elif not (name.startswith("layers.") and name.endswith(SCALE)):
            tensors[name] = before.file.read(name).clone()
    for name in (CONFIG_FILE, TOKENIZER_FILE, NORMALIZATION_FILE):
        shutil.copyfile(before.path / name, path / name)
    if (before.path / "LICENSE").is_file():
        shutil.copyfile(before.path / "LICENSE", path / "LICENSE")
    with atomic_path(path / WEIGHTS_FILE) as beside, library_write_errors():
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside)
    if space is not None:
        write_sentence_space(path, space)
    kept = {key: before.settings[key] for key in ("licence", "source") if key in before.settings}
    write_json(path / SETTINGS_FILE, {**kept, "files": _hashes(path)})


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def _hashes(path: Path) -> dict[str, str]:
    return {name: file_sha256(path / name) for name in _HASHED_FILES if (path / name).is_file()}


def _check_hashes(path: Path, hashes: Any) -> None:
    if not isinstance(hashes, dict) or not hashes.keys() <= set(_HASHED_FILES):
        raise CheckpointError(
            f"{path / SETTINGS_FILE}: only {', '.join(_HASHED_FILES)} may have hashes"
        )
    for name, expected in hashes.items():
        refuse_pointer(path / name)
        found = file_sha256(path / name)
        if found != expected:
            raise CheckpointError(
                f"{path / name} is not the file that {SETTINGS_FILE} names: its SHA-256 is "
                f"{found[:16]}..., not {str(expected)[:16]}...; install or convert the encoder "
                f"again"
            )
