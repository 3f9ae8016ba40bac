"""Expert parallelism in a single process: gating dropout keeps rows on their rank."""

import pytest
import torch
from torch import nn

from nllb.model.configuration import ModelConfig
from nllb.model.moe import MixtureOfExperts
from nllb.model.routing_options import RoutingOptions
from nllb.training.distributed.expert_parallel import ExpertExchange, drop_exchange, spread_experts
from nllb.training.distributed.ranks import Ranks

SHAPE = ModelConfig(
    vocabulary_size=9,
    model_dim=6,
    encoder_layers=1,
    decoder_layers=1,
    encoder_heads=1,
    decoder_heads=1,
    encoder_ffn_dim=10,
    decoder_ffn_dim=10,
    num_experts=4,
    encoder_sparse_step=1,
    decoder_sparse_step=1,
    dropout=0.0,
)


def mixture() -> MixtureOfExperts:
    torch.manual_seed(0)
    layer = MixtureOfExperts(SHAPE, "encoder").train()
    layer.options = RoutingOptions(mode="dropless")
    return layer


@pytest.mark.parametrize("rank", [0, 1])
def test_without_exchange_local_experts_replace_remote_ones(rank: int) -> None:
    whole, local = mixture(), nn.ModuleList([mixture()])
    spread_experts(local, Ranks(rank=rank, size=2, device=torch.device("cpu")))
    drop_exchange(local, 1.0, seed=3, step=5)
    assert isinstance(local[0].run_experts, ExpertExchange) and local[0].run_experts.stays_local
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    output = local[0](rows)
    gates, chosen = whole.router(rows).softmax(-1).topk(2)
    expected = [
        sum(
            weight / pair.sum() * whole.experts[2 * rank + int(expert) % 2](row)
            for weight, expert in zip(pair, experts, strict=True)
        )
        for row, pair, experts in zip(rows, gates, chosen, strict=True)
    ]
    torch.testing.assert_close(output, torch.stack(expected), rtol=1e-5, atol=1e-6)
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in local.parameters())


def test_all_ranks_skip_the_exchange_in_the_same_steps() -> None:
    ranks = [nn.ModuleList([mixture()]) for _ in range(2)]
    for rank, layer in enumerate(ranks):
        spread_experts(layer, Ranks(rank=rank, size=2, device=torch.device("cpu")))
    dropped = 0
    for step in range(500):
        for layer in ranks:
            drop_exchange(layer, 0.2, seed=7, step=step)
        first, second = (layer[0].run_experts.stays_local for layer in ranks)
        assert first == second
        dropped += first
    assert dropped / 500 == pytest.approx(0.2, abs=0.05)
