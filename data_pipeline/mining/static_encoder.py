"""The embedded encoder: the sum of one trained vector for each hashed feature of a sentence.

Frequent features own a row of the table; all others share the remaining rows by hash. A row is 4
bits a value with one scale, so 48,000 rows of 320 values are 8 MB. There is no network to run: a
thousand sentences take about a tenth of a second of one core.
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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from data_pipeline.mining.encoders import Vectors, check_finite
from data_pipeline.mining.features import extract, mix
from nllb.errors import CheckpointError
from nllb.textio import atomic_path

FILE_NAME: Final = "encoder.safetensors"
FEATURE_BITS: Final = 24
FORMAT: Final = "nllb-static-encoder-1"
_BATCH: Final = 2048
_LEVELS: Final = 16
# Multiples of a row's root mean square that are tried as the distance of two levels.
_STEPS: Final = (0.26, 0.29, 0.32, 0.335, 0.35, 0.38)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureTable:
    """Which row of the table each feature has."""

    owners: NDArray[numpy.int32]
    """Features, as 24-bit numbers, that own the first rows; ascending."""
    num_rows: int
    """Rows of the table."""

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


def sum_rows(table: Tensor, rows: Any, counts: Any) -> Tensor:
    """Return for each sentence the sum of its rows, which stand one sentence after the other."""
    starts = torch.from_numpy(numpy.cumsum(counts) - counts)
    return functional.embedding_bag(
        torch.from_numpy(rows.astype(numpy.int64)), table, starts, mode="sum"
    )


class StaticEncoder:
    """A table of vectors, summed over the features of a sentence."""

    def __init__(
        self, *, name: str, key: str, table: Tensor, features: FeatureTable, card: dict[str, Any]
    ) -> None:
        self.name, self.key, self.card = name, key, card
        self.dimension = int(table.shape[1])
        self.table, self.features = table, features
        self._rows = features.rows()

    def encode(self, sentences: Sequence[str], language: str = "") -> Vectors:
        """Return the vectors; `language` changes nothing, the text tells."""
        vectors = numpy.zeros((len(sentences), self.dimension), numpy.float32)
        for start in range(0, len(sentences), _BATCH):
            batch = sentences[start : start + _BATCH]
            features = extract(batch)
            counts = numpy.bincount(features.sentence, minlength=len(batch))
            rows = self._rows[feature_numbers(features.key)]
            with torch.inference_mode():
                found = sum_rows(self.table, rows, counts).numpy()
            vectors[start : start + len(batch)] = found
        check_finite(vectors, self.name)
        return vectors

    @classmethod
    def load(cls, directory: Path) -> "StaticEncoder":
        """Read an encoder.

        Raises:
            CheckpointError: where the file is missing, damaged, or of another kind.
        """
        path = directory / FILE_NAME
        try:
            with safe_open(path, framework="pt") as file:
                card = json.loads((file.metadata() or {}).get("card", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except FileNotFoundError:
            raise CheckpointError(
                f"no {FILE_NAME} in {directory}; give the folder that "
                "`nllb data train-encoder` wrote"
            ) from None
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{path}: damaged or cut short: {error}") from None
        if card.get("format") != FORMAT or {"values", "steps", "owners"} - tensors.keys():
            raise CheckpointError(
                f"{path}: not an encoder of format {FORMAT}; it says {card.get('format')!r}"
            )
        table = unpack(tensors["values"], tensors["steps"])
        owners = tensors["owners"].numpy()
        if len(owners) >= len(table) or not bool(torch.isfinite(table).all()):
            raise CheckpointError(f"{path}: features and rows do not belong together")
        return cls(
            name=str(card.get("name", directory.name)),
            key=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
            table=table,
            features=FeatureTable(owners=owners, num_rows=len(table)),
            card=card,
        )


def save_encoder(
    directory: Path, *, table: Tensor, owners: NDArray[numpy.int32], card: dict[str, Any]
) -> Path:
    """Write an encoder with its values in 4 bits and return the file."""
    values, steps = pack(table)
    tensors = {"values": values, "steps": steps, "owners": torch.from_numpy(owners.copy())}
    path = directory / FILE_NAME
    metadata = {"card": json.dumps({"format": FORMAT, **card}, ensure_ascii=False)}
    with atomic_path(path) as beside:
        save_file(tensors, beside, metadata=metadata)
    return path


def pack(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values in 4 bits, two a byte, and the step of each row."""
    table = table.float()
    size = table.square().mean(1).sqrt().clamp(min=1e-8)
    best = torch.full((len(table),), torch.inf)
    steps = torch.zeros(len(table))
    for multiple in _STEPS:
        step = (size * multiple).half().float()
        error = (_levels(table, step) - table).square().sum(1)
        better = error < best
        best, steps = torch.where(better, error, best), torch.where(better, step, steps)
    numbers = _numbers(table, steps)
    return numbers[:, 0::2] | (numbers[:, 1::2] << 4), steps.half()


def unpack(values: Tensor, steps: Tensor) -> Tensor:
    """Return the table of 32-bit floats."""
    numbers = torch.stack([values & 15, values >> 4], dim=2).flatten(1)
    table: Tensor = (numbers.float() - (_LEVELS - 1) / 2) * steps.float()[:, None]
    return table


def _numbers(table: Tensor, steps: Tensor) -> Tensor:
    middle = (_LEVELS - 1) / 2
    numbers: Tensor = (table / steps[:, None] + middle).round().clamp(0, _LEVELS - 1)
    return numbers.to(torch.uint8)


def _levels(table: Tensor, steps: Tensor) -> Tensor:
    return (_numbers(table, steps).float() - (_LEVELS - 1) / 2) * steps[:, None]
