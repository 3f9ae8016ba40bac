"""The compiled `kernel.c`: how it is found, its level, and the structs that it reads.

The library is optional: it is built where a compiler is found, and the best level that the
processor supports is chosen at run time. `NLLB_KERNEL=off` switches it off, and a level's name
(amx, avx512_vnni, avx_vnni, avx2) bounds it.
"""

import ctypes
import os
from ctypes import Structure, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import numpy as np

from nllb.errors import ConfigError, did_you_mean

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
    """One layer of either side."""

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
        *((name, c_int64) for name in ("threads", "level", "dim", "heads", "owner")),
        *((name, c_void_p) for name in ("wide", "mixed", "tiles", "scales")),
    ]


class MemoryStruct(Structure):
    """What decoding reads of the encoded sentences."""

    _fields_ = [("total", c_int64), *((n, c_void_p) for n in ("start", "length", "keys_values"))]


class StepStruct(Structure):
    """One step of all rows of a decoding."""

    _fields_ = [
        *((n, c_int64) for n in ("rows", "new_positions", "before", "slots", "capacity")),
        *((name, c_void_p) for name in ("sentence", "ancestors", "cache", "x")),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """The loaded library and the level it runs at."""

    library: ctypes.CDLL
    """The compiled `kernel.c`."""
    level: int
    """Index in `LEVELS`."""


@cache
def load_kernel(setting: str | None = None) -> Kernel | None:
    """Load the library at the level that the setting and the processor allow; None without one.

    Raises:
        ConfigError: the setting is no level.
    """
    setting = setting or os.environ.get(SETTING, LEVELS[-1])
    if setting not in LEVELS:
        raise ConfigError(
            f"{SETTING} is {setting!r}{did_you_mean(setting, LEVELS) or ';'} valid are "
            f"{', '.join(LEVELS)}"
        )
    found = find_spec("nllb.inference.kernels._kernel")
    if setting == "off" or found is None or found.origin is None:
        return None
    try:
        library = ctypes.CDLL(found.origin)
        level = library.nllb_level
    except (OSError, AttributeError):  # built for another kind of machine
        return None
    level.restype = c_int64
    level = level(c_int64(LEVELS.index(setting)))
    library.nllb_best.restype = c_int64
    return Kernel(library=library, level=level) if level else None


def pointer(array: np.ndarray) -> c_void_p:
    """Return the address of a contiguous array."""
    assert array.flags.c_contiguous
    return c_void_p(array.ctypes.data)
