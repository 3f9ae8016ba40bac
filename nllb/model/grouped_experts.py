"""Computes all experts with two grouped matrix products instead of two products per expert.

With many experts, a GPU spends most of its time launching small products one after the other. If
torch provides a grouped product (`torch.nn.functional.grouped_mm`, or `torch._grouped_mm` in older
versions), one kernel computes the inner layers of all experts and another the outer layers.

Shapes: P rows sorted by expert, D model dim, F inner dim, E experts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPED_MM = getattr(functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
MIN_CAPABILITY = (9, 0)
"""Lowest compute capability with a single kernel; below it, torch loops over the experts."""
ALIGNMENT = 8
"""Both dimensions of a bfloat16 matrix must be multiples of this."""


class GroupableExpert(Protocol):
    """The attributes of `nllb.model.moe.FeedForward` that grouped products require.

    Attributes:
        inner: projection from the model dim to the inner dim.
        outer: projection from the inner dim to the model dim.
        activation: activation function between the projections.
        dropout: dropout of the output.
        activation_dropout: dropout after the activation.
        training: whether dropout is applied.
    """

    inner: nn.Linear
    outer: nn.Linear
    activation: Callable[[Tensor], Tensor]
    dropout: float
    activation_dropout: float
    training: bool


def can_group(experts: Mapping[int, nn.Module], sorted_PD: Tensor) -> bool:
    """Return whether grouped products are available and efficient for these rows and experts."""
    if GROUPED_MM is None or sorted_PD.device.type != "cuda" or len(experts) < 2:
        return False
    if torch.cuda.get_device_capability(sorted_PD.device) < MIN_CAPABILITY:
        return False
    dims = cast(GroupableExpert, next(iter(experts.values()))).inner.weight.shape
    return compute_type(sorted_PD) == torch.bfloat16 and all(dim % ALIGNMENT == 0 for dim in dims)


def compute_type(rows: Tensor) -> torch.dtype:
    """Return the dtype of products with these rows: the autocast dtype, or the rows' own dtype."""
    device = rows.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype


def run_grouped_experts(
    experts: Mapping[int, nn.Module], sorted_PD: Tensor, counts_E: Sequence[int]
) -> Tensor:
    """Run all experts of this process on rows that are sorted by expert.

    Dropout is applied as in `FeedForward`, but its random masks differ from those of a loop over
    the experts.
    """
    assert GROUPED_MM is not None
    modules = [cast(GroupableExpert, experts[number]) for number in sorted(experts)]
    first = modules[0]
    counts = torch.tensor(list(counts_E), device=sorted_PD.device)
    ends_E = counts.cumsum(0).to(torch.int32)
    dtype = compute_type(sorted_PD)

    def product(rows: Tensor, linears: Sequence[nn.Linear]) -> Tensor:
        weight_EKN = torch.stack([linear.weight.to(dtype) for linear in linears]).transpose(1, 2)
        bias_EN = torch.stack([linear.bias.to(dtype) for linear in linears])
        bias_PN = bias_EN.repeat_interleave(counts, dim=0, output_size=len(rows))
        output_PN: Tensor = GROUPED_MM(rows.to(dtype), weight_EKN, offs=ends_E)
        return output_PN + bias_PN

    with torch.autocast(sorted_PD.device.type, enabled=False):
        inner_PF = functional.dropout(
            first.activation(product(sorted_PD, [module.inner for module in modules])),
            first.activation_dropout,
            first.training,
        )
        outer_PD = product(inner_PF, [module.outer for module in modules])
        return functional.dropout(outer_PD, first.dropout, first.training)
