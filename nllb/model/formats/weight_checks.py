"""Checks that stored tensors are finite and have a supported dtype."""

import math

import torch
from torch import Tensor

from nllb.errors import CheckpointError


def check_finite(tensor: Tensor, name: str) -> Tensor:
    """Return the tensor if all of its values are finite.

    Raises:
        CheckpointError: a value is NaN or infinite; the message names the tensor.
    """
    if tensor.numel():
        low, high = tensor.aminmax()  # both are NaN if any value is NaN
        if not (math.isfinite(low.item()) and math.isfinite(high.item())):
            raise CheckpointError(
                f"the weight {name} has values that are NaN or infinite as {_type(tensor.dtype)}: "
                f"the file is damaged, or the training run diverged; download it again, or use an "
                f"earlier checkpoint"
            )
    return tensor


def check_storage(tensor: Tensor, scale: Tensor | None, name: str) -> None:
    """Check that a tensor has a floating-point dtype or is an int8 matrix with scales.

    Raises:
        CheckpointError: it is neither; the message names the weight.
    """
    if scale is None:
        if tensor.dtype.is_floating_point:
            return
        wrong = f"is {_type(tensor.dtype)} without scales; it must have a floating-point dtype"
    elif tensor.dtype != torch.int8 or tensor.ndim != 2:
        wrong = (
            f"is {_type(tensor.dtype)} of shape {list(tensor.shape)} and has scales, which only "
            f"int8 matrices may have"
        )
    elif scale.shape != tensor.shape[:1] or not scale.dtype.is_floating_point:
        wrong = (
            f"has scales that are {_type(scale.dtype)} of shape {list(scale.shape)}, but its "
            f"{len(tensor)} rows need one floating-point scale each"
        )
    else:
        return
    raise CheckpointError(f"the weight {name} {wrong}")


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
