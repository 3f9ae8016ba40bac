"""The machine's int8 peak: a bare loop of multiply-adds in registers, on all threads at once."""

import ctypes
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PRODUCTS = {"avx512_vnni": 64, "avx_vnni": 32, "avx2": 16}
"""Multiply-adds of an instruction at each level; AMX has no bare loop here."""
_SUMS, _LOOPS = 12, 200_000


def int8_peak(level: str, num_threads: int, *, repetitions: int = 20) -> float | None:
    """Return multiply-adds a second of all threads, or nothing without a loop or a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if level not in PRODUCTS or compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "int8_peak.so"
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, "-O3", "-shared", "-fPIC", source, "-o", built], check=True)
        loop = getattr(ctypes.CDLL(str(built)), f"loop_{level}")
    loop.argtypes, loop.restype = [ctypes.c_int64], None

    def seconds(_: int) -> float:
        start = time.perf_counter()
        loop(_LOOPS)
        return time.perf_counter() - start

    with ThreadPoolExecutor(num_threads) as pool:
        rounds = [list(pool.map(seconds, range(num_threads))) for _ in range(repetitions)]
    work = num_threads * _LOOPS * _SUMS * PRODUCTS[level]
    return work / min(max(times) for times in rounds)
