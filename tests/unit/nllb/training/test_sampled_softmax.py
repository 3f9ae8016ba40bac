"""The sampled softmax: exact for a given sample, and unbiased on average."""

import pytest
import torch
from torch.nn import functional

from nllb.training.loss import sample_tokens, smoothed_cross_entropy

LABELS, TOKENS, WIDTH, SMOOTHING = 700, 500, 8, 0.1


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    states_ND = torch.randn(LABELS, WIDTH, generator=generator, dtype=torch.float64)
    weight_VD = torch.randn(TOKENS, WIDTH, generator=generator, dtype=torch.float64)
    labels_N = torch.randint(0, 40, (LABELS,), generator=generator)
    return states_ND, weight_VD, labels_N


def test_labels_come_first_and_tokens_are_unique() -> None:
    torch.manual_seed(1)
    *_, labels_N = inputs()
    sampled = sample_tokens(labels_N, TOKENS, 60)
    assert sampled is not None
    present = labels_N.unique()
    assert sampled.ids_C[: len(present)].equal(present)
    assert len(sampled.ids_C.unique()) == len(sampled.ids_C) == len(present) + 60
    assert sampled.ids_C[sampled.labels_N].equal(labels_N)
    # Together they stand for the whole vocabulary.
    assert float(sampled.log_weights_C.exp().sum()) == pytest.approx(TOKENS, rel=1e-5)


def test_a_small_vocabulary_is_not_sampled() -> None:
    *_, labels_N = inputs()
    assert sample_tokens(labels_N, TOKENS, TOKENS) is None


def test_loss_and_gradient_of_a_sample_equal_an_oracle() -> None:
    torch.manual_seed(1)
    states_ND, weight_VD, labels_N = inputs()
    sampled = sample_tokens(labels_N, TOKENS, 60)
    assert sampled is not None
    found, expected = [], []
    for gradients, compute in (
        (found, lambda s, w: smoothed_cross_entropy(s, w, labels_N, SMOOTHING, sampled)[0]),
        (expected, None),
    ):
        states, weight = states_ND.clone().requires_grad_(), weight_VD.clone().requires_grad_()
        if compute is not None:
            loss = compute(states, weight)
        else:
            logits_NV = states @ weight.T
            partition_N = (logits_NV[:, sampled.ids_C] + sampled.log_weights_C).logsumexp(1)
            others = SMOOTHING / (TOKENS - 1)
            wanted_NV = torch.full_like(logits_NV, others).scatter(
                1, labels_N[:, None], 1 - SMOOTHING
            )
            loss = partition_N.sum() - (wanted_NV * logits_NV).sum()
        loss.backward()
        gradients += [loss.detach(), states.grad, weight.grad]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_the_partition_function_is_unbiased() -> None:
    torch.manual_seed(1)
    states_ND, weight_VD, labels_N = inputs()
    logits_NV = states_ND @ weight_VD.T
    whole_N = logits_NV.exp().sum(1)
    drawn_N = torch.zeros_like(whole_N)
    for _ in range(400):
        sampled = sample_tokens(labels_N, TOKENS, 200)
        assert sampled is not None
        drawn_N += (logits_NV[:, sampled.ids_C] + sampled.log_weights_C).exp().sum(1) / 400
    torch.testing.assert_close(drawn_N, whole_N, rtol=0.12, atol=0.0)


def test_the_full_loss_equals_torch() -> None:
    states_ND, weight_VD, labels_N = inputs()
    _, plain = smoothed_cross_entropy(states_ND, weight_VD, labels_N, SMOOTHING)
    expected = functional.cross_entropy(states_ND @ weight_VD.T, labels_N, reduction="sum")
    assert float(plain) == pytest.approx(float(expected), rel=1e-6)
