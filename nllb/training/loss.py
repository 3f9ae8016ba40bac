"""The training loss of one micro-batch, and the seeds of its dropout.

Loss = label-smoothed cross entropy, summed over the labels, + weight * labels * sum over sparse
layers of the balance loss (fairseq's moe_label_smoothed_cross_entropy with combination `sum`). With
a teacher, the cross entropy is weighted by 1 - alpha, and alpha * T^2 * KL(teacher || student) at
temperature T is added. With `softmax_negatives`, training uses a sampled softmax. Once per step,
the gradient is divided by the number of labels of all micro-batches on all ranks.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nllb.model.moe import MixtureOfExperts
from nllb.model.transformer import Transformer

from .batches.reader import Batch

ROWS = 512
"""Number of decoder states whose logits are in memory at the same time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLoss:
    """The losses of one micro-batch.

    Attributes:
        loss: the sum to differentiate.
        negative_log_likelihood: sum over the labels, without smoothing; detached.
        balance: sum of the balance losses of the sparse layers; detached.
    """

    loss: Tensor
    negative_log_likelihood: Tensor
    balance: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Teacher:
    """The teacher of online distillation; it is not a submodule of the model that is trained.

    Attributes:
        model: the teacher in evaluation mode, with the vocabulary of the student.
        temperature: divides the logits of teacher and student.
        alpha: weight of the distillation loss.
    """

    model: Transformer
    temperature: float
    alpha: float

    @torch.no_grad()
    def logits(self, source: Tensor, target_in: Tensor, counts_BT: Tensor) -> Tensor:
        """Return the teacher's logits_NV at the positions with labels."""
        states_BTD = self.model.decode(target_in, self.model.encode(source), source)
        return self.model.project(states_BTD[counts_BT]).float()

    def mix(self, loss: Tensor, logits_NV: Tensor, taught_NV: Tensor) -> Tensor:
        """Combine the cross entropy with the distillation loss."""
        student_NV, teacher_NV = (
            (logits / self.temperature).log_softmax(-1) for logits in (logits_NV, taught_NV)
        )
        divergence = (teacher_NV.exp() * (teacher_NV - student_NV)).sum()
        return (1 - self.alpha) * loss + self.alpha * self.temperature**2 * divergence


class LossModule(nn.Module):
    """The model with its loss in one forward pass, as data-parallel wrappers require."""

    def __init__(
        self,
        model: Transformer,
        *,
        label_smoothing: float,
        balance_weight: float,
        softmax_negatives: int = 0,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self._teacher = teacher
        self._negatives = softmax_negatives
        self.model = model
        self.label_smoothing, self.balance_weight = label_smoothing, balance_weight
        self._sparse = [part for part in model.modules() if isinstance(part, MixtureOfExperts)]

    def forward(self, source: Tensor, target_in: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return (loss, negative log-likelihood, balance), each a sum over the batch."""
        memory_BSD = self.model.encode(source)
        states_BTD = self.model.decode(target_in, memory_BSD, source)
        counts_BT = labels != self.model.config.pad_id
        # One search for the labels: on a GPU, the CPU waits for each.
        places_N = counts_BT.flatten().nonzero().squeeze(1)
        labels_N = labels.flatten()[places_N]
        states_ND = states_BTD.flatten(0, 1).index_select(0, places_N)
        weight_VD = self.model.embedding.weight
        negatives = self._negatives if self.training else 0
        loss, likelihood = smoothed_cross_entropy(
            states_ND,
            weight_VD,
            labels_N,
            self.label_smoothing,
            sample_tokens(labels_N, len(weight_VD), negatives) if negatives else None,
        )
        balance = loss.new_zeros(())
        if self.training and self._teacher is not None:
            taught_NV = self._teacher.logits(source, target_in, counts_BT)
            logits_NV = self.model.project(states_ND).float()
            loss = self._teacher.mix(loss, logits_NV, taught_NV)
        if self.training:
            for layer in self._sparse:
                assert layer.report is not None
                balance = balance + layer.report.balance_loss
            if self.balance_weight and self._sparse:
                loss = loss + self.balance_weight * len(labels_N) * balance
        return loss, likelihood, balance.detach()

    def compute(self, batch: Batch, wrapper: nn.Module | None = None) -> BatchLoss:
        """Compute the loss of a micro-batch, through the data-parallel wrapper if given."""
        loss, likelihood, balance = (wrapper or self)(batch.source, batch.target_in, batch.labels)
        return BatchLoss(loss=loss, negative_log_likelihood=likelihood, balance=balance)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledTokens:
    """The vocabulary subset of a sampled softmax: all labels of the batch, then random negatives.

    Shapes: C tokens, N labels.

    Attributes:
        ids_C: ids of the tokens, without duplicates.
        labels_N: index of each label among the tokens.
        log_weights_C: logarithm of the number of tokens that each token represents: 0 for a label.
    """

    ids_C: Tensor
    labels_N: Tensor
    log_weights_C: Tensor


def sample_tokens(labels_N: Tensor, vocabulary_size: int, negatives: int) -> SampledTokens | None:
    """Return the labels of a micro-batch and `negatives` tokens sampled uniformly from the rest.

    Each negative is weighted by the number of tokens that it represents, so that the expected
    partition function is that of the whole vocabulary. Returns None if no token would be excluded.

    Source: Jean et al. 2015, "On using very large target vocabulary for neural machine
    translation"; here with the labels of all directions of the batch and a uniform proposal.
    """
    present_U, places_N = labels_N.unique(return_inverse=True)
    absent = vocabulary_size - len(present_U)
    if negatives >= absent:
        return None
    chances_V = torch.rand(vocabulary_size, device=labels_N.device)
    chances_V[present_U] = -1.0
    drawn = chances_V.topk(negatives).indices
    log_weights_C = torch.zeros(len(present_U) + negatives, device=labels_N.device)
    log_weights_C[len(present_U) :] = math.log(absent / negatives)
    return SampledTokens(
        ids_C=torch.cat([present_U, drawn]), labels_N=places_N, log_weights_C=log_weights_C
    )


def smoothed_cross_entropy(
    states_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    smoothing: float,
    sampled: SampledTokens | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the sums of the smoothed loss and of the negative log-likelihood (without gradient).

    As in fairseq, `smoothing` is spread over the V - 1 other tokens. Logits and their gradient are
    computed for `ROWS` states at a time: with NLLB's 256,000 tokens they are by far the largest
    tensor of a step, and on a CPU the slowest to allocate. With `sampled`, only the logits of these
    tokens are computed; smoothing still covers the whole vocabulary.
    """
    loss, plain = _SmoothedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states_ND, weight_VD, labels_N, smoothing, sampled, torch.is_grad_enabled()
    )
    return loss, plain


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes positional arguments
        ctx: Any,
        states_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        smoothing: float,
        sampled: SampledTokens | None,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        device = states_ND.device.type
        dtype = (
            torch.get_autocast_dtype(device)
            if torch.is_autocast_enabled(device)
            else states_ND.dtype
        )
        others = smoothing / (weight_VD.shape[0] - 1)
        # Smoothing needs only the sum of the logits of all V tokens, which is a single product.
        total_weight_D = weight_VD.sum(0) if smoothing else None
        weight_CD = weight_VD
        if sampled is not None:
            weight_CD, labels_N = weight_VD[sampled.ids_C], sampled.labels_N
        states_ND, weight_CD = states_ND.to(dtype), weight_CD.to(dtype)
        exact = torch.promote_types(dtype, torch.float32)
        states_gradient_ND = torch.empty_like(states_ND)
        weight_gradient_CD = torch.zeros_like(weight_CD, dtype=weight_VD.dtype)
        loss, plain = weight_VD.new_zeros(2, dtype=torch.float64)
        for begin in range(0, len(labels_N), ROWS):
            rows = slice(begin, begin + ROWS)
            label_R1 = labels_N[rows, None]
            logits_RC = states_ND[rows] @ weight_CD.T
            if sampled is not None:
                logits_RC += sampled.log_weights_C.to(dtype)
            chosen_R1 = logits_RC.gather(1, label_R1).to(exact)
            # Each operation is one pass over memory, in the number type of the products.
            logs_RC = logits_RC.log_softmax(1)
            likelihood_R1 = logs_RC.gather(1, label_R1).to(exact)
            partition_R1 = chosen_R1 - likelihood_R1
            # The label gets 1 - smoothing, and each other token smoothing / (V - 1).
            expected_R1 = (1 - smoothing - others) * chosen_R1
            if total_weight_D is not None:
                sum_R1 = states_ND[rows].to(weight_VD.dtype) @ total_weight_D[:, None]
                expected_R1 += others * sum_R1
            loss += (partition_R1 - expected_R1).sum()
            plain -= likelihood_R1.sum()
            if not with_gradient:  # a validation
                continue
            gradient_RC = logs_RC.exp_()
            gradient_RC.scatter_add_(
                1, label_R1, gradient_RC.new_full(label_R1.shape, smoothing + others - 1)
            )
            states_gradient_ND[rows] = gradient_RC @ weight_CD
            weight_gradient_CD += gradient_RC.T @ states_ND[rows]
        weight_gradient_VD = weight_gradient_CD
        if sampled is not None:
            weight_gradient_VD = torch.zeros_like(weight_VD)
            weight_gradient_VD[sampled.ids_C] = weight_gradient_CD
        if with_gradient and total_weight_D is not None:
            states_gradient_ND -= others * total_weight_D.to(dtype)
            weight_gradient_VD -= others * states_ND.sum(0, dtype=weight_VD.dtype)
        ctx.save_for_backward(states_gradient_ND, weight_gradient_VD)
        return loss.float(), plain.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states_gradient_ND, weight_gradient_VD = ctx.saved_tensors
        scale = gradients[0]
        return states_gradient_ND * scale, weight_gradient_VD * scale, None, None, None, None


def seed_batch(seed: int, step: int, batch: int) -> None:
    """Seed dropout and masking from the run's seed, the step and the index of the micro-batch.

    No RNG state has to be stored, and any number of ranks draws the same masks.
    """
    state = np.random.SeedSequence([seed, step, batch]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0] >> np.uint64(1)))
