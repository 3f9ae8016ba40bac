"""The files of deduplication: sorted runs of hashes, and lists of rows to drop."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.io.atomic import atomic_path

ROW: Final = numpy.dtype("<u4")
WORD: Final = numpy.dtype("<u8")
SCORE: Final = numpy.dtype("<f4")


def write_hash_run(
    path: Path, hashes: NDArray[numpy.uint64], rows: NDArray[Any], scores: NDArray[Any]
) -> None:
    """Atomically write sorted hashes of shape (rows, words) with their rows and scores."""
    header = [len(rows), 64 * hashes.shape[1], len(scores)]
    with atomic_path(path) as beside, beside.open("wb") as stream:
        stream.write(numpy.array(header, dtype=WORD).tobytes())
        stream.write(hashes.astype(WORD).tobytes())
        stream.write(rows.astype(ROW).tobytes())
        stream.write(scores.astype(SCORE).tobytes())


class HashRun:
    """A memory-mapped file of sorted hashes."""

    def __init__(self, path: Path) -> None:
        try:
            raw = numpy.memmap(path, mode="r", dtype=numpy.uint8)
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot read the run {path}: {error}; remove it and run again"
            ) from None
        count, bits, num_scores = (int(value) for value in raw[:24].view(WORD))
        width = bits // 64
        rows_at = 24 + count * width * 8
        scores_at = rows_at + count * 4
        if len(raw) != scores_at + num_scores * 4:
            raise DataError(f"the run {path} is damaged; remove it and run again")
        self.hashes = raw[24:rows_at].view(WORD).reshape(count, width)
        self.rows = raw[rows_at:scores_at].view(ROW)
        self.scores = raw[scores_at:].view(SCORE)

    def range(self, number: int, of: int) -> slice:
        """Return the positions of the hashes in range `number` of `of` equal ranges."""
        step = (1 << 64) // of
        first = self.hashes[:, 0]
        start = int(numpy.searchsorted(first, numpy.uint64(number * step)))
        if number + 1 == of:
            return slice(start, len(first))
        return slice(start, int(numpy.searchsorted(first, numpy.uint64((number + 1) * step))))


class Duplicates:
    """The rows to drop, grouped by block; the file contains offsets (u64), then rows (u32)."""

    def __init__(self, path: Path) -> None:
        raw = numpy.memmap(path, mode="r", dtype=numpy.uint8)
        num_blocks = int(raw[:8].view(WORD)[0])
        self._offsets = raw[8 : 8 + (num_blocks + 1) * 8].view(WORD)
        self._rows = raw[8 + (num_blocks + 1) * 8 :].view(ROW)

    def rows_of_block(self, number: int) -> NDArray[numpy.uint32]:
        """Return the dropped rows of a block in ascending order."""
        return self._rows[int(self._offsets[number]) : int(self._offsets[number + 1])]

    @staticmethod
    def write(
        path: Path, blocks: NDArray[numpy.uint32], rows: NDArray[numpy.uint32], num_blocks: int
    ) -> None:
        """Write the rows to drop, atomically."""
        order = numpy.lexsort([rows, blocks])
        offsets = numpy.zeros(num_blocks + 1, dtype=WORD)
        numpy.cumsum(numpy.bincount(blocks, minlength=num_blocks), out=offsets[1:])
        with atomic_path(path) as beside, beside.open("wb") as stream:
            stream.write(numpy.array([num_blocks], dtype=WORD).tobytes())
            stream.write(offsets.tobytes())
            stream.write(rows[order].astype(ROW).tobytes())


@lru_cache(maxsize=1024)
def duplicates(path: Path) -> Duplicates:
    """Memory-map a file of duplicates."""
    return Duplicates(path)
