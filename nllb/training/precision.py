"""The number type of the matrix products; `auto` chooses the type that is faster here.

Processors differ: with AMX, bfloat16 products are about twice as fast as float32 products; without
any bfloat16 instructions they are several times slower.
"""

import logging
import time

import torch

from .train_config import Precision

ROUNDS = 4
"""Measurements of each type, of which the fastest counts."""
TRIALS = 3
"""Products of a measurement."""
_CANDIDATES: tuple[Precision, ...] = ("float32", "bfloat16")
_log = logging.getLogger(__name__)


def matmul_speed(precision: Precision, device: torch.device) -> float:
    """Measure the floating-point operations per second of a matrix product of this type."""
    size = 4096 if device.type == "cuda" else 512
    left = torch.full((size, size), 0.5, device=device, dtype=getattr(torch, precision))
    best = float("inf")
    for _ in range(TRIALS):
        start = time.perf_counter()
        (left @ left).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def choose_precision(configured: Precision, device: torch.device) -> Precision:
    """Return the configured type; for `auto`, the one whose products are faster here."""
    if configured != "auto":
        return configured
    speeds = dict.fromkeys(_CANDIDATES, 0.0)
    for _ in range(ROUNDS):  # alternately, so that another program slows both types down
        for name in _CANDIDATES:
            speeds[name] = max(speeds[name], matmul_speed(name, device))
    chosen = max(_CANDIDATES, key=speeds.__getitem__)
    measured = ", ".join(f"{name} {speed / 1e9:,.0f} GFLOP/s" for name, speed in speeds.items())
    _log.info("precision: %s (measured on this machine: %s)", chosen, measured)
    return chosen
