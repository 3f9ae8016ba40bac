"""Training's routing and mixture against a slow oracle: loops over tokens, in float64.

The oracle is written from the description of NLLB's gate, not from the module: a queue for each
expert, filled first with first choices and then with second ones.
"""

import math
import random
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nllb.model.configuration import ModelConfig
from nllb.model.moe import MixtureOfExperts
from nllb.model.routing import route_for_training
from nllb.model.routing_options import RoutingOptions

NUM_CASES = 250


@dataclass
class OracleRouting:
    weights: list[dict[int, float]]
    balance: float
    load: list[int]
    asked: int


def oracle(
    logits: list[list[float]],
    is_token: list[bool],
    options: RoutingOptions,
    noise: list[list[float]],
    drawn: list[float],
) -> OracleRouting:
    rows, experts = len(logits), len(logits[0])
    gates = []
    for row in logits:
        top = max(row)
        powers = [math.exp(value - top) for value in row]
        gates.append([power / sum(powers) for power in powers])
    firsts = [max(range(experts), key=row.__getitem__) for row in logits]
    seconds = []
    for row in range(rows):
        scores = list(logits[row])
        if options.second_expert_policy == "sampling":
            scores = [score + extra for score, extra in zip(scores, noise[row], strict=True)]
        others = [expert for expert in range(experts) if expert != firsts[row]]
        seconds.append(max(others, key=lambda expert: scores[expert]))
    smallest = torch.finfo(torch.float32).eps
    plain = [(gates[row][firsts[row]], gates[row][seconds[row]]) for row in range(rows)]
    weights = plain
    if options.normalize_before_dropping:
        weights = [tuple(w / max(sum(pair), smallest) for w in pair) for pair in plain]
    takes_first, takes_second = list(is_token), list(is_token)
    if options.second_expert_policy == "random":
        for row in range(rows):
            takes_second[row] = takes_second[row] and 2 * weights[row][1] > drawn[row]
    order = list(range(rows))
    if options.batch_prioritized:
        order.sort(key=lambda row: -max(gates[row]))
    capacity = 2 * math.ceil(rows / experts) if options.mode == "gshard" else 2 * rows
    if options.capacity and options.mode == "gshard":
        capacity = options.capacity
    queues: list[list[tuple[int, int]]] = [[] for _ in range(experts)]
    for slot, (chosen, takes) in enumerate(((firsts, takes_first), (seconds, takes_second))):
        for row in order:
            if takes[row]:
                queues[chosen[row]].append((row, slot))
    kept = {pair for queue in queues for pair in queue[:capacity]}
    mixed: list[dict[int, float]] = []
    for row in range(rows):
        pair = [weights[row][slot] if (row, slot) in kept else 0.0 for slot in (0, 1)]
        if not options.normalize_before_dropping:
            pair = [weight / max(sum(pair), smallest) for weight in pair]
        mixed.append({firsts[row]: pair[0], seconds[row]: pair[1]})
    means = [sum(gates[row][expert] for row in range(rows)) / rows for expert in range(experts)]
    shares = [
        sum(firsts[row] == expert and is_token[row] for row in range(rows)) / rows
        for expert in range(experts)
    ]
    return OracleRouting(
        weights=mixed,
        balance=experts**2 * sum(m * c for m, c in zip(means, shares, strict=True)) / experts,
        load=[min(len(queue), capacity) for queue in queues],
        asked=sum(takes_first) + sum(takes_second),
    )


@pytest.mark.parametrize("policy", ["all", "sampling", "random"])
@pytest.mark.parametrize("mode", ["gshard", "dropless"])
def test_routing_equals_the_oracle(monkeypatch, policy: str, mode: str) -> None:
    chance = random.Random(f"{policy} {mode}")
    dropped = rejected = 0
    for case in range(NUM_CASES):
        generator = torch.Generator().manual_seed(case)
        experts, rows = chance.randint(2, 9), chance.randint(1, 40)
        options = RoutingOptions(
            mode=mode,
            second_expert_policy=policy,
            normalize_before_dropping=chance.random() < 0.5,
            batch_prioritized=chance.random() < 0.5,
            capacity=chance.choice([None, None, chance.randint(1, 12)]),
        )
        logits = torch.randn(rows, experts, generator=generator) * chance.choice([0.3, 1, 5])
        logits = logits + torch.randn(experts, generator=generator)  # so that some overflow
        is_token = torch.rand(rows, generator=generator) < chance.choice([1.0, 0.7, 0.3])
        exponential = torch.empty(rows, experts).exponential_(generator=generator)
        drawn = torch.rand(rows, generator=generator)
        monkeypatch.setattr(Tensor, "exponential_", lambda self, e=exponential: self.copy_(e))
        monkeypatch.setattr(torch, "rand", lambda *_, d=drawn, **__: d)
        routing = route_for_training(logits, is_token, options)
        monkeypatch.undo()
        expected = oracle(
            logits.double().tolist(),
            is_token.tolist(),
            options,
            (-exponential.double().log()).tolist(),
            drawn.tolist(),
        )
        got = torch.zeros(rows, experts)
        chosen = {int(pair) for pair in routing.order_P}
        numbers = torch.repeat_interleave(torch.arange(experts), torch.tensor(routing.counts_E))
        for pair, expert in zip(routing.order_P.tolist(), numbers.tolist(), strict=True):
            slot, row = divmod(pair, rows)
            got[row, expert] = routing.weights_SK[row, slot]
        unkept = [pair for pair in range(2 * rows) if pair not in chosen]
        assert all(routing.weights_SK[pair % rows, pair // rows] == 0 for pair in unkept)
        wanted = torch.zeros(rows, experts, dtype=torch.float64)
        for row, mixed in enumerate(expected.weights):
            for expert, weight in mixed.items():
                wanted[row, expert] = weight
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-6)
        assert routing.report.load_E.tolist() == expected.load == routing.counts_E
        assert routing.report.num_pairs == expected.asked
        assert float(routing.report.balance_loss) == pytest.approx(expected.balance, abs=1e-6)
        dropped += routing.report.num_dropped
        rejected += 2 * int(is_token.sum()) - expected.asked
    assert (dropped > 0) == (mode == "gshard")
    assert (rejected > 0) == (policy == "random")


def make_layer(**changes: object) -> MixtureOfExperts:
    values = {"model_dim": 6, "encoder_ffn_dim": 10, "num_experts": 5, "dropout": 0.0}
    config = ModelConfig(
        **{
            **dict.fromkeys(("vocabulary_size", "encoder_layers", "decoder_layers"), 9),
            **dict.fromkeys(("encoder_heads", "decoder_heads"), 1),
            **{"decoder_ffn_dim": 10, "encoder_sparse_step": 1, "decoder_sparse_step": 1},
            **values,
            **changes,
        }
    )
    torch.manual_seed(0)
    return MixtureOfExperts(config, "encoder").train()


@pytest.mark.parametrize("masking", [0.0, 0.4])
def test_the_layer_and_its_gradients_equal_the_oracle(monkeypatch, masking: float) -> None:
    for case in range(40):
        layer = make_layer(expert_output_masking=masking)
        layer.options = RoutingOptions(capacity=3 if case % 2 else None)
        generator = torch.Generator().manual_seed(case)
        rows = torch.randn(2, 9, 6, generator=generator)
        is_token = torch.rand(2, 9, generator=generator) < 0.8
        weigh = torch.randn(2, 9, 6, generator=generator)
        keep = torch.rand(100, 1, generator=generator)
        monkeypatch.setattr(torch, "rand", lambda count, _, device, k=keep: k[:count])
        output = layer(rows, is_token)
        monkeypatch.undo()
        ((output * weigh).sum() + layer.report.balance_loss).backward()

        exact = make_layer(expert_output_masking=masking).double()
        flat, flags = rows.double().view(-1, 6), is_token.view(-1)
        logits = exact.router(flat)
        routing = oracle(logits.tolist(), flags.tolist(), layer.options, [], [])
        gates = logits.softmax(-1)
        pairs = [
            (expert, slot, row)
            for row, mixed in enumerate(routing.weights)
            for slot, (expert, weight) in enumerate(mixed.items())
            if weight
        ]
        survivors = {}
        for number, (expert, _, row) in enumerate(sorted(pairs)):
            survivors[expert, row] = bool(keep[number] >= masking) if masking else True
        wanted = torch.zeros(18, 6, dtype=torch.float64)
        for row, mixed in enumerate(routing.weights):
            kept = [expert for expert, weight in mixed.items() if weight]
            total = sum(gates[row, expert] for expert in kept)
            for expert in kept:
                if survivors[expert, row]:
                    part = exact.experts[expert](flat[row])
                    wanted[row] = wanted[row] + gates[row, expert] / total * part
        shares = torch.zeros(5, dtype=torch.float64)
        for row in range(18):
            shares[int(logits[row].argmax())] += float(flags[row]) / 18
        balance = 5 * (gates.mean(0) * shares).sum()
        torch.testing.assert_close(output.double().view(-1, 6), wanted, rtol=0, atol=1e-6)
        ((wanted.view(2, 9, 6) * weigh.double()).sum() + balance).backward()
        for (name, mine), theirs in zip(layer.named_parameters(), exact.parameters(), strict=True):
            other = theirs.grad if theirs.grad is not None else torch.zeros_like(theirs)
            assert mine.grad is not None, name
            torch.testing.assert_close(mine.grad.double(), other, rtol=1e-5, atol=2e-6, msg=name)


def test_masking_of_the_mixed_output() -> None:
    layer = make_layer(expert_output_masking=0.0)
    layer.options = RoutingOptions(final_output_masking=0.3, mode="dropless")
    rows = torch.randn(4000, 6, generator=torch.Generator().manual_seed(1))
    output = layer(rows)
    is_zero = (output == 0).all(1)
    assert float(is_zero.float().mean()) == pytest.approx(0.3, abs=0.03)
    layer.options = RoutingOptions(mode="dropless")
    whole = layer(rows)
    torch.testing.assert_close(output[~is_zero], whole[~is_zero])  # nothing is rescaled
    layer.eval()
    layer.options = RoutingOptions(final_output_masking=0.3)
    torch.testing.assert_close(layer(rows), whole * 0.7)


def test_a_token_that_lost_both_experts_adds_nothing() -> None:
    layer = make_layer(num_experts=2)
    layer.options = RoutingOptions(capacity=1)
    output = layer(torch.randn(6, 6, generator=torch.Generator().manual_seed(2)))
    assert int((output == 0).all(1).sum()) >= 4
    assert layer.report.num_dropped == 10
    assert layer.report.load_E.tolist() == [1, 1]


def test_unused_experts_have_a_zero_gradient() -> None:
    layer = make_layer()
    layer(torch.randn(1, 6)).sum().backward()
    gradients = [expert.inner.weight.grad for expert in layer.experts]
    assert all(gradient is not None for gradient in gradients)
    assert sum(bool(gradient.any()) for gradient in gradients) <= 2


def test_bfloat16_routes_in_float32() -> None:
    layer = make_layer()
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(3)).bfloat16()
    expected = functional.linear(rows.float(), layer.bfloat16().router.weight.float())
    layer(rows).float().sum().backward()
    assert layer.report.balance_loss.dtype == torch.float32
    first = torch.bincount(expected.argmax(-1), minlength=5) / 50
    balance = 5 * (expected.softmax(-1).mean(0) * first).sum()
    torch.testing.assert_close(layer.report.balance_loss, balance)
