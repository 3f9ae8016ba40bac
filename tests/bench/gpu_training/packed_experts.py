"""A feed-forward layer of experts in two grouped products, with shapes that never change.

It computes what `nllb.model.moe` computes without capacity, but the counts of the experts stay on
the device, so that the CPU never waits. The rows of an expert begin at a multiple of `ALIGNMENT`,
as the grouped products require; the rows between are fillers, whose outputs nothing reads.

Shapes: N tokens, D model dim, F inner dim, E experts, K = 2, Q = 2 N + 8 E rows with fillers.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

EXPERTS_PER_TOKEN = 2
ALIGNMENT = 8
GROUPED_MM = getattr(functional, "grouped_mm", None) or torch._grouped_mm


@dataclass(frozen=True, kw_only=True)
class ExpertWeights:
    """The weights of one layer: router (E, D), inner (E, F, D), outer (E, D, F), and biases."""

    router: Tensor
    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    outer_bias: Tensor


class _TakeRows(torch.autograd.Function):
    """Rows of tokens in the order of their experts; the gradient is a gather, too."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, tokens_Q: Tensor, places_P: Tensor) -> Tensor:
        ctx.save_for_backward(places_P)
        return x_ND.index_select(0, tokens_Q)

    @staticmethod
    def backward(ctx: Any, gradient_QD: Tensor) -> tuple[Tensor, None, None]:
        (places_P,) = ctx.saved_tensors
        pairs = gradient_QD.index_select(0, places_P)
        return pairs.view(-1, EXPERTS_PER_TOKEN, pairs.shape[1]).sum(1), None, None


class _ReturnRows(torch.autograd.Function):
    """Outputs of the experts in the order of the tokens."""

    @staticmethod
    def forward(ctx: Any, y_QD: Tensor, places_P: Tensor) -> Tensor:
        ctx.save_for_backward(places_P)
        ctx.rows = len(y_QD)
        return y_QD.index_select(0, places_P)

    @staticmethod
    def backward(ctx: Any, gradient_PD: Tensor) -> tuple[Tensor, None]:
        (places_P,) = ctx.saved_tensors
        gradient_QD = gradient_PD.new_zeros(ctx.rows, gradient_PD.shape[1])
        return gradient_QD.index_copy_(0, places_P, gradient_PD), None


def run_experts(
    x_ND: Tensor,
    is_token_N: Tensor,
    weights: ExpertWeights,
    *,
    masking: float,
    training: bool,
) -> tuple[Tensor, Tensor]:
    """Return outputs_ND and the balance loss over the tokens.

    Args:
        x_ND: inputs; padding is computed like tokens.
        is_token_N: which rows are not padding.
        weights: the layer.
        masking: probability with which training drops an expert's output.
        training: whether outputs are dropped rather than scaled.
    """
    count = len(weights.router)
    logits_NE = functional.linear(x_ND.float(), weights.router.float())
    gates_NE = logits_NE.softmax(-1)
    experts_NK = logits_NE.topk(EXPERTS_PER_TOKEN, dim=-1).indices
    weights_NK = gates_NE.gather(-1, experts_NK)
    weights_NK = weights_NK / weights_NK.sum(-1, keepdim=True).clamp_min(torch.finfo().eps)
    tokens_Q, places_P, experts_Q, ends_E = _arrange(experts_NK, count)
    numbers_E = torch.arange(count, device=x_ND.device)
    chosen_QE = (experts_Q[:, None] == numbers_E).to(x_ND.dtype)
    rows_QD = _TakeRows.apply(x_ND, tokens_Q, places_P)
    inner_QF = GROUPED_MM(rows_QD, weights.inner.transpose(1, 2), offs=ends_E)
    inner_QF = functional.relu(inner_QF + chosen_QE @ weights.inner_bias)
    outer_QD = GROUPED_MM(inner_QF, weights.outer.transpose(1, 2), offs=ends_E)
    outer_QD = outer_QD + chosen_QE @ weights.outer_bias
    outputs_NKD = _ReturnRows.apply(outer_QD, places_P).view(*experts_NK.shape, -1)
    if training and masking:
        weights_NK = weights_NK * (torch.rand_like(weights_NK) >= masking)
    elif masking:
        weights_NK = weights_NK * (1 - masking)
    mixed_ND = (outputs_NKD * weights_NK.to(x_ND.dtype)[..., None]).sum(1)

    share_N1 = (is_token_N / is_token_N.sum().clamp_min(1))[:, None]
    first_NE = experts_NK[:, :1] == numbers_E
    balance = count * ((gates_NE * share_N1).sum(0) * (first_NE * share_N1).sum(0)).sum()
    return mixed_ND, balance


def _arrange(experts_NK: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return tokens_Q, places_P of each token's pairs, experts_Q, and where experts' rows end."""
    flat_P = experts_NK.flatten()
    pairs = len(flat_P)
    sorted_P, order_P = flat_P.sort(stable=True)
    numbers_E = torch.arange(count, device=flat_P.device)
    ends_E = torch.searchsorted(sorted_P, numbers_E, right=True)
    counts_E = torch.diff(ends_E, prepend=ends_E.new_zeros(1))
    padded_E = (counts_E + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    padded_ends_E = padded_E.cumsum(0)
    # How far an expert's rows move because of the fillers before them.
    shift_E = (padded_ends_E - padded_E) - (ends_E - counts_E)
    sorted_places_P = torch.arange(pairs, device=flat_P.device) + shift_E[sorted_P]
    places_P = torch.empty_like(order_P).scatter_(0, order_P, sorted_places_P)
    rows = pairs + ALIGNMENT * count
    tokens_Q = flat_P.new_zeros(rows)
    tokens_Q = tokens_Q.scatter_(0, sorted_places_P, order_P // EXPERTS_PER_TOKEN)
    padded_ends_E = torch.where(numbers_E == count - 1, rows, padded_ends_E)
    places_Q = torch.arange(rows, device=flat_P.device)
    experts_Q = torch.searchsorted(padded_ends_E, places_Q, right=True).clamp_max(count - 1)
    return tokens_Q, places_P, experts_Q, padded_ends_E.to(torch.int32)
