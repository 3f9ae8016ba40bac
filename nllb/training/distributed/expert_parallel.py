"""Expert parallelism: rows travel to the rank of their expert and back by all-to-all.

Rank r of R has the experts r * E / R to (r + 1) * E / R - 1. Each rank routes its own rows, so
capacity, masking and the balance loss are the same as with replicated experts.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from nllb.errors import ConfigError
from nllb.model.moe import MixtureOfExperts, run_experts

from .ranks import Ranks


def spread_experts(model: nn.Module, ranks: Ranks) -> None:
    """Keep this rank's share of the experts and connect the ranks.

    Raises:
        ConfigError: The experts cannot be divided equally among the ranks.
    """
    for layer in model.modules():
        if not isinstance(layer, MixtureOfExperts):
            continue
        if layer.num_experts % ranks.size:
            raise ConfigError(
                f"{layer.num_experts} experts cannot be shared equally by {ranks.size} ranks; use "
                f"a number of ranks that divides them, or set parallel.experts: false"
            )
        share = layer.num_experts // ranks.size
        layer.keep_experts(range(ranks.rank * share, (ranks.rank + 1) * share))
        layer.run_experts = ExpertExchange(ranks)


def drop_exchange(model: nn.Module, probability: float, *, seed: int, step: int) -> None:
    """Decide for one step whether ranks exchange tokens (gating dropout).

    All ranks draw the same decision from the seed, without communication.
    """
    stays_local = bool(np.random.default_rng([seed, step, *b"gating"]).random() < probability)
    for layer in model.modules():
        if isinstance(layer, MixtureOfExperts) and isinstance(layer.run_experts, ExpertExchange):
            layer.run_experts.stays_local = stays_local


def spread_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of the experts that only this rank has."""
    for layer in model.modules():
        if isinstance(layer, MixtureOfExperts) and isinstance(layer.run_experts, ExpertExchange):
            yield from layer.experts.parameters()


class ExpertExchange:
    """Runs rows that are sorted by expert through experts that are spread over all ranks."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.stays_local = False
        """Gating dropout of this step: rows stay on their rank, and each remote expert is replaced
        by the local expert of the same position (fairseq's `moe_local_drop`)."""

    def __call__(
        self, experts: Mapping[int, nn.Module], sorted_PD: Tensor, counts_E: Sequence[int]
    ) -> Tensor:
        """Return the rows' outputs in the same order."""
        share = len(experts)
        sent = torch.tensor(counts_E, device=sorted_PD.device).view(self._ranks.size, share)
        received = torch.empty_like(sent)
        is_local = self.stays_local and any(expert.training for expert in experts.values())
        if is_local:
            received, arrived_PD = sent, sorted_PD
        else:
            distributed.all_to_all_single(received, sent)
            to_ranks, from_ranks = sent.sum(1).tolist(), received.sum(1).tolist()
            arrived_PD = _exchange(sorted_PD, from_ranks, to_ranks)
        # Rows arrive ordered by (rank, expert); experts need them ordered by (expert, rank).
        experts_P = torch.arange(share, device=sorted_PD.device).repeat(self._ranks.size)
        experts_P = experts_P.repeat_interleave(received.flatten())
        order_P = experts_P.argsort(stable=True)
        local = dict(enumerate(experts[number] for number in sorted(experts)))
        outputs_PD = run_experts(local, arrived_PD[order_P], received.sum(0).tolist())
        back_PD = torch.empty_like(outputs_PD).index_copy(0, order_P, outputs_PD)
        return back_PD if is_local else _exchange(back_PD, to_ranks, from_ranks)


def _exchange(rows: Tensor, received: list[int], sent: list[int]) -> Tensor:
    exchanged: Tensor = _Exchange.apply(rows, received, sent)  # type: ignore[no-untyped-call]
    return exchanged


class _Exchange(torch.autograd.Function):
    """An all-to-all of rows, whose gradient is the all-to-all back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, received: list[int], sent: list[int]) -> Tensor:
        ctx.received, ctx.sent = received, sent
        return _all_to_all(rows, received, sent)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _all_to_all(gradients[0], ctx.sent, ctx.received), None, None


def _all_to_all(rows: Tensor, received: list[int], sent: list[int]) -> Tensor:
    output = rows.new_empty(sum(received), *rows.shape[1:])
    distributed.all_to_all_single(output, rows.contiguous(), received, sent)
    return output
