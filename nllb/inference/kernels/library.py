"""Loads the compiled `kernel.c` and declares its functions and structs.

The library is optional: it is built if a compiler is available. The highest instruction set level
that the processor supports is chosen at run time. `NLLB_KERNEL=off` disables the library, and the
name of a level (amx, avx512_vnni, avx_vnni, avx2) is an upper limit.

The functions check neither ids nor shapes, which the caller must validate. `VERSION` and the sizes
of the structs are compared with those of the library, so that an old library is never called with
new structs.
"""

import ctypes
import os
from ctypes import Structure, c_float, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nllb.errors import ConfigError, ResourceError, did_you_mean

VERSION = 3
"""Version of the functions and structs below; it changes together with VERSION in `kernel.c`."""
MAX_THREADS = 1024
"""Maximum number of threads of a call, including the caller (as in `kernel_threads.h`)."""
LEVELS = ("off", "avx2", "avx_vnni", "avx512_vnni", "amx")
SETTING = "NLLB_KERNEL"


class MatrixStruct(Structure):
    """A packed matrix."""

    _fields_ = [
        *((name, c_void_p) for name in ("weight", "scale", "offset", "bias")),
        *((name, c_int64) for name in ("outputs", "inputs")),
    ]


class NormStruct(Structure):
    """A layer norm."""

    _fields_ = [("gain", c_void_p), ("bias", c_void_p)]


class LayerStruct(Structure):
    """A layer of the encoder or the decoder."""

    _fields_ = [
        ("self_norm", NormStruct),
        ("self_qkv", MatrixStruct),
        ("self_out", MatrixStruct),
        ("cross_norm", NormStruct),
        ("cross_query", MatrixStruct),
        ("cross_out", MatrixStruct),
        ("feed_norm", NormStruct),
        ("inner", MatrixStruct),
        ("outer", MatrixStruct),
    ]


class WorkStruct(Structure):
    """Buffers, threads and level of a call."""

    _fields_ = [
        *((n, c_int64) for n in ("threads", "level", "dim", "heads", "rows", "depth", "owner")),
        *((name, c_void_p) for name in ("wide", "mixed", "tiles", "scales")),
    ]


class MemoryStruct(Structure):
    """The cross-attention keys and values of encoded sentences."""

    _fields_ = [("total", c_int64), *((n, c_void_p) for n in ("start", "length", "keys_values"))]


class StepStruct(Structure):
    """One decoding step of all rows."""

    _fields_ = [
        *((n, c_int64) for n in ("rows", "new_positions", "before", "slots", "capacity")),
        *((name, c_void_p) for name in ("sentence", "ancestors", "cache", "x")),
    ]


class PostNormLayerStruct(Structure):
    """One layer of a BERT-style encoder."""

    _fields_ = [
        *((name, MatrixStruct) for name in ("qkv", "out", "inner", "outer")),
        *((name, NormStruct) for name in ("attention_norm", "feed_norm")),
        *((name, c_void_p) for name in ("qkv_factors", "inner_factors")),
    ]


STRUCTS = (
    MatrixStruct,
    NormStruct,
    LayerStruct,
    WorkStruct,
    MemoryStruct,
    StepStruct,
    PostNormLayerStruct,
)
"""The structs in the order of their numbers in the library."""

_POINTER, _NUMBER = c_void_p, c_int64
_VOID_FUNCTIONS: dict[str, list[Any]] = {
    "nllb_advise_huge": [_POINTER, _NUMBER],
    "nllb_advise_done": [_POINTER, _NUMBER],
    "nllb_pack": [_POINTER, _POINTER, *[_NUMBER] * 3, _POINTER, _POINTER],
    "nllb_select": [_POINTER, _POINTER, _NUMBER, *[_POINTER] * 3],
    "nllb_embed": [*[_POINTER] * 3, _NUMBER, c_float, _POINTER, _POINTER],
}
_FUNCTIONS: dict[str, list[Any]] = {
    "nllb_linear": [*[_POINTER] * 4, _NUMBER, _POINTER, _NUMBER],
    "nllb_feed_forward": [*[_POINTER] * 4, _NUMBER, _POINTER],
    "nllb_encode": [_POINTER, _POINTER, *[_NUMBER] * 3, _POINTER, _POINTER, _NUMBER, _POINTER],
    "nllb_encode_post_norm": [
        *[_POINTER] * 2,
        *[_NUMBER] * 2,
        c_float,
        _NUMBER,
        *[_POINTER] * 2,
        _NUMBER,
        _POINTER,
    ],
    "nllb_remember": [*[_POINTER] * 4, _NUMBER, *[_POINTER] * 3],
    "nllb_decode": [_POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER],
    "nllb_best": [
        *[_POINTER] * 3,
        _NUMBER,
        *[_POINTER] * 6,
        *[_NUMBER] * 2,
        _POINTER,
        _POINTER,
    ],
}
_NO_MEMORY = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """The loaded library and its instruction set level."""

    library: ctypes.CDLL
    """The compiled `kernel.c`."""
    level: int
    """Index in `LEVELS`."""


@cache
def load_kernel(setting: str | None = None) -> Kernel | None:
    """Load the library at the level that the setting and the processor allow.

    The result is None if the library is not available or disabled.

    Raises:
        ConfigError: the setting is not the name of a level.
        ResourceError: the version of the library differs from that of this module.
    """
    setting = setting or os.environ.get(SETTING, LEVELS[-1])
    if setting not in LEVELS:
        raise ConfigError(
            f"{SETTING} is {setting!r}{did_you_mean(setting, LEVELS) or ';'} valid values are "
            f"{', '.join(LEVELS)}"
        )
    found = find_spec("nllb.inference.kernels._kernel")
    if setting == "off" or found is None or found.origin is None:
        return None
    return open_kernel(Path(found.origin), setting)


def open_kernel(path: Path, setting: str = LEVELS[-1]) -> Kernel | None:
    """Open a library file; the result is None if it was built for another kind of machine.

    Raises:
        ResourceError: its version differs from that of this module.
    """
    try:
        library = ctypes.CDLL(str(path))
        level = library.nllb_level
    except (OSError, AttributeError):
        return None
    level.argtypes, level.restype = [c_int64], c_int64
    _check_version(path, library)
    for name, arguments in (_VOID_FUNCTIONS | _FUNCTIONS).items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
        if name in _FUNCTIONS:
            function.restype, function.errcheck = c_int64, _check_outcome
    supported = level(LEVELS.index(setting))
    return Kernel(library=library, level=supported) if supported else None


def _check_version(path: Path, library: ctypes.CDLL) -> None:
    version, sizes = 0, [0]
    try:
        get_version, get_size = library.nllb_version, library.nllb_struct_size
    except AttributeError:
        pass  # The library was built before these functions existed.
    else:
        get_version.argtypes, get_version.restype = [], c_int64
        get_size.argtypes, get_size.restype = [c_int64], c_int64
        version, sizes = get_version(), [get_size(number) for number in range(len(STRUCTS) + 1)]
    if version != VERSION or sizes != [*map(ctypes.sizeof, STRUCTS), 0]:
        raise ResourceError(
            f"the compiled int8 kernel {path} has version {version}, but this nllb requires "
            f"version {VERSION}: reinstall nllb to rebuild the kernel (pip install "
            f"--force-reinstall --no-deps nllb, or . in a checkout), or set {SETTING}=off to use "
            f"plain torch"
        )


def _check_outcome(outcome: int, function: Any, arguments: tuple[Any, ...]) -> int:
    """Convert a function's status code to an exception."""
    if outcome == _NO_MEMORY:
        raise ResourceError("not enough memory to translate this batch; use smaller batches")
    if outcome:
        raise RuntimeError(f"{function.__name__}: the sizes of the call do not fit its buffers")
    return outcome


def pointer(array: np.ndarray) -> int:
    """Return the address of a contiguous array."""
    assert array.flags.c_contiguous
    return int(array.ctypes.data)
