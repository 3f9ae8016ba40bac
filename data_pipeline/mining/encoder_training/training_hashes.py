"""Hashes of every sentence that an encoder was trained on, to prove that others were not used.

The file contains the first 44 bits of each 64-bit hash, sorted, delta-encoded and compressed. A
sentence that was not in the training text is reported with a probability of one in ten million.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.io.atomic import atomic_binary
from nllb.io.benchmarks import sentence_hash
from nllb.io.compression import open_binary

HASHES: Final = "training_hashes.bin.zst"
"""Name of the file next to an encoder."""
_BITS: Final = 44
_SHIFT: Final = numpy.uint64(64 - _BITS)


def write_hashes(path: Path, sentences: Iterable[str], earlier: Path | None = None) -> int:
    """Write the hashes of sentences and those of an earlier file; return the number of hashes."""
    hashes = numpy.unique(_hashes(sentences))
    if earlier is not None:
        hashes = numpy.union1d(hashes, read_hashes(earlier))
    steps = numpy.diff(hashes, prepend=numpy.uint64(0)).astype("<u8")
    # Bytes of equal significance are stored together: the high bytes are nearly all zero.
    planes = steps.view(numpy.uint8).reshape(-1, 8).T.copy()
    with atomic_binary(path) as stream:
        stream.write(planes.tobytes())
    return len(hashes)


def read_hashes(path: Path) -> NDArray[numpy.uint64]:
    """Return the hashes, sorted."""
    with open_binary(path) as stream:
        raw = stream.read()
    if len(raw) % 8:
        raise DataError(
            f"{path}: the size of a list of hashes is a multiple of 8, got {len(raw)} bytes; "
            "download the file again"
        )
    planes = numpy.frombuffer(raw, numpy.uint8).reshape(8, -1)
    steps = numpy.ascontiguousarray(planes.T).view("<u8").reshape(-1)
    return numpy.cumsum(steps, dtype=numpy.uint64)


def overlap(hashes: NDArray[numpy.uint64], sentences: Iterable[str]) -> list[int]:
    """Return the indices of the sentences whose hash is in the list; empty ones never are."""
    asked = list(sentences)
    wanted = _hashes(asked)
    places = numpy.minimum(numpy.searchsorted(hashes, wanted), max(len(hashes) - 1, 0))
    found = hashes[places] == wanted if len(hashes) else numpy.zeros(len(asked), numpy.bool_)
    return [place for place in numpy.flatnonzero(found).tolist() if asked[place].strip()]


def _hashes(sentences: Iterable[str]) -> NDArray[numpy.uint64]:
    return numpy.fromiter(map(sentence_hash, sentences), numpy.uint64) >> _SHIFT
