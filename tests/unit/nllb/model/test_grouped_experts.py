"""Grouped products of experts equal a loop over experts, forward and backward."""

import pytest
import torch

from nllb.model import grouped_experts
from nllb.model.configuration import ModelConfig
from nllb.model.grouped_experts import can_group, run_grouped_experts
from nllb.model.moe import FeedForward, run_experts

SHAPE = ModelConfig(
    vocabulary_size=9,
    model_dim=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_heads=1,
    decoder_heads=1,
    encoder_ffn_dim=24,
    decoder_ffn_dim=24,
    num_experts=4,
    encoder_sparse_step=1,
    decoder_sparse_step=1,
    dropout=0.0,
)
COUNTS = (5, 0, 1, 6)

needs_grouped_mm = pytest.mark.skipif(
    grouped_experts.GROUPED_MM is None, reason="this torch has no grouped product"
)


def gradients(run, experts, rows: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    rows = rows.clone().requires_grad_()
    output = run(experts, rows, COUNTS)
    weight = torch.linspace(-1, 1, output.numel(), device=rows.device).view_as(output)
    parameters = [p for expert in experts.values() for p in expert.parameters()]
    return output, list(torch.autograd.grad((output * weight).sum(), [rows, *parameters]))


def mixture(device: str) -> tuple[dict[int, FeedForward], torch.Tensor]:
    torch.manual_seed(0)
    experts = {number: FeedForward(SHAPE, "encoder").to(device) for number in range(4)}
    return experts, torch.randn(sum(COUNTS), 16, device=device)


@needs_grouped_mm
def test_grouped_products_equal_a_loop_on_the_cpu() -> None:
    experts, rows = mixture("cpu")
    ours, our_gradients = gradients(run_grouped_experts, experts, rows)
    loop, loop_gradients = gradients(run_experts, experts, rows)
    torch.testing.assert_close(ours, loop)
    for mine, theirs in zip(our_gradients, loop_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    # An expert without rows has a gradient of zero, so that all ranks reduce the same tensors.
    assert not our_gradients[5].any()


def test_a_cpu_keeps_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    experts, rows = mixture("cpu")
    assert not can_group(experts, rows)

    def fail(*_: object) -> None:
        raise AssertionError("the loop was expected")

    monkeypatch.setattr(grouped_experts, "GROUPED_MM", fail)
    assert run_experts(experts, rows, COUNTS).shape == rows.shape


@pytest.mark.gpu
@needs_grouped_mm
def test_grouped_products_equal_a_loop_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    experts, rows = mixture("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        if not can_group(experts, rows):
            pytest.skip("this GPU has no grouped product in one kernel")
        ours, our_gradients = gradients(run_experts, experts, rows)
        monkeypatch.setattr("nllb.model.moe.can_group", lambda *_: False)
        loop, loop_gradients = gradients(run_experts, experts, rows)
    torch.testing.assert_close(ours, loop, rtol=2e-2, atol=2e-2)
    for mine, theirs in zip(our_gradients, loop_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=5e-2, atol=5e-2)
