"""What a stored tensor must be before a model computes with it: of a known type, and finite."""

import math

import torch
from torch import Tensor

from nllb.errors import CheckpointError


def check_finite(tensor: Tensor, name: str) -> Tensor:
    """Return the tensor, none of whose values is NaN or infinite.

    Raises:
        CheckpointError: it names the tensor.
    """
    if tensor.numel():
        least, most = tensor.aminmax()  # both are NaN where any value is
        if not (math.isfinite(least.item()) and math.isfinite(most.item())):
            raise CheckpointError(
                f"the weight {name} has values that are NaN or infinite as {_type(tensor.dtype)}: "
                f"the file is damaged, or the training that wrote it diverged; fetch it again, or "
                f"take an earlier checkpoint"
            )
    return tensor


def check_storage(tensor: Tensor, scale: Tensor | None, name: str) -> None:
    """Refuse a tensor that is neither of a floating type nor an int8 matrix with its scales.

    Raises:
        CheckpointError: it names the weight.
    """
    if scale is None:
        if tensor.dtype.is_floating_point:
            return
        wrong = f"is {_type(tensor.dtype)} without scales, and not of a floating type"
    elif tensor.dtype != torch.int8 or tensor.ndim != 2:
        wrong = (
            f"is {_type(tensor.dtype)} of {list(tensor.shape)} and has scales, which belong to "
            f"int8 matrices"
        )
    elif scale.shape != tensor.shape[:1] or not scale.dtype.is_floating_point:
        wrong = (
            f"has scales that are {_type(scale.dtype)} of {list(scale.shape)}, and its "
            f"{len(tensor)} rows need as many in a floating type"
        )
    else:
        return
    raise CheckpointError(f"the weight {name} {wrong}")


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
