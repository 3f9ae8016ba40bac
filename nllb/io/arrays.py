"""numpy's files, opened without pickles, and only when their headers agree with their sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

import numpy
from numpy.lib import format as npy
from numpy.typing import NDArray

from nllb.errors import DataError, NllbError

from .archives import check_archive


def load_array(path: Path) -> NDArray[Any]:
    """Return the array of a `.npy` file, memory-mapped where it is not empty.

    Raises:
        DataError: it is missing or damaged.
    """
    with _telling(path):
        size = path.stat().st_size
        with path.open("rb") as stream:
            is_empty = _check_header(stream, size) == 0
        mode: Any = None if is_empty else "r"  # an empty array cannot be mapped
        array: NDArray[Any] = numpy.load(path, mmap_mode=mode, allow_pickle=False)
        return array


@contextmanager
def open_arrays(path: Path) -> Iterator[Any]:
    """Open a `.npz` file as `numpy.load` does, for a `with` block that reads its arrays.

    Raises:
        DataError: it is missing or damaged, or what the block does with the arrays shows that they
            are not what was expected.
    """
    with _telling(path):
        with ZipFile(path) as archive:
            for member in check_archive(archive, path):
                with archive.open(member) as stream:
                    _check_header(stream, member.file_size)  # type: ignore[arg-type]
        with path.open("rb") as file, numpy.load(file, allow_pickle=False) as arrays:
            yield arrays


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except NllbError:
        raise
    except Exception as error:
        # A header is a piece of Python that numpy parses: a damaged one can fail in many ways.
        reason = str(error).strip().splitlines()
        raise DataError(
            f"cannot read {path}: it is damaged or of another kind "
            f"({reason[0][:120] if reason else type(error).__name__}); make it again"
        ) from error


def _check_header(stream: BinaryIO, size: int) -> int:
    """Return the bytes of the array behind a header, which are no more than the file has."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(stream)
    else:
        shape, _, dtype = npy.read_array_header_2_0(stream)
    num_bytes = prod(shape) * dtype.itemsize
    if dtype.hasobject or any(length < 0 for length in shape) or num_bytes > size:
        raise ValueError(f"an array of shape {shape} and type {dtype} in {size:,} bytes")
    return num_bytes
