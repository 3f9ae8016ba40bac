"""The mixture-of-experts layer of NLLB (NLLB Team 2022, 6.2), with two experts per token.

Design:
* Tokens are sorted by expert, and only experts with tokens are computed. There are no one-hot
  dispatch tensors.
* The router computes in float32, regardless of the model's dtype.
* Padding is not routed to any expert.
* Evaluation never drops a token and always uses the second-best expert.
* In training, `routing.py` implements capacity, policies and the load-balancing loss.
* The function that runs the experts can be replaced: they run in this process by default, or on
  other ranks (`nllb.training.distributed`).

Shapes: S rows of a batch with padding, N tokens, D model dim, E experts, K = 2 experts per token,
P = (token, expert) pairs, numbered with all first choices before all second choices.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration import ModelConfig, Side
from .grouped_experts import can_group, run_grouped_experts
from .routing import RoutingReport, route, route_for_training
from .routing_options import EXPERTS_PER_TOKEN, RoutingOptions

__all__ = ["EXPERTS_PER_TOKEN", "FeedForward", "MixtureOfExperts", "route", "sort_by_expert"]

ROWS_MULTIPLE = 128
"""In low-precision training on a CPU, each expert's rows are padded to a multiple of this."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


class FeedForward(nn.Module):
    """The dense feed-forward layer, which is also the form of one expert.

    Output dropout is applied inside this layer, as in fairseq, so that each expert of a sparse
    layer has its own dropout mask.
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


def sort_by_expert(experts_NK: Tensor, num_experts: int) -> tuple[Tensor, list[int]]:
    """Order the pairs by expert, then by token.

    Returns:
        order_P, the indices of the pairs, and the number of pairs of each expert.
    """
    flat_P = experts_NK.flatten()
    return flat_P.argsort(stable=True), torch.bincount(flat_P, minlength=num_experts).tolist()


class ExpertRunner(Protocol):
    """Runs the experts, which may be on other ranks, on rows that are sorted by expert."""

    def __call__(
        self, experts: Mapping[int, nn.Module], sorted_PD: Tensor, counts_E: Sequence[int]
    ) -> Tensor:
        """Return the rows' outputs in the same order.

        `experts` contains the experts of this process.
        """
        ...


def run_experts(
    experts: Mapping[int, nn.Module], sorted_PD: Tensor, counts_E: Sequence[int]
) -> Tensor:
    """Run all experts in this process.

    In training, an expert without rows runs as well, so that its gradient is zero instead of
    missing and all ranks reduce the same tensors.
    """
    if can_group(experts, sorted_PD):
        return run_grouped_experts(experts, sorted_PD, counts_E)
    outputs = [
        _run_padded(experts[expert], part_ND)
        for expert, part_ND in enumerate(torch.split(sorted_PD, list(counts_E)))
        if len(part_ND) or experts[expert].training
    ]
    return torch.cat(outputs) if outputs else sorted_PD


def _run_padded(expert: nn.Module, part_ND: Tensor) -> Tensor:
    """Run one expert, padding its rows with zeros for low-precision products on a CPU.

    oneDNN compiles a kernel for each number of rows that is not in its cache, which took a seventh
    of a training step. The padding is removed from the output and has no gradient.
    """
    if expert.training and part_ND.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        padded_ND = functional.pad(part_ND, (0, 0, 0, -len(part_ND) % ROWS_MULTIPLE))
        output: Tensor = expert(padded_ND)[: len(part_ND)]
    else:
        output = expert(part_ND)
    return output


class MixtureOfExperts(nn.Module):
    """A feed-forward layer with experts and top-2 routing."""

    def __init__(self, config: ModelConfig, side: Side) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        self.router = nn.Linear(config.model_dim, config.num_experts, bias=config.router_bias)
        self.experts: nn.ModuleList | nn.ModuleDict = nn.ModuleList(
            FeedForward(config, side) for _ in range(config.num_experts)
        )
        self.output_masking = config.expert_output_masking
        self.options = RoutingOptions.from_config(config)
        self.run_experts: ExpertRunner = run_experts
        self.report: RoutingReport | None = None
        """Statistics of the last training pass; the training step reads the balance loss here."""

    def keep_experts(self, kept: Sequence[int]) -> None:
        """Remove all other experts from this process; the kept weights keep their names."""
        experts = self.by_number()
        self.experts = nn.ModuleDict({str(number): experts[number] for number in kept})

    def forward(self, x_ND: Tensor, is_token_N: Tensor | None = None) -> Tensor:
        """Map rows of any leading shape; the output is zero where `is_token_N` is false."""
        shape = x_ND.shape
        x_SD = x_ND.reshape(-1, shape[-1])
        if self.training:
            is_token_S = None if is_token_N is None else is_token_N.reshape(-1)
            return self._train(x_SD, is_token_S).view(shape)
        kept_N = None if is_token_N is None else is_token_N.reshape(-1).nonzero().squeeze(1)
        weights_NK, experts_NK = route(self._logits(x_SD if kept_N is None else x_SD[kept_N]))
        order_P, counts_E = sort_by_expert(experts_NK.T, self.num_experts)
        tokens_P = order_P % len(experts_NK)
        weights_P = weights_NK.T.flatten()[order_P]
        weights_P = weights_P * (1 - self.output_masking) * (1 - self.options.final_output_masking)
        tokens_P = tokens_P if kept_N is None else kept_N[tokens_P]
        return self._mix(x_SD, tokens_P, weights_P, counts_E).view(shape)

    def _train(self, x_SD: Tensor, is_token_S: Tensor | None) -> Tensor:
        routing = route_for_training(self._logits(x_SD), is_token_S, self.options)
        self.report = routing.report
        weights_P = routing.weights_SK.T.flatten()[routing.order_P]
        if self.output_masking:  # masks whole rows without rescaling (NLLB Team 2022, 6.2.3)
            drawn_P1 = torch.rand(len(weights_P), 1, device=x_SD.device)
            weights_P = weights_P * (drawn_P1[:, 0] >= self.output_masking)
        tokens_P = routing.order_P % len(x_SD)
        mixed_SD = self._mix(x_SD, tokens_P, weights_P, routing.counts_E)
        if masking := self.options.final_output_masking:
            mixed_SD = mixed_SD * (torch.rand(len(mixed_SD), 1, device=x_SD.device) >= masking)
        return mixed_SD

    def _mix(
        self, x_SD: Tensor, tokens_P: Tensor, weights_P: Tensor, counts_E: Sequence[int]
    ) -> Tensor:
        """Sum the weighted outputs of each token's experts.

        A row has at most two summands, so the nondeterministic order of additions on a GPU does
        not change the result.
        """
        sorted_PD = self.run_experts(self.by_number(), x_SD.index_select(0, tokens_P), counts_E)
        weighted_PD = sorted_PD * weights_P.to(sorted_PD.dtype)[:, None]
        # Under autocast, the dtype differs from that of the input.
        return weighted_PD.new_zeros(x_SD.shape).index_add(0, tokens_P, weighted_PD)

    def _logits(self, x_ND: Tensor) -> Tensor:
        with torch.autocast(x_ND.device.type, enabled=False):
            bias = None if self.router.bias is None else self.router.bias.float()
            return functional.linear(x_ND.float(), self.router.weight.float(), bias)

    def by_number(self) -> dict[int, nn.Module]:
        """Return the experts of this process by their number."""
        if isinstance(self.experts, nn.ModuleDict):
            return {int(number): expert for number, expert in self.experts.items()}
        return dict(enumerate(self.experts))
