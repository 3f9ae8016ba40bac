"""Validation: loss per direction on held-out pairs, and optionally chrF++ of translations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nllb.io.manifest import TrainingDirection
from nllb.model.transformer import Transformer

from .batches.reader import Batch
from .distributed.data_parallel import ParallelModel
from .distributed.ranks import Ranks
from .loss import LossModule

Scorer = Callable[[Transformer], Mapping[str, float]]
"""Translates held-out pairs with a model and returns chrF++ per direction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationResult:
    """The result of one validation.

    Attributes:
        loss: negative log-likelihood per label, averaged over directions.
        losses: negative log-likelihood per label of each direction.
        chrf: chrF++ of each direction; empty if nothing was translated.
    """

    loss: float
    losses: dict[str, float]
    chrf: dict[str, float]

    def record(self) -> dict[str, object]:
        """Return the result as a metrics record."""
        values: dict[str, object] = {"loss": self.loss, "loss_by_direction": self.losses}
        if self.chrf:
            values |= {"chrf": self.mean_chrf, "chrf_by_direction": self.chrf}
        return values

    @property
    def mean_chrf(self) -> float:
        """chrF++ averaged over directions."""
        return sum(self.chrf.values()) / max(1, len(self.chrf))


class Validator:
    """Computes validation results on fixed held-out batches, shared among the ranks."""

    def __init__(
        self,
        model: ParallelModel,
        batches: Sequence[tuple[TrainingDirection, Sequence[Batch]]],
        ranks: Ranks,
        *,
        scorer: Scorer | None = None,
    ) -> None:
        self._model, self._batches, self._ranks, self._scorer = model, batches, ranks, scorer

    def __len__(self) -> int:
        return len(self._batches)

    @torch.no_grad()
    def run(self) -> ValidationResult:
        """Validate, and leave the model in training mode."""
        module: LossModule = self._model.module
        module.eval()
        sums = torch.zeros(len(self._batches), 2, dtype=torch.float64, device=self._ranks.device)
        # Ranks that share experts or weights must run the same passes: each processes all batches.
        share = 1 if self._model.has_collective_passes else self._ranks.size
        number = 0
        for row, (_, batches) in enumerate(self._batches):
            for batch in batches:
                if number % share == self._ranks.rank % share:
                    result = module.compute(batch.to(self._ranks.device))
                    sums[row, 0] += result.negative_log_likelihood.double()
                    sums[row, 1] += batch.num_targets
                number += 1
        if share > 1:
            sums = self._ranks.sum(sums)
        chrf: Mapping[str, float] = {}
        if self._scorer is not None:
            found = self._scorer(module.model) if self._ranks.is_first else {}
            chrf = self._ranks.broadcast(found)
        module.train()
        losses = {
            direction.name: float(total / max(1.0, count))
            for (direction, _), (total, count) in zip(self._batches, sums.tolist(), strict=True)
        }
        mean = sum(losses.values()) / max(1, len(losses))
        return ValidationResult(loss=mean, losses=losses, chrf=dict(chrf))
