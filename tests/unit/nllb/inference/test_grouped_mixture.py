"""The grouped products give what the loop over the experts gives."""

import pytest
import torch

from nllb.inference.engine import mixture_of_experts
from nllb.inference.grouped_mixture import GroupedMixture
from nllb.inference.layers import FeedForward, TorchLinear
from nllb.model.grouped_experts import GROUPED_MM

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.skipif(GROUPED_MM is None, reason="this version of torch has no grouped product")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tokens", [1, 5, 300])
def test_the_sums_of_a_loop_over_the_experts(device: str, tokens: int) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    torch.manual_seed(3)

    def linear(inputs: int, outputs: int, dtype: torch.dtype = torch.bfloat16) -> TorchLinear:
        weight = torch.randn(outputs, inputs, device=device, dtype=dtype) / inputs**0.5
        return TorchLinear(weight=weight, bias=torch.randn(outputs, device=device, dtype=dtype))

    experts = [FeedForward(inner=linear(32, 64), outer=linear(64, 32)) for _ in range(7)]
    router = linear(32, 7, torch.float32)
    x_TD = torch.randn(tokens, 32, device=device, dtype=torch.bfloat16)
    expected = mixture_of_experts(x_TD, router, experts.__getitem__, output_masking=0.2)
    found = GroupedMixture(router, experts, output_masking=0.2)(x_TD)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)
    assert expected.float().std() > 0.3
