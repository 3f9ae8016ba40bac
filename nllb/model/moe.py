"""The mixture-of-experts layer of NLLB (NLLB Team 2022, 6.2): two experts of many see a token.

Notable:
* tokens are sorted by expert, and only experts that got a token are computed: no one-hot dispatch
  tensors;
* the router works in float32 whatever the model's type;
* padding is routed to no expert;
* at evaluation no token is ever dropped, and the second best expert is always taken.

Shapes: N tokens, D model dim, E experts, K = 2 experts a token, P = (token, expert) pairs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nllb.model.config import ModelConfig, Side

EXPERTS_PER_TOKEN = 2
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


class FeedForward(nn.Module):
    """The dense feed-forward layer; one expert has the same form.

    Dropout of the output is applied in here, as fairseq does it: in a sparse layer each expert
    drops its own.
    """

    def __init__(self, config: ModelConfig, side: Side) -> None:
        super().__init__()
        self.inner = nn.Linear(config.model_dim, config.ffn_dim(side))
        self.outer = nn.Linear(config.ffn_dim(side), config.model_dim)
        self.activation = _ACTIVATIONS[config.activation]
        self.dropout, self.activation_dropout = config.dropout, config.activation_dropout

    def forward(self, x_ND: Tensor) -> Tensor:
        """Map rows of any leading shape."""
        inner = functional.dropout(
            self.activation(self.inner(x_ND)), self.activation_dropout, self.training
        )
        return functional.dropout(self.outer(inner), self.dropout, self.training)


def route(logits_NE: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the two best experts of each token: (weights_NK of sum 1, experts_NK, best first).

    Chosen by logit, not by probability, so that a saturated softmax does not make the second choice
    arbitrary.
    """
    experts_NK = logits_NE.topk(EXPERTS_PER_TOKEN, dim=-1).indices
    chosen_NK = logits_NE.softmax(dim=-1).gather(-1, experts_NK)
    smallest = torch.finfo(chosen_NK.dtype).eps
    return chosen_NK / chosen_NK.sum(-1, keepdim=True).clamp_min(smallest), experts_NK


def sort_by_expert(experts_NK: Tensor, num_experts: int) -> tuple[Tensor, list[int]]:
    """Order the pairs by expert, then by token: (order_P of pair numbers, pairs by expert)."""
    flat_P = experts_NK.flatten()
    return flat_P.argsort(stable=True), torch.bincount(flat_P, minlength=num_experts).tolist()


class MixtureOfExperts(nn.Module):
    """Top-2 routed experts in place of a feed-forward layer."""

    def __init__(self, config: ModelConfig, side: Side) -> None:
        super().__init__()
        self.router = nn.Linear(config.model_dim, config.num_experts, bias=config.router_bias)
        self.experts = nn.ModuleList(FeedForward(config, side) for _ in range(config.num_experts))
        self.output_masking = config.expert_output_masking

    def forward(self, x_ND: Tensor, is_token_N: Tensor | None = None) -> Tensor:
        """Map rows of any leading shape; rows where `is_token_N` is false come back as zeros."""
        shape = x_ND.shape
        x_ND = x_ND.reshape(-1, shape[-1])
        if is_token_N is None:
            return self._mix(x_ND).view(shape)
        kept_N = is_token_N.reshape(-1).nonzero().squeeze(1)
        mixed_ND = self._mix(x_ND[kept_N])  # of another type than the input under autocast
        return (
            torch.zeros_like(x_ND, dtype=mixed_ND.dtype).index_copy(0, kept_N, mixed_ND).view(shape)
        )

    def _mix(self, x_ND: Tensor) -> Tensor:
        bias = None if self.router.bias is None else self.router.bias.float()
        weights_NK, experts_NK = route(
            functional.linear(x_ND.float(), self.router.weight.float(), bias)
        )
        order_P, counts_E = sort_by_expert(experts_NK, len(self.experts))
        sorted_PD = self._run_experts(x_ND[order_P // EXPERTS_PER_TOKEN], counts_E)
        if (
            self.training and self.output_masking
        ):  # whole rows, not rescaled (NLLB Team 2022, 6.2.3)
            keep_P1 = torch.rand(sorted_PD.shape[0], 1, device=x_ND.device) >= self.output_masking
            sorted_PD = sorted_PD * keep_P1
        else:
            sorted_PD = sorted_PD * (1 - self.output_masking)
        pairs_PD = torch.empty_like(sorted_PD).index_copy(0, order_P, sorted_PD)
        pairs_NKD = pairs_PD.view(-1, EXPERTS_PER_TOKEN, x_ND.shape[-1])
        return (pairs_NKD * weights_NK.to(pairs_NKD.dtype)[..., None]).sum(1)

    def _run_experts(self, sorted_PD: Tensor, counts_E: Sequence[int]) -> Tensor:
        rows = torch.split(sorted_PD, list(counts_E))
        outputs = [
            self.experts[expert](part_ND) for expert, part_ND in enumerate(rows) if len(part_ND)
        ]
        return torch.cat(outputs) if outputs else sorted_PD
