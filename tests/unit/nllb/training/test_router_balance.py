"""Balance by bias: the rule, a run that it balances, and the exported model."""

import json
from pathlib import Path

import pytest
import torch

from nllb.config import load_config
from nllb.model.configuration import ModelConfig
from nllb.model.moe import MixtureOfExperts
from nllb.model.routing_options import RoutingOptions
from nllb.training.checkpoints.tensor_files import TensorReader
from nllb.training.distributed.ranks import Ranks
from nllb.training.router_balance import RouterBalancer, freeze_router_biases, reset_router_biases
from nllb.training.train_config import TrainConfig
from nllb.training.trainer import train

SHAPE = ModelConfig(
    vocabulary_size=9,
    model_dim=8,
    encoder_layers=1,
    decoder_layers=1,
    encoder_heads=1,
    decoder_heads=1,
    encoder_ffn_dim=10,
    decoder_ffn_dim=10,
    num_experts=4,
    encoder_sparse_step=1,
    decoder_sparse_step=1,
    router_bias=True,
    dropout=0.0,
)
CONFIG = """
kind: train
data: {data}
model: {{architecture: moe-tiny, model_dim: 16, heads: 2, ffn_dim: 32}}
routing: {{balance_by: bias, bias_rate: 0.02, mode: {mode}}}
reader: {{max_tokens: 160, batches_per_step: 2, max_length: 80}}
optimizer: {{learning_rate: 0.01, warm_up_steps: 10}}
schedule: {{steps: {steps}, checkpoint_every: 8, validate_every: 0, log_every: 4}}
parallel: {{runner: plain}}
device: cpu
"""


def unbalanced() -> tuple[MixtureOfExperts, torch.Tensor]:
    torch.manual_seed(0)
    layer = MixtureOfExperts(SHAPE, "encoder").train()
    layer.options = RoutingOptions(mode="dropless", balance_by="bias")
    with torch.no_grad():
        layer.router.weight[0] += 2.0  # expert 0 is the first choice of most tokens
    freeze_router_biases(layer)
    reset_router_biases(layer)
    return layer, torch.randn(64, 8) + 0.5


def test_overloaded_experts_are_lowered_and_the_load_evens_out() -> None:
    layer, rows = unbalanced()
    ranks = Ranks(rank=0, size=1, device=torch.device("cpu"))
    balancer = RouterBalancer(layer, ranks, rate=0.05)
    spreads = []
    for _ in range(120):
        layer(rows)
        assert layer.report is not None
        load_E = layer.report.requested_E
        before = layer.router.bias.clone()
        balancer.add()
        balancer.update()
        change_E = layer.router.bias - before
        assert torch.equal(change_E.sign(), (load_E.double().mean() - load_E).sign().float())
        spreads.append(int(load_E.max() - load_E.min()))
    assert spreads[0] > 30 and max(spreads[-10:]) < spreads[0] / 3
    assert layer.router.bias.grad is None and not layer.router.bias.requires_grad


def test_loads_before_capacity_count() -> None:
    layer, rows = unbalanced()
    layer.options = RoutingOptions(capacity=3, balance_by="bias")
    layer(rows)
    assert layer.report is not None
    assert int(layer.report.requested_E.sum()) == layer.report.num_pairs == 128
    assert int(layer.report.load_E.max()) == 3


def run(folder: Path, data: Path, *, steps: int, mode: str = "dropless") -> Path:
    path = folder.with_suffix(".yaml")
    path.write_text(CONFIG.format(data=data, steps=steps, mode=mode))
    train(load_config(TrainConfig, path), folder, quiet=True)
    return folder


@pytest.mark.slow
def test_a_balanced_run_resumes_bitwise_and_exports_its_biases(
    token_data: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSeq2SeqLM

    from nllb.model.formats.open_model import load_model, open_model

    whole = run(tmp_path / "whole", token_data, steps=24)
    run(tmp_path / "resumed", token_data, steps=8)
    resumed = run(tmp_path / "resumed", token_data, steps=24)
    readers = [
        TensorReader(folder / "checkpoints" / "step_00000024") for folder in (whole, resumed)
    ]
    names = readers[0].names()
    assert [n for n in names if not torch.equal(readers[0].read(n), readers[1].read(n))] == []
    biases = [readers[0].read(name) for name in names if name.endswith("router.bias")]
    assert biases and all(bias.any() for bias in biases)
    assert not any(name.startswith("exp_avg") and "router.bias" in name for name in names)
    assert json.loads((whole / "model" / "config.json").read_text())["router_bias"] is True
    ours = load_model(open_model(whole / "model"))
    theirs = AutoModelForSeq2SeqLM.from_pretrained(whole / "model").eval()
    source = torch.randint(4, 300, (3, 9), generator=torch.Generator().manual_seed(0))
    target = source[:, :7]
    with torch.no_grad():
        expected = theirs(input_ids=source, decoder_input_ids=target).logits
        torch.testing.assert_close(ours(source, target), expected, rtol=0, atol=1e-4)
