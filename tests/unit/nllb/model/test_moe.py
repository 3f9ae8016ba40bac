"""Routing, sorting and mixing of experts, against slow and plain forms of the same."""

import pytest
import torch

from nllb.model.configuration import ModelConfig
from nllb.model.moe import MixtureOfExperts, route, sort_by_expert
from nllb.model.routing_options import RoutingOptions


def make_config(**fields) -> ModelConfig:
    shape = {
        "vocabulary_size": 16,
        "model_dim": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_heads": 2,
        "decoder_heads": 2,
        "encoder_ffn_dim": 12,
        "decoder_ffn_dim": 12,
        "num_experts": 6,
        "encoder_sparse_step": 1,
        "decoder_sparse_step": 1,
        "dropout": 0.0,
    }
    return ModelConfig(**(shape | fields))


@pytest.fixture
def layer(randomize) -> MixtureOfExperts:
    module = MixtureOfExperts(make_config(expert_output_masking=0.25), "encoder")
    randomize(module, 5)
    return module.eval()


def mix_slowly(layer: MixtureOfExperts, rows: torch.Tensor) -> torch.Tensor:
    mixed = []
    for row in rows:
        gates = torch.softmax(layer.router(row), -1)
        best = gates.argsort(descending=True)[:2]
        share = gates[best] / gates[best].sum()
        outputs = torch.stack([layer.experts[int(expert)](row) for expert in best])
        mixed.append((share[:, None] * outputs).sum(0) * (1 - layer.output_masking))
    return torch.stack(mixed)


@torch.no_grad()
def test_mixture_equals_one_token_at_a_time(layer) -> None:
    rows = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(rows), mix_slowly(layer, rows), rtol=0, atol=1e-5)
    cube = rows.view(4, 10, 8)
    torch.testing.assert_close(layer(cube).view(40, 8), layer(rows))


@torch.no_grad()
def test_padding_gets_no_expert(layer) -> None:
    rows = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    is_token = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    output = layer(rows, is_token)
    assert (output[~is_token] == 0).all()
    torch.testing.assert_close(output[is_token], layer(rows[is_token]))
    assert (layer(rows, torch.zeros_like(is_token)) == 0).all()


@torch.no_grad()
def test_only_experts_with_tokens_run(layer) -> None:
    ran = []
    for number, expert in enumerate(layer.experts):
        expert.register_forward_hook(
            lambda module, inputs, output, number=number: ran.append((number, len(inputs[0])))
        )
    rows = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))
    chosen = route(layer.router(rows))[1]
    layer(rows)
    assert [number for number, _ in ran] == sorted(set(chosen.flatten().tolist()))
    assert sum(count for _, count in ran) == 4


def test_routing_equals_transformers_router() -> None:
    from transformers import NllbMoeConfig
    from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeTop2Router

    generator = torch.Generator().manual_seed(3)
    for _ in range(200):
        experts = int(torch.randint(2, 12, (), generator=generator))
        tokens = int(torch.randint(1, 30, (), generator=generator))
        spread = float(torch.rand((), generator=generator)) * 20
        logits = torch.randn(tokens, experts, generator=generator) * spread
        router = NllbMoeTop2Router(NllbMoeConfig(d_model=4, num_experts=experts)).eval()
        _, expected = router.route_tokens(logits.clone())
        weights, chosen = route(logits)
        mine = torch.zeros(tokens, experts).scatter(1, chosen, weights)
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-6)


def test_a_saturated_router_still_takes_the_second_best() -> None:
    weights, experts = route(torch.tensor([[0.0, 500.0, 300.0, -10.0]]))
    assert experts.tolist() == [[1, 2]]
    assert weights.tolist() == [[1.0, 0.0]]


def test_sorting_is_stable() -> None:
    order, counts = sort_by_expert(torch.tensor([[2, 0], [0, 2], [2, 3]]), 5)
    assert order.tolist() == [1, 2, 0, 3, 4, 5]
    assert counts == [2, 0, 3, 1, 0]


def test_training_masks_whole_rows_without_rescaling(randomize) -> None:
    layer = MixtureOfExperts(make_config(expert_output_masking=0.5, num_experts=2), "decoder")
    randomize(layer, 7)
    rows = torch.randn(400, 8, generator=torch.Generator().manual_seed(4))
    weights, chosen = route(layer.router(rows))
    outputs = torch.stack([expert(rows) for expert in layer.experts], 1)
    parts = weights[..., None] * outputs.gather(1, chosen[..., None].expand(-1, -1, 8))
    possible = torch.stack([0 * parts[:, 0], parts[:, 0], parts[:, 1], parts.sum(1)], 1)
    torch.manual_seed(0)
    mixed = layer.train()(rows)
    distance = (possible - mixed[:, None]).abs().amax(-1)
    assert (distance.amin(1) < 1e-5).all()  # nothing, the first, the second, or both
    shares = torch.bincount(distance.argmin(1), minlength=4) / 400
    assert ((shares - 0.25).abs() < 0.08).all()
    mixed.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_rows_filled_up_for_the_compiler_change_nothing(randomize, monkeypatch) -> None:
    def train_once(multiple: int) -> tuple[set[int], torch.Tensor, list[torch.Tensor]]:
        monkeypatch.setattr("nllb.model.moe.ROWS_MULTIPLE", multiple)
        layer = MixtureOfExperts(make_config(), "encoder")
        randomize(layer, 7)
        seen: set[int] = set()
        for expert in layer.experts:
            expert.register_forward_pre_hook(lambda _, args: seen.add(len(args[0])))
        layer.train().options = RoutingOptions(mode="dropless")
        rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(3))
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(rows)
        output.float().square().sum().backward()
        return seen, output, [parameter.grad for parameter in layer.parameters()]

    plain_rows, plain, plain_gradients = train_once(1)
    filled_rows, filled, filled_gradients = train_once(16)
    assert any(count % 16 for count in plain_rows)
    assert all(count % 16 == 0 for count in filled_rows)
    torch.testing.assert_close(filled, plain)
    torch.testing.assert_close(filled_gradients, plain_gradients)
