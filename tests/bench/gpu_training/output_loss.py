"""Cross entropy over the whole vocabulary, with its gradient computed chunk by chunk.

The loss is that of `nllb.training.loss.smoothed_cross_entropy` without sampling: on a GPU the
output projection is a small part of a step.

Shapes: N positions, D model dim, V vocabulary, M positions of a chunk.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 8192


class OutputLoss(torch.autograd.Function):
    """The sums of the smoothed loss and of the negative log-likelihood, which has no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        states_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        is_label_N: Tensor,
        smoothing: float,
    ) -> tuple[Tensor, Tensor]:
        others = smoothing / (len(weight_VD) - 1)
        states_gradient_ND = torch.empty_like(states_ND)
        weight_gradient_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        loss, plain = weight_gradient_VD.new_zeros(2, dtype=torch.float64)
        for begin in range(0, len(labels_N), CHUNK):
            rows = slice(begin, begin + CHUNK)
            states_MD, labels_M1 = states_ND[rows], labels_N[rows, None]
            is_label_M1 = is_label_N[rows, None]
            logits_MV = states_MD @ weight_VD.T
            partition_M1 = logits_MV.float().logsumexp(1, keepdim=True)
            chosen_M1 = logits_MV.gather(1, labels_M1).float()
            plain += ((partition_M1 - chosen_M1) * is_label_M1).sum()
            expected_M1 = (1 - smoothing - others) * chosen_M1
            if smoothing:
                expected_M1 = expected_M1 + others * logits_MV.float().sum(1, keepdim=True)
            loss += ((partition_M1 - expected_M1) * is_label_M1).sum()
            gradient_MV = (logits_MV.float() - partition_M1).exp() - others
            gradient_MV = gradient_MV.scatter_add(
                1, labels_M1, gradient_MV.new_full(labels_M1.shape, smoothing + others - 1)
            )
            gradient_MV = (gradient_MV * is_label_M1).to(states_ND.dtype)
            states_gradient_ND[rows] = gradient_MV @ weight_VD
            weight_gradient_VD += gradient_MV.T @ states_MD
        ctx.save_for_backward(states_gradient_ND, weight_gradient_VD)
        plain = plain.float()
        ctx.mark_non_differentiable(plain)
        return loss.float(), plain

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        states_gradient_ND, weight_gradient_VD = ctx.saved_tensors
        return states_gradient_ND * gradient, weight_gradient_VD * gradient, None, None, None
