"""Sums of a run's measurements since the last record: losses, labels and the load of experts.

Everything is accumulated on the device; ranks communicate only when a record is due.
"""

import logging
from typing import Any

import torch
from torch import Tensor

from nllb.model.moe import MixtureOfExperts
from nllb.model.transformer import Transformer
from nllb.training.distributed.ranks import Ranks
from nllb.training.loss import BatchLoss

_log = logging.getLogger(__name__)


class StepStatistics:
    """Sums over the micro-batches since the last record."""

    def __init__(self, model: Transformer, ranks: Ranks) -> None:
        self._ranks = ranks
        self._layers = {
            name.removesuffix(".feed_forward"): layer
            for name, layer in model.named_modules()
            if isinstance(layer, MixtureOfExperts)
        }
        self._warned: set[tuple[str, int]] = set()
        self._reset()

    def _reset(self) -> None:
        device = self._ranks.device
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        self._loads = {
            name: torch.zeros(layer.num_experts + 1, dtype=torch.float64)
            for name, layer in self._layers.items()
        }

    def add(self, result: BatchLoss, num_targets: int) -> None:
        """Add a micro-batch."""
        sums = [result.loss.detach(), result.negative_log_likelihood, result.balance]
        self._sums[:3] += torch.stack(sums).double()
        self._sums[3] += num_targets
        for name, layer in self._layers.items():
            assert layer.report is not None
            self._loads[name][:-1] += layer.report.load_E
            self._loads[name][-1] += layer.report.num_pairs

    def take(self, num_batches: int) -> dict[str, Any]:
        """Return the means over all ranks since the last call, and reset the sums."""
        sums = self._ranks.sum(self._sums).tolist()
        targets = max(1.0, sums[3])
        values: dict[str, Any] = {
            "loss": sums[0] / targets,
            "negative_log_likelihood": sums[1] / targets,
            "targets": int(sums[3]),
        }
        if self._layers:
            values["balance"] = sums[2] / max(1, num_batches) / len(self._layers)
            values |= self._experts()
        self._reset()
        return values

    def _experts(self) -> dict[str, Any]:
        shares, dropped = {}, {}
        for name, load in self._loads.items():
            total = self._ranks.sum(load.to(self._ranks.device)).cpu()
            computed = max(1.0, float(total[:-1].sum()))
            shares[name] = [round(float(count) / computed, 4) for count in total[:-1]]
            dropped[name] = round(1 - computed / max(1.0, float(total[-1])), 4)
            self._warn(name, total[:-1])
        largest = max(max(share) * len(share) for share in shares.values())
        smallest = min(min(share) * len(share) for share in shares.values())
        return {
            "dropped": max(dropped.values()),
            "largest_load": largest,
            "smallest_load": smallest,
            "expert_load": shares,
            "expert_dropped": dropped,
        }

    def _warn(self, layer: str, counts_E: Tensor) -> None:
        for expert in (counts_E == 0).nonzero().flatten().tolist():
            if (layer, expert) not in self._warned and self._ranks.is_first:
                _log.warning(
                    "expert %d of %s received no token since the last record; if this persists, "
                    "raise routing.balance_weight",
                    expert,
                    layer,
                )
            self._warned.add((layer, expert))
