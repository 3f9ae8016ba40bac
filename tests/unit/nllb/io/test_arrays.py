"""numpy's files are read where header and size agree, and never as pickles."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
from numpy.lib import format as npy

from nllb.errors import DataError
from nllb.io.arrays import load_array, open_arrays


def header(shape: tuple[int, ...], descr: Any = "<f8") -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(3, 2), (0, 4), ()])
def test_arrays_come_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = numpy.ones(shape)
    numpy.save(tmp_path / "a.npy", array)
    numpy.savez(tmp_path / "a.npz", x=array, y=array)
    assert (load_array(tmp_path / "a.npy") == array).all()
    with open_arrays(tmp_path / "a.npz") as arrays:
        assert (arrays["y"] == array).all() and set(arrays.files) == {"x", "y"}


BAD = {
    "huge": header((1 << 50,)) + b"\0" * 80,
    "negative": header((-1, 4)) + b"\0" * 80,
    "objects": header((1,), "|O") + b"\x80\x04N.",
    "deep": b"\x93NUMPY\x01\x00\xff\x7f" + b"(" * 32767,
    "cut": header((4,))[:40],
    "empty": b"",
    "other": b"something else",
}


@pytest.mark.parametrize("name", BAD)
def test_headers_that_lie_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.npy").write_bytes(BAD[name])
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as target:
        target.writestr("x.npy", BAD[name])
    with pytest.raises(DataError, match=r"a\.npy"):
        load_array(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a\.npz"):
        with open_arrays(tmp_path / "a.npz") as arrays:
            arrays["x"]


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    numpy.savez_compressed(tmp_path / "a.npz", x=numpy.zeros(1_000_000))
    with pytest.raises(DataError, match="would take"):
        with open_arrays(tmp_path / "a.npz"):
            pass


def test_what_the_block_misses_is_an_error_of_the_file(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "a.npz", x=numpy.zeros(3))
    with pytest.raises(DataError, match=r"a\.npz.*damaged or of another kind"):
        with open_arrays(tmp_path / "a.npz") as arrays:
            arrays["y"]
    with pytest.raises(DataError, match="cannot read"):
        load_array(tmp_path / "missing.npy")
