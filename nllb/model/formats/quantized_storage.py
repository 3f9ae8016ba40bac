"""How a matrix is stored as int8: symmetric, one float32 scale a row (row = scale * int8 row).

A weight `w` lies in the file as `w` (int8) and `w.scale` (float32, one number a row). Every matrix
is stored so except the routers, which need their precision; vectors (biases, norms) stay float32.
"""

import torch
from torch import Tensor

LARGEST = 127
_BLOCK_ROWS = 4096


def is_quantizable(name: str, shape: tuple[int, ...]) -> bool:
    """Say whether int8 storage holds a weight as int8."""
    return len(shape) == 2 and not name.endswith("feed_forward.router.weight")


def row_scales(weight_RC: Tensor) -> Tensor:
    """Return the float32 scale_R of a matrix; a row of zeros has 1, and one with NaN has NaN."""
    least_R, most_R = weight_RC.aminmax(dim=1)  # no copy of the matrix, as abs() would make
    scale_R = torch.maximum(most_R, -least_R).float() / LARGEST
    return torch.where(scale_R == 0, 1.0, scale_R)


def quantize_rows(weight_RC: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 weight_RC and float32 scale_R; no element is off by more than half its scale."""
    scale_R = row_scales(weight_RC)
    stored_RC = torch.empty(weight_RC.shape, dtype=torch.int8, device=weight_RC.device)
    for start in range(0, len(scale_R), _BLOCK_ROWS):  # an embedding in float32 is large enough
        rows = slice(start, start + _BLOCK_ROWS)
        stored_RC[rows] = (weight_RC[rows].float() / scale_R[rows, None]).round_()
    return stored_RC, scale_R


def dequantize_rows(weight_RC: Tensor, scale_R: Tensor) -> Tensor:
    """Return the float32 weight_RC that int8 rows and their scales stand for."""
    return weight_RC.float() * scale_R[:, None]
