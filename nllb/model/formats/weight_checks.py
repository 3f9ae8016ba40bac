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
    """Refuse a weight that is not stored as one of ours, or whose scales are not those of its rows.

    Raises:
        CheckpointError: it names the weight.
    """
    of_scale = None if scale is None else (tuple(scale.shape), scale.dtype)
    if error := storage_error(tuple(tensor.shape), tensor.dtype, of_scale):
        raise CheckpointError(f"the weight {name} {error}")


def storage_error(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    scale: tuple[tuple[int, ...], torch.dtype] | None,
) -> str | None:
    """Say what is wrong with how a weight is stored; `scale` has the shape and type of its scales.

    A weight is stored in a floating type, or a matrix as int8 with one floating scale per row.
    """
    if scale is None:
        if dtype.is_floating_point:
            return None
        if dtype == torch.int8:
            return "is int8 and has no scales"
        return f"is {_type(dtype)}, and must be of a floating type or int8 with scales"
    scale_shape, scale_dtype = scale
    if dtype != torch.int8 or len(shape) != 2:
        return f"is {_type(dtype)} of {list(shape)} and has scales, which belong to int8 matrices"
    if scale_shape != shape[:1] or not scale_dtype.is_floating_point:
        return (
            f"has scales that are {_type(scale_dtype)} of {list(scale_shape)}, and its "
            f"{shape[0]} rows need as many in a floating type"
        )
    return None


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
