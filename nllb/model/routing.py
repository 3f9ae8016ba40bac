"""Which experts see which token: softmax top-2 gating (NLLB Team 2022, 6.2; fairseq's top2gate).

`route` is evaluation: the two best experts, nothing dropped. `route_for_training` adds what
training has: policies for the second expert, capacity, and the load-balancing loss. With a capacity
every number equals fairseq's (mode `gshard`); without one no token is dropped (`dropless`).

Shapes: S rows with padding, N tokens, E experts, K = 2, P = kept pairs, numbered slot * S + row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nllb.model.configuration import SecondExpertPolicy
from nllb.model.routing_options import EXPERTS_PER_TOKEN, RoutingOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutingReport:
    """What one pass through one sparse layer decided."""

    balance_loss: Tensor
    """E * sum_e m_e * c_e: 1 where all experts are used alike; its gradient flows through m."""
    load_E: Tensor
    """Tokens that each expert computed, as first or second choice."""
    num_pairs: int
    """(token, expert) pairs that were asked for."""
    requested_E: Tensor
    """Pairs that the router assigned to each expert, before capacity drops any."""

    @property
    def num_dropped(self) -> int:
        """Pairs that capacity dropped."""
        return self.num_pairs - int(self.load_E.sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class Routing:
    """The pairs of a batch that are computed, and how their outputs are weighted."""

    order_P: Tensor
    """Numbers of the kept pairs, sorted by expert."""
    counts_E: list[int]
    """Kept pairs of each expert."""
    weights_SK: Tensor
    """Weights of both slots; 0 where nothing was kept."""
    report: RoutingReport
    """Figures for the loss and the log."""


def route(logits_NE: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the two best experts of each token: (weights_NK of sum 1, experts_NK, best first).

    Chosen by logit, not by probability, so that a saturated softmax does not make the second choice
    arbitrary.
    """
    experts_NK = logits_NE.topk(EXPERTS_PER_TOKEN, dim=-1).indices
    chosen_NK = logits_NE.softmax(dim=-1).gather(-1, experts_NK)
    return _normalized(chosen_NK), experts_NK


def route_for_training(
    logits_SE: Tensor, is_token_S: Tensor | None, options: RoutingOptions
) -> Routing:
    """Route a batch; rows that are no tokens count in S, and go to no expert.

    Every first choice stands before every second choice in an expert's queue; who stands at its
    capacity or beyond is dropped. Gradients flow through the weights and the balance loss, not
    through choices or dropping.
    """
    num_rows, num_experts = logits_SE.shape
    gates_SE = logits_SE.softmax(dim=-1)
    experts_SK = _choose(logits_SE.detach(), options.second_expert_policy)
    gates_SK = gates_SE.gather(-1, experts_SK)
    weights_SK = _normalized(gates_SK) if options.normalize_before_dropping else gates_SK
    asks_SK = torch.ones_like(experts_SK, dtype=torch.bool)
    if is_token_S is not None:
        asks_SK = asks_SK & is_token_S[:, None]
    first_E = torch.bincount(experts_SK[asks_SK[:, 0], 0], minlength=num_experts)
    if options.second_expert_policy == "random":
        drawn_S = torch.rand(num_rows, device=logits_SE.device, dtype=weights_SK.dtype)
        asks_SK[:, 1] &= 2 * weights_SK[:, 1].detach() > drawn_S
    order_P, counts_E, requested_E = _fill(
        experts_SK,
        asks_SK,
        num_experts=num_experts,
        capacity=options.capacity_of(num_rows, num_experts),
        priority_S=gates_SE.detach().amax(-1) if options.batch_prioritized else None,
    )
    kept_KS = torch.zeros(experts_SK.T.shape, dtype=weights_SK.dtype, device=logits_SE.device)
    kept_KS.view(-1)[order_P] = 1
    weights_SK = weights_SK * kept_KS.T
    if not options.normalize_before_dropping:
        weights_SK = _normalized(weights_SK)
    balance_loss = num_experts * (gates_SE.mean(0) * (first_E / num_rows)).sum()
    report = RoutingReport(
        balance_loss=balance_loss,
        load_E=torch.tensor(counts_E),
        num_pairs=int(asks_SK.sum()),
        requested_E=requested_E,
    )
    return Routing(order_P=order_P, counts_E=counts_E, weights_SK=weights_SK, report=report)


def _choose(logits_SE: Tensor, policy: SecondExpertPolicy) -> Tensor:
    if policy != "sampling":
        return logits_SE.topk(EXPERTS_PER_TOKEN, dim=-1).indices
    first_S1 = logits_SE.argmax(-1, keepdim=True)
    noise_SE = -torch.empty_like(logits_SE).exponential_().log()  # Gumbel
    others_SE = (logits_SE + noise_SE).scatter(-1, first_S1, -torch.inf)
    return torch.cat([first_S1, others_SE.argmax(-1, keepdim=True)], dim=-1)


def _fill(
    experts_SK: Tensor,
    asks_SK: Tensor,
    *,
    num_experts: int,
    capacity: int | None,
    priority_S: Tensor | None,
) -> tuple[Tensor, list[int], Tensor]:
    """Queue the pairs that ask for an expert: (order_P of pairs that get in, counts_E, asked_E)."""
    num_rows = len(experts_SK)
    wanted_KS = torch.where(asks_SK, experts_SK, num_experts).T  # who asks for none stands last
    rows_S = torch.arange(num_rows, device=experts_SK.device)
    if priority_S is not None:
        rows_S = priority_S.argsort(descending=True, stable=True)
    queue_P = torch.cat([rows_S, num_rows + rows_S])
    queued_P = wanted_KS.reshape(-1)[queue_P]
    sorted_P = queued_P.argsort(stable=True)
    counts = requested_E = torch.bincount(queued_P, minlength=num_experts + 1)[:num_experts]
    length = int(counts.sum())
    order_P = queue_P[sorted_P[:length]]
    if capacity is not None:
        starts_E = counts.cumsum(0) - counts
        experts_P = queued_P[sorted_P[:length]]
        place_P = torch.arange(length, device=order_P.device) - starts_E[experts_P]
        order_P = order_P[place_P < capacity]
        counts = counts.clamp_max(capacity)
    return order_P, counts.tolist(), requested_E


def _normalized(chosen_NK: Tensor) -> Tensor:
    smallest = torch.finfo(chosen_NK.dtype).eps
    return chosen_NK / chosen_NK.sum(-1, keepdim=True).clamp_min(smallest)
