"""Symmetric int8 storage of matrices with one float32 scale per row (row = scale * int8 row).

A weight `w` is stored as `w` (int8) and `w.scale` (float32, one value per row). All matrices are
stored in int8 except routers, which need float32 precision. Vectors (biases, norms) stay float32.
"""

import torch
from torch import Tensor

MAX_INT8 = 127
_BLOCK_ROWS = 4096


def is_quantizable(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether int8 storage quantizes a weight."""
    return len(shape) == 2 and not name.endswith("feed_forward.router.weight")


def row_scales(weight_RC: Tensor) -> Tensor:
    """Return float32 scale_R of a matrix: 1 for a row of zeros, NaN for a row with NaN."""
    low_R, high_R = weight_RC.aminmax(dim=1)  # abs() would copy the matrix
    scale_R = torch.maximum(high_R, -low_R).float() / MAX_INT8
    return torch.where(scale_R == 0, 1.0, scale_R)


def quantize_rows(weight_RC: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 weight_RC and float32 scale_R; the maximum error is half the scale of a row."""
    scale_R = row_scales(weight_RC)
    stored_RC = torch.empty(weight_RC.shape, dtype=torch.int8, device=weight_RC.device)
    for start in range(0, len(scale_R), _BLOCK_ROWS):  # avoids a second float32 embedding
        rows = slice(start, start + _BLOCK_ROWS)
        stored_RC[rows] = (weight_RC[rows].float() / scale_R[rows, None]).round_()
    return stored_RC, scale_R


def dequantize_rows(weight_RC: Tensor, scale_R: Tensor) -> Tensor:
    """Return the float32 weight_RC that int8 rows and their scales represent."""
    return weight_RC.float() * scale_R[:, None]
