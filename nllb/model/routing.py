"""Routes tokens to experts by softmax top-2 gating (NLLB Team 2022, 6.2; fairseq's top2gate).

`route` is used for evaluation: it chooses the two best experts and drops no token.
`route_for_training` adds the policies for the second expert, the expert capacity and the
load-balancing loss. With a capacity (mode `gshard`), all results equal those of fairseq; without
one (mode `dropless`), no token is dropped.

Shapes: S rows with padding, N tokens, E experts, K = 2, P = kept pairs, numbered slot * S + row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .configuration import SecondExpertPolicy
from .routing_options import EXPERTS_PER_TOKEN, RoutingOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutingReport:
    """Routing statistics of one forward pass through one sparse layer.

    Attributes:
        balance_loss: E * sum_e m_e * c_e, which is 1 for uniform expert use; its gradient flows
            through m.
        load_E: number of tokens that each expert computed, as first or second choice.
        num_pairs: number of (token, expert) pairs that the router requested.
        requested_E: number of pairs that the router requested for each expert, before capacity
            drops any.
    """

    balance_loss: Tensor
    load_E: Tensor
    num_pairs: int
    requested_E: Tensor

    @property
    def num_dropped(self) -> int:
        """Number of pairs that were dropped because an expert was at capacity."""
        return self.num_pairs - int(self.load_E.sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class Routing:
    """The (token, expert) pairs of a batch that are computed, and the weights of their outputs.

    Attributes:
        order_P: indices of the kept pairs, sorted by expert.
        counts_E: number of kept pairs of each expert.
        weights_SK: weights of both slots; 0 where the pair was dropped.
        report: statistics for the loss and the log.
    """

    order_P: Tensor
    counts_E: list[int]
    weights_SK: Tensor
    report: RoutingReport


def route(logits_NE: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the two best experts of each token.

    The experts are chosen by logit instead of probability, so that a saturated softmax does not
    make the second choice arbitrary.

    Returns:
        weights_NK, which sum to 1 for each token, and experts_NK, best first.
    """
    experts_NK = logits_NE.topk(EXPERTS_PER_TOKEN, dim=-1).indices
    chosen_NK = logits_NE.softmax(dim=-1).gather(-1, experts_NK)
    return _normalized(chosen_NK), experts_NK


def route_for_training(
    logits_SE: Tensor, is_token_S: Tensor | None, options: RoutingOptions
) -> Routing:
    """Route a batch. Padding rows count towards S, but are not sent to any expert.

    In the queue of an expert, all first choices precede all second choices, and pairs beyond its
    capacity are dropped. Gradients flow through the weights and the balance loss, but not through
    the choice of experts or the dropping.
    """
    num_rows, num_experts = logits_SE.shape
    gates_SE = logits_SE.softmax(dim=-1)
    experts_SK = _choose(logits_SE.detach(), options.second_expert_policy)
    gates_SK = gates_SE.gather(-1, experts_SK)
    weights_SK = _normalized(gates_SK) if options.normalize_before_dropping else gates_SK
    requested_SK = torch.ones_like(experts_SK, dtype=torch.bool)
    if is_token_S is not None:
        requested_SK = requested_SK & is_token_S[:, None]
    numbers_E = torch.arange(num_experts, device=logits_SE.device)
    first_E = ((experts_SK[:, :1] == numbers_E) & requested_SK[:, :1]).sum(0)
    if options.second_expert_policy == "random":
        drawn_S = torch.rand(num_rows, device=logits_SE.device, dtype=weights_SK.dtype)
        requested_SK[:, 1] &= 2 * weights_SK[:, 1].detach() > drawn_S
    order_P, counts_E, requested_E, num_pairs = _fill(
        experts_SK,
        requested_SK,
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
        num_pairs=num_pairs,
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
    requested_SK: Tensor,
    *,
    num_experts: int,
    capacity: int | None,
    priority_S: Tensor | None,
) -> tuple[Tensor, list[int], Tensor, int]:
    """Assign the requested pairs to the experts' queues, up to the capacity.

    On a GPU, the CPU waits once, for the counts.

    Returns:
        order_P of the kept pairs, their counts_E, and requested_E and their sum before capacity.
    """
    num_rows = len(experts_SK)
    # Pairs that are not requested get the expert number E, which sorts last.
    wanted_KS = torch.where(requested_SK, experts_SK, num_experts).T
    rows_S = torch.arange(num_rows, device=experts_SK.device)
    if priority_S is not None:
        rows_S = priority_S.argsort(descending=True, stable=True)
    queue_P = torch.cat([rows_S, num_rows + rows_S])
    queued_P = wanted_KS.reshape(-1)[queue_P]
    sorted_P = queued_P.argsort(stable=True)
    numbers_E = torch.arange(num_experts, device=experts_SK.device)
    ends_E = torch.searchsorted(queued_P[sorted_P], numbers_E, right=True)
    requested_E = torch.diff(ends_E, prepend=ends_E.new_zeros(1))
    requested = requested_E.tolist()
    counts, length = requested, sum(requested)
    order_P = queue_P[sorted_P[:length]]
    if capacity is not None:
        experts_P = queued_P[sorted_P[:length]]
        starts_E = ends_E - requested_E
        position_P = torch.arange(length, device=order_P.device) - starts_E[experts_P]
        order_P = order_P[position_P < capacity]
        counts = [min(count, capacity) for count in requested]
    return order_P, counts, requested_E, length


def _normalized(chosen_NK: Tensor) -> Tensor:
    smallest = torch.finfo(chosen_NK.dtype).eps
    return chosen_NK / chosen_NK.sum(-1, keepdim=True).clamp_min(smallest)
