"""Vectors of sentences on disk, as memory-mapped 16-bit floats.

The vectors of a block of sentences are stored in `<block>.<key>.npy`. The key is a hash of the
encoder, the language and the sentences, so a file that exists is up to date, and files of another
encoder are never read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from nllb.config.fingerprints import fingerprint
from nllb.errors import DataError
from nllb.io.arrays import load_array
from nllb.io.atomic import atomic_path

from .encoders.encoder import Encoder, check_vectors
from .sentences import read_block

MAX_HALF = 60_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingTask:
    """Encode one block of sentences of one language."""

    language: str
    """Language code."""
    text: Path
    """File of the language's sentences."""
    number: int
    """Number of the block."""
    digest: str
    """Hash of the block's sentences."""
    encoder_key: str
    """Key of the encoder."""
    directory: Path
    """Folder of the vectors."""

    @property
    def key(self) -> str:
        """Hash of everything that the vectors depend on."""
        return fingerprint(self.encoder_key, self.language, self.digest)

    @property
    def output(self) -> Path:
        """File of the vectors."""
        return self.directory / self.language / f"{self.number:06d}.{self.key}.npy"


def embed(task: EmbeddingTask, encoder: Encoder) -> None:
    """Write the vectors of a block atomically.

    Raises:
        DataError: if the encoder returns vectors of another shape, or NaN or infinity.
    """
    sentences = read_block(task.text, task.number)
    vectors = encoder.encode(sentences, task.language)
    check_vectors(vectors, len(sentences), encoder)
    # Only directions matter, so vectors that are too large for 16 bits are scaled down.
    largest = numpy.abs(vectors).max(axis=1, keepdims=True, initial=0)
    vectors = numpy.where(largest > MAX_HALF, vectors / numpy.maximum(largest, 1), vectors)
    with atomic_path(task.output) as beside, beside.open("wb") as stream:
        numpy.save(stream, vectors.astype(numpy.float16))


class StoredVectors:
    """The vectors of a language's blocks as one array that is read on access."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._parts = [_open(path) for path in paths]
        self._bounds = numpy.cumsum([0, *(len(part) for part in self._parts)])
        widths = {part.shape[1] for part in self._parts if len(part)}
        if len(widths) > 1:
            raise DataError(
                f"{paths[0].parent}: vectors of different dimensions ({sorted(widths)}); remove "
                "the folder and run again"
            )
        self.shape = (int(self._bounds[-1]), widths.pop() if widths else 0)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[Any]) -> NDArray[numpy.float16]:
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            pieces = [
                part[max(first - start, 0) : max(last - start, 0)]
                for part, (start, end) in zip(self._parts, pairwise(self._bounds), strict=True)
                if start < last and first < end
            ]
            empty = numpy.zeros((0, self.shape[1]), numpy.float16)
            return numpy.concatenate([empty, *pieces])
        found = numpy.zeros((len(rows), self.shape[1]), numpy.float16)
        owner = numpy.searchsorted(self._bounds, rows, side="right") - 1
        for number in numpy.unique(owner).tolist():
            chosen = owner == number
            found[chosen] = self._parts[number][rows[chosen] - self._bounds[number]]
        return found


def _open(path: Path) -> NDArray[numpy.float16]:
    vectors: NDArray[numpy.float16] = load_array(path)
    if vectors.ndim != 2:
        raise DataError(
            f"{path}: expected an array of 2 dimensions, got {vectors.ndim}; remove it and run "
            "again"
        )
    return vectors
