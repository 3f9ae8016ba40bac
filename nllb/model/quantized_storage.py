"""How a matrix is stored as int8: symmetric, one float32 scale a row (row = scale * int8 row).

A weight `w` lies in the file as `w` (int8) and `w.scale` (float32, one number a row). Every matrix
is stored so except the routers, which need their precision; vectors (biases, norms) stay float32.
"""

import torch
from torch import Tensor

LARGEST = 127


def is_quantizable(name: str, shape: tuple[int, ...]) -> bool:
    """Say whether int8 storage holds a weight as int8."""
    return len(shape) == 2 and not name.endswith("feed_forward.router.weight")


def quantize_rows(weight_RC: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 weight_RC and float32 scale_R; no element is off by more than half its scale."""
    exact_RC = weight_RC.float()
    scale_R = exact_RC.abs().amax(dim=1) / LARGEST
    scale_R = torch.where(scale_R > 0, scale_R, 1.0)  # a row of zeros
    return (exact_RC / scale_R[:, None]).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale_R


def dequantize_rows(weight_RC: Tensor, scale_R: Tensor) -> Tensor:
    """Return the float32 weight_RC that int8 rows and their scales stand for."""
    return weight_RC.float() * scale_R[:, None]
