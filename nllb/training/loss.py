"""The training loss of one micro-batch, and the chance that belongs to it.

Loss = label-smoothed cross entropy, summed over the labels, + weight * labels * sum over sparse
layers of the balance loss (fairseq's moe_label_smoothed_cross_entropy with its combination `sum`).
The gradient is divided once a step by the labels of all micro-batches on all ranks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nllb.model.moe import MixtureOfExperts
from nllb.model.transformer import Transformer
from nllb.training.reader import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLoss:
    """What one micro-batch gave."""

    loss: Tensor
    """Sum to differentiate."""
    negative_log_likelihood: Tensor
    """Sum over the labels, without smoothing; detached."""
    balance: Tensor
    """Sum of the balance losses of the sparse layers; detached."""


class LossModule(nn.Module):
    """The model with its loss, so that a data-parallel wrapper sees one forward pass."""

    def __init__(
        self, model: Transformer, *, label_smoothing: float, balance_weight: float
    ) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing, self.balance_weight = label_smoothing, balance_weight
        self._sparse = [part for part in model.modules() if isinstance(part, MixtureOfExperts)]

    def forward(self, source: Tensor, target_in: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return (loss, negative log-likelihood, balance), each a sum over the batch."""
        memory_BSD = self.model.encode(source)
        states_BTD = self.model.decode(target_in, memory_BSD, source)
        counts_BT = labels != self.model.config.pad_id
        logits_NV = self.model.project(states_BTD[counts_BT]).float()
        loss, likelihood = smoothed_cross_entropy(
            logits_NV, labels[counts_BT], self.label_smoothing
        )
        balance = loss.new_zeros(())
        if self.training:
            for layer in self._sparse:
                assert layer.report is not None
                balance = balance + layer.report.balance_loss
            if self.balance_weight and self._sparse:
                loss = loss + self.balance_weight * len(logits_NV) * balance
        return loss, likelihood, balance.detach()

    def of(self, batch: Batch, wrapper: nn.Module | None = None) -> BatchLoss:
        """Compute the loss of a micro-batch, through the data-parallel wrapper if there is one."""
        loss, likelihood, balance = (wrapper or self)(batch.source, batch.target_in, batch.labels)
        return BatchLoss(loss=loss, negative_log_likelihood=likelihood, balance=balance)


def smoothed_cross_entropy(
    logits_NV: Tensor, labels_N: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Return the sums of the smoothed loss and of the plain one, which carries no gradient.

    fairseq spreads `smoothing` over the V - 1 other tokens; torch over all V, so torch is given
    smoothing * V / (V - 1), which is the same.
    """
    num_tokens = logits_NV.shape[-1]
    smoothed = functional.cross_entropy(
        logits_NV,
        labels_N,
        reduction="sum",
        label_smoothing=smoothing * num_tokens / (num_tokens - 1),
    )
    with torch.no_grad():
        chosen_N = logits_NV.gather(1, labels_N[:, None]).squeeze(1)
        plain = (logits_NV.logsumexp(1) - chosen_N).sum()
    return smoothed, plain


def seed_batch(seed: int, step: int, batch: int) -> None:
    """Seed dropout and masking: a function of the run, the step and the micro-batch.

    So no state of a generator has to be kept, and another number of ranks draws the same.
    """
    state = np.random.SeedSequence([seed, step, batch]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0] >> np.uint64(1)))
