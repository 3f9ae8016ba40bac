"""The static encoder: a sentence vector is the sum of one trained vector per hashed feature.

Each frequent feature has its own row in the table; the other features share the remaining rows by
hash. A row stores a few bits per value and one scale: with 2 bits, 112,000 rows of 256 values take
8 MB. There is no network to run: a thousand sentences take about 0.1 s on one core.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from nllb.errors import CheckpointError, DataError
from nllb.io.atomic import atomic_path
from nllb.io.paths import path_inside
from nllb.io.text import parse_json
from nllb.model.formats.safetensors_files import SafetensorsFile
from nllb.model.formats.write_errors import library_write_errors

from .encoder import Vectors, check_finite
from .features import extract, mix

FILE_NAME: Final = "encoder.safetensors"
FEATURE_BITS: Final = 24
FORMAT: Final = "nllb-static-encoder-1"
_TENSORS: Final = ("values", "steps", "owners")
_BATCH: Final = 2048
# Distance between quantization levels as a multiple of a row's root mean square; optimal for
# normally distributed values.
_STEPS: Final = {1: 1.596, 2: 0.9957, 4: 0.335}


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureTable:
    """The assignment of features to rows of the table."""

    owners: NDArray[numpy.int32]
    """24-bit numbers of the features that have their own row, ascending; their rows come first."""
    num_rows: int
    """Number of rows in the table."""

    def rows(self) -> NDArray[numpy.int32]:
        """Return the row of each of the 2^24 features."""
        shared = self.num_rows - len(self.owners)
        features = numpy.arange(1 << FEATURE_BITS, dtype=numpy.uint64)
        rows = (len(self.owners) + mix(features) % numpy.uint64(shared)).astype(numpy.int32)
        rows[self.owners] = numpy.arange(len(self.owners), dtype=numpy.int32)
        return rows


def feature_numbers(keys: NDArray[numpy.uint64]) -> NDArray[numpy.int64]:
    """Return the 24-bit numbers of features."""
    return (keys >> numpy.uint64(64 - FEATURE_BITS)).astype(numpy.int64)


def rows_of(
    sentences: Sequence[str], rows: NDArray[numpy.int32]
) -> tuple[NDArray[numpy.int32], NDArray[numpy.int64]]:
    """Return the rows of all features, sentence by sentence, and the number of rows per sentence.

    Args:
        sentences: the sentences.
        rows: row of each of the 2^24 features.
    """
    features = extract(sentences)
    counts = numpy.bincount(features.sentence, minlength=len(sentences))
    return rows[feature_numbers(features.key)], counts


def sum_rows(table: Tensor, rows: Any, counts: Any) -> Tensor:
    """Return the sum of the rows of each sentence, given the output of `rows_of`."""
    starts = torch.from_numpy(numpy.cumsum(counts) - counts)
    return functional.embedding_bag(
        torch.from_numpy(rows.astype(numpy.int64)), table, starts, mode="sum"
    )


class StaticEncoder:
    """A table of vectors that are summed over the features of a sentence.

    Attributes:
        name: name of the encoder.
        key: hash of its file.
        dimension: length of a vector.
        card: licence, sources, calibration and scores.
    """

    def __init__(
        self, *, name: str, key: str, table: Tensor, features: FeatureTable, card: dict[str, Any]
    ) -> None:
        self.name, self.key, self.card = name, key, card
        self.bits = int(card.get("bits", 4))
        self.dimension = int(table.shape[1])
        self.table, self.features = table, features
        self._rows = features.rows()

    def encode(self, sentences: Sequence[str], language: str = "") -> Vectors:
        """Return the vectors of sentences; `language` is ignored."""
        vectors = numpy.zeros((len(sentences), self.dimension), numpy.float32)
        for start in range(0, len(sentences), _BATCH):
            batch = sentences[start : start + _BATCH]
            rows, counts = rows_of(batch, self._rows)
            with torch.inference_mode():
                found = sum_rows(self.table, rows, counts).numpy()
            vectors[start : start + len(batch)] = found
        check_finite(vectors, self.name)
        return vectors

    @classmethod
    def load(cls, directory: Path) -> "StaticEncoder":
        """Read an encoder from its folder.

        Raises:
            CheckpointError: if the file is missing, damaged or of another kind.
        """
        path = directory / FILE_NAME
        if not path.is_file():
            raise CheckpointError(
                f"{directory} does not contain {FILE_NAME}; give the folder that "
                "`nllb data train-encoder` wrote"
            )
        file = SafetensorsFile(path_inside(directory, FILE_NAME))
        card = _read_card(file)
        bits = card.get("bits", 4)
        tensors = {name: file.read(name) for name in _TENSORS}
        table = unpack(tensors["values"], tensors["steps"], bits)
        owners = tensors["owners"].numpy()
        known = len(owners) == 0 or 0 <= owners.min() <= owners.max() < 1 << FEATURE_BITS
        if not known or len(owners) >= len(table) or not bool(torch.isfinite(table).all()):
            raise CheckpointError(f"{path}: the features and the rows do not match")
        return cls(
            name=str(card.get("name", directory.name)),
            key=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
            table=table,
            features=FeatureTable(owners=owners, num_rows=len(table)),
            card=card,
        )


def _read_card(file: SafetensorsFile) -> dict[str, Any]:
    """Return the card of an encoder, after checking that the tensors match it."""
    try:
        card: Any = parse_json(file.metadata.get("card", "{}"), file.path)
    except DataError as error:
        raise CheckpointError(str(error)) from None
    card = card if isinstance(card, dict) else {}
    form = card.get("format")
    if form != FORMAT or set(_TENSORS) - file.names():
        raise CheckpointError(
            f"{file.path}: not an encoder of format {FORMAT}; its format is {repr(form)[:40]}"
        )
    bits = card.get("bits", 4)
    if type(bits) is not int or bits not in _STEPS:
        raise CheckpointError(
            f"{file.path}: {repr(bits)[:40]} bits per value; valid are 1, 2 and 4"
        )
    shapes = [file.shape(name) for name in _TENSORS]
    types = [file.dtype(name) for name in _TENSORS]
    if list(map(len, shapes)) != [2, 1, 1] or shapes[0][0] != shapes[1][0] or not shapes[0][1]:
        raise CheckpointError(f"{file.path} is damaged: its tensors have shapes {shapes}")
    if types != [torch.uint8, torch.float16, torch.int32]:
        raise CheckpointError(f"{file.path} is damaged: its tensors have types {types}")
    return dict(card)


def save_encoder(
    directory: Path,
    *,
    table: Tensor,
    owners: NDArray[numpy.int32],
    card: dict[str, Any],
    bits: int = 4,
) -> Path:
    """Write an encoder, quantized to `bits` per value, and return the path of its file."""
    values, steps = pack(table, bits)
    tensors = {"values": values, "steps": steps, "owners": torch.from_numpy(owners.copy())}
    path = directory / FILE_NAME
    metadata = {"card": json.dumps({"format": FORMAT, "bits": bits, **card}, ensure_ascii=False)}
    with atomic_path(path) as beside, library_write_errors():
        save_file(tensors, beside, metadata=metadata)
        _read_card(SafetensorsFile(beside))
    return path


def rounded(table: Tensor, bits: int) -> Tensor:
    """Return the table with each value rounded to the nearest of the 2^bits levels of its row."""
    steps = _steps(table, bits)
    levels: Tensor = (_numbers(table, steps, bits) - _middle(bits)) * steps[:, None]
    return levels


def pack(table: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return the quantized values, packed from the lowest bits up, and the step of each row."""
    steps = _steps(table.float(), bits).half()
    numbers = _numbers(table.float(), steps.float(), bits).to(torch.uint8)
    each = 8 // bits
    packed = numbers[:, 0::each].clone()
    for place in range(1, each):
        packed |= numbers[:, place::each] << (place * bits)
    return packed, steps


def unpack(values: Tensor, steps: Tensor, bits: int) -> Tensor:
    """Return the table as 32-bit floats."""
    places = torch.arange(8 // bits, dtype=torch.uint8) * bits
    numbers = (values[:, :, None] >> places) & ((1 << bits) - 1)
    table: Tensor = (numbers.flatten(1).float() - _middle(bits)) * steps.float()[:, None]
    return table


def _steps(table: Tensor, bits: int) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(table, dim=1) / table.shape[1] ** 0.5
    return size.clamp(min=1e-6) * _STEPS[bits]


def _numbers(table: Tensor, steps: Tensor, bits: int) -> Tensor:
    numbers: Tensor = (table / steps[:, None]).add_(_middle(bits)).round_()
    return numbers.clamp_(0, (1 << bits) - 1)


def _middle(bits: int) -> float:
    return ((1 << bits) - 1) / 2
