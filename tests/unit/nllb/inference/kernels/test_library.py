"""The library and its Python mirror: versions, sizes and constants must be the same."""

import ctypes
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from nllb.errors import ResourceError
from nllb.inference.kernels import library, packed_matrices
from nllb.inference.kernels.library import LEVELS, MatrixStruct, load_kernel, open_kernel

SOURCES = Path(library.__file__).parent
needs_kernel = pytest.mark.skipif(
    load_kernel() is None, reason="the int8 kernel is not built: install with a C compiler at hand"
)


def defined(name: str) -> int:
    """Return a constant of the C sources."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.[ch]")))
    [value] = re.findall(rf"^#define {name} (\d+)", text, flags=re.MULTILINE)
    return int(value)


def test_constants_are_those_of_the_sources() -> None:
    assert defined("VERSION") == library.VERSION
    assert defined("MOST_THREADS") == library.MAX_THREADS
    assert defined("PANEL") == packed_matrices.PANEL
    assert defined("MOST_DIM") == packed_matrices.MAX_DIM
    assert defined("MOST_POSITIONS") == packed_matrices.MAX_POSITIONS


@needs_kernel
def test_a_library_of_another_version_is_refused(monkeypatch) -> None:
    path = Path(find_spec("nllb.inference.kernels._kernel").origin)
    assert open_kernel(path) is not None
    version = library.VERSION
    monkeypatch.setattr(library, "VERSION", version + 1)
    message = (
        rf"has version {version}, but this nllb requires version {version + 1}: reinstall nllb"
    )
    with pytest.raises(ResourceError, match=message):
        open_kernel(path)


@needs_kernel
def test_structs_of_other_sizes_are_refused(monkeypatch) -> None:
    class Longer(MatrixStruct):
        _fields_ = (("further", ctypes.c_int64),)

    monkeypatch.setattr(library, "STRUCTS", (Longer, *library.STRUCTS[1:]))
    with pytest.raises(ResourceError, match="reinstall nllb"):
        open_kernel(Path(find_spec("nllb.inference.kernels._kernel").origin))


def test_a_library_without_a_version_is_refused(monkeypatch) -> None:
    class Old:
        nllb_level = staticmethod(lambda wanted: wanted)

    Old.nllb_level = type("Function", (), {})()
    monkeypatch.setattr(library.ctypes, "CDLL", lambda path: Old())
    with pytest.raises(ResourceError, match="has version 0"):
        open_kernel(Path("old.so"))


def test_another_kind_of_file_is_no_kernel(tmp_path) -> None:
    other = tmp_path / "other.so"
    other.write_bytes(b"not a library")
    assert open_kernel(other) is None


@needs_kernel
def test_a_setting_bounds_the_level() -> None:
    best = load_kernel().level
    for number, name in enumerate(LEVELS[1:], 1):
        kernel = load_kernel(name)
        assert kernel is not None and kernel.level <= min(number, best)
