"""A mixture of experts with two grouped products, which does not wait for the GPU.

`engine.mixture_of_experts` loops over the experts that have tokens, so that experts can be loaded
on demand; for this, the CPU must know which experts these are. Here, all experts of a layer are in
two tensors, and the boundaries between their rows stay on the GPU, as a CUDA graph requires.

Shapes: T tokens, D model dim, F inner dim, E experts, K = 2 experts per token, P = T * K pairs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nllb.model.grouped_experts import ALIGNMENT, GROUPED_MM, MIN_CAPABILITY
from nllb.model.moe import EXPERTS_PER_TOKEN, route

from .layers import FeedForward, Linear, TorchLinear


def can_group(dtype: torch.dtype, device: torch.device, *dims: int) -> bool:
    """Return whether a device has grouped products for matrices of these dimensions."""
    return (
        GROUPED_MM is not None
        and device.type == "cuda"
        and torch.cuda.get_device_capability(device) >= MIN_CAPABILITY
        and dtype == torch.bfloat16
        and all(dim % ALIGNMENT == 0 for dim in dims)
    )


class GroupedMixture:
    """The experts of one layer."""

    def __init__(self, router: Linear, experts: Sequence[FeedForward], *, output_masking: float):
        """Copy the experts into one tensor per matrix."""
        self._router, self._factor = router, 1 - output_masking
        self._activation: Callable[[Tensor], Tensor] = experts[0].activation
        self._inner_EDF, self._inner_bias_EF = _stack([expert.inner for expert in experts])
        self._outer_EFD, self._outer_bias_ED = _stack([expert.outer for expert in experts])
        self._numbers_E = torch.arange(len(experts), device=self._inner_EDF.device)

    def __call__(self, x_TD: Tensor) -> Tensor:
        """Return the weighted sum of the outputs of each token's two best experts."""
        weights_TK, experts_TK = route(self._router(x_TD).float())
        experts_P, order_P = experts_TK.flatten().sort(stable=True)
        ends_E = torch.searchsorted(experts_P, self._numbers_E, right=True).to(torch.int32)
        sorted_PD = x_TD[order_P // EXPERTS_PER_TOKEN]
        inner_PF = _product(sorted_PD, self._inner_EDF, ends_E) + self._inner_bias_EF[experts_P]
        outer_PD = _product(self._activation(inner_PF), self._outer_EFD, ends_E)
        outer_PD = outer_PD + self._outer_bias_ED[experts_P]
        pairs_PD = torch.empty_like(outer_PD).index_copy_(0, order_P, outer_PD)
        pairs_TKD = pairs_PD.view(-1, EXPERTS_PER_TOKEN, x_TD.shape[-1])
        result_TD: Tensor = (pairs_TKD * (weights_TK * self._factor).to(x_TD.dtype)[..., None]).sum(
            1
        )
        return result_TD


def _stack(linears: Sequence[Linear]) -> tuple[Tensor, Tensor]:
    """Return matrices (E, inputs, outputs), whose columns are contiguous, and biases."""
    weights, biases = [], []
    for linear in linears:
        assert isinstance(linear, TorchLinear) and linear.bias is not None
        weights.append(linear.weight)
        biases.append(linear.bias)
    return torch.stack(weights).transpose(1, 2), torch.stack(biases)


def _product(rows: Tensor, matrices: Tensor, ends_E: Tensor) -> Tensor:
    assert GROUPED_MM is not None
    product: Tensor = GROUPED_MM(rows, matrices, offs=ends_E)
    return product
