"""The mixture-of-experts layer of NLLB (NLLB Team 2022, 6.2): two experts of many see a token.

Notable:
* tokens are sorted by expert, and only experts that got a token are computed: no one-hot dispatch
  tensors;
* the router works in float32 whatever the model's type;
* padding is routed to no expert;
* at evaluation no token is ever dropped, and the second best expert is always taken;
* in training `routing.py` decides, with capacity, policies and the load-balancing loss;
* who runs the experts is a seam: here, or on other ranks (`nllb.training.distributed`).

Shapes: S rows of a batch with padding, N tokens, D model dim, E experts, K = 2 experts a token, P =
(token, expert) pairs, numbered with all first choices before all second ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from nllb.model.configuration import ModelConfig, Side
from nllb.model.grouped_experts import can_group, run_grouped_experts
from nllb.model.routing import RoutingReport, route, route_for_training
from nllb.model.routing_options import EXPERTS_PER_TOKEN, RoutingOptions

__all__ = ["EXPERTS_PER_TOKEN", "FeedForward", "MixtureOfExperts", "route", "sort_by_expert"]

ROWS_MULTIPLE = 128
"""Experts' rows in training on a CPU in low precision are filled up to a multiple of this."""

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


def sort_by_expert(experts_NK: Tensor, num_experts: int) -> tuple[Tensor, list[int]]:
    """Order the pairs by expert, then by token: (order_P of pair numbers, pairs by expert)."""
    flat_P = experts_NK.flatten()
    return flat_P.argsort(stable=True), torch.bincount(flat_P, minlength=num_experts).tolist()


class ExpertRunner(Protocol):
    """Runs rows that are sorted by expert through their experts, wherever those live."""

    def __call__(
        self, experts: Mapping[int, nn.Module], sorted_PD: Tensor, counts_E: Sequence[int]
    ) -> Tensor:
        """Return the rows' outputs in the same order; `experts` holds those of this process."""
        ...


def run_experts(
    experts: Mapping[int, nn.Module], sorted_PD: Tensor, counts_E: Sequence[int]
) -> Tensor:
    """Run all experts in this process.

    In training an expert without rows runs, too, so that its gradient is zero and not missing:
    all ranks then reduce the same tensors.
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
    """Run one expert; for low-precision products on a CPU with its rows filled up with zeros.

    oneDNN compiles a kernel for each number of rows that it has not seen lately, which took a
    seventh of a training step. The zeros are cut off again and so have no gradient.
    """
    if expert.training and part_ND.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        filled_ND = functional.pad(part_ND, (0, 0, 0, -len(part_ND) % ROWS_MULTIPLE))
        output: Tensor = expert(filled_ND)[: len(part_ND)]
    else:
        output = expert(part_ND)
    return output


class MixtureOfExperts(nn.Module):
    """Top-2 routed experts in place of a feed-forward layer."""

    def __init__(self, config: ModelConfig, side: Side) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        self.router = nn.Linear(config.model_dim, config.num_experts, bias=config.router_bias)
        self.experts: nn.ModuleList | nn.ModuleDict = nn.ModuleList(
            FeedForward(config, side) for _ in range(config.num_experts)
        )
        self.output_masking = config.expert_output_masking
        self.options = RoutingOptions.of_model(config)
        self.run_experts: ExpertRunner = run_experts
        self.report: RoutingReport | None = None
        """What the last training pass decided; the step takes the balance loss from here."""

    def keep_experts(self, kept: Sequence[int]) -> None:
        """Leave only these experts in this process; their weights keep their names."""
        experts = self.by_number()
        self.experts = nn.ModuleDict({str(number): experts[number] for number in kept})

    def forward(self, x_ND: Tensor, is_token_N: Tensor | None = None) -> Tensor:
        """Map rows of any leading shape; rows where `is_token_N` is false come back as zeros."""
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
        if self.output_masking:  # whole rows, not rescaled (NLLB Team 2022, 6.2.3)
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
        """Add up the weighted outputs of the experts of each token.

        A row gets two summands at most, so that their order, which a GPU leaves open, is nothing.
        """
        sorted_PD = self.run_experts(self.by_number(), x_SD.index_select(0, tokens_P), counts_E)
        weighted_PD = sorted_PD * weights_P.to(sorted_PD.dtype)[:, None]
        # Of another type than the input under autocast.
        return weighted_PD.new_zeros(x_SD.shape).index_add(0, tokens_P, weighted_PD)

    def _logits(self, x_ND: Tensor) -> Tensor:
        with torch.autocast(x_ND.device.type, enabled=False):
            bias = None if self.router.bias is None else self.router.bias.float()
            return functional.linear(x_ND.float(), self.router.weight.float(), bias)

    def by_number(self) -> dict[int, nn.Module]:
        """Return the experts that this process has."""
        if isinstance(self.experts, nn.ModuleDict):
            return {int(number): expert for number, expert in self.experts.items()}
        return dict(enumerate(self.experts))
