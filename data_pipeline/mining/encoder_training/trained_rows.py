"""The rows of a table during training: rows of each sentence, and Adagrad steps on used rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from nllb.io.progress import Progress

from ..encoders.features import extract
from ..encoders.static_encoder import feature_numbers

_EXTRACTED_AT_ONCE: Final = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceRows:
    """All sentences as rows of a table, concatenated."""

    rows: NDArray[numpy.uint16] | NDArray[numpy.int32]
    """Row of each feature."""
    bounds: NDArray[numpy.int64]
    """Start of each sentence, and the end of the last one."""

    def of(self, sentences: NDArray[Any]) -> tuple[NDArray[Any], NDArray[numpy.int64]]:
        """Return the rows of the given sentences, and the position of each row's sentence."""
        counts = self.bounds[sentences + 1] - self.bounds[sentences]
        ends = numpy.cumsum(counts)
        within = numpy.arange(ends[-1]) - numpy.repeat(ends - counts, counts)
        rows = self.rows[within + numpy.repeat(self.bounds[sentences], counts)]
        return rows, numpy.repeat(numpy.arange(len(sentences)), counts)


class TrainedRows:
    """A table that is trained by row-wise Adagrad, which stores one accumulator per row."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.squares = torch.zeros(len(values))
        self._local = numpy.zeros(len(values), numpy.int64)

    def gather(self, rows: NDArray[Any]) -> tuple[Tensor, NDArray[numpy.int64]]:
        """Return the distinct rows, and the index of each given row among them."""
        self._local[rows] = 1
        used = numpy.flatnonzero(self._local)
        self._local[used] = numpy.arange(len(used))
        places = self._local[rows]
        self._local[used] = 0
        return torch.from_numpy(used), places

    def step(self, chosen: Tensor, gradient: Tensor, rate: float) -> None:
        """Update the chosen rows; `gradient` is overwritten."""
        squares = torch.linalg.vector_norm(gradient, dim=1).square_() / gradient.shape[1]
        squares += self.squares[chosen]
        self.squares[chosen] = squares
        self.values.index_add_(0, chosen, gradient.mul_(-rate / (squares.sqrt() + 1e-10)[:, None]))


def extract_numbers(
    sentences: Sequence[str], *, quiet: bool = False
) -> Iterator[tuple[NDArray[numpy.int32], NDArray[numpy.int64]]]:
    """Yield the 24-bit features of the sentences in batches, and the number per sentence."""
    with Progress("features", total=len(sentences), unit="sentences", quiet=quiet) as progress:
        for start in range(0, len(sentences), _EXTRACTED_AT_ONCE):
            batch = sentences[start : start + _EXTRACTED_AT_ONCE]
            found = extract(batch)
            counts = numpy.bincount(found.sentence, minlength=len(batch))
            yield feature_numbers(found.key).astype(numpy.int32), counts
            progress.advance(len(batch))


def join_rows(
    parts: Sequence[NDArray[Any]], counts: Sequence[NDArray[numpy.int64]]
) -> SentenceRows:
    """Return the concatenation of parts, given the number of rows per sentence."""
    ends = numpy.cumsum(numpy.concatenate(counts))
    return SentenceRows(rows=numpy.concatenate(parts), bounds=numpy.concatenate([[0], ends]))
