"""Opens NumPy files without pickles, after comparing their headers with their sizes."""

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
    """Return the array of a `.npy` file, memory-mapped unless it is empty.

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
        DataError: it is missing or damaged, or the block fails because the arrays are not as
            expected.
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
        # NumPy parses the header as Python: a damaged one can raise many kinds of errors.
        reason = str(error).strip().splitlines()
        raise DataError(
            f"cannot read {path}: it is damaged or of another kind "
            f"({reason[0][:120] if reason else type(error).__name__}); create it again"
        ) from error


def _check_header(stream: BinaryIO, size: int) -> int:
    """Return the number of bytes of an array after checking it against the size of the file."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(stream)
    else:
        shape, _, dtype = npy.read_array_header_2_0(stream)
    num_bytes = prod(shape) * dtype.itemsize
    if dtype.hasobject or any(length < 0 for length in shape) or num_bytes > size:
        raise ValueError(f"an array of shape {shape} and type {dtype} in {size:,} bytes")
    return num_bytes
