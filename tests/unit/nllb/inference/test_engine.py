"""The torch engine against the module graph of `nllb.model`."""

import numpy as np
import pytest
import torch

from nllb.inference.engine import OutputChoice, TorchEngine
from nllb.model.configuration import ModelConfig
from nllb.model.transformer import Transformer


def make_config(sparse: bool, **changes) -> ModelConfig:
    shape = {
        "vocabulary_size": 90,
        "model_dim": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_heads": 4,
        "decoder_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 40,
        "max_positions": 64,
    }
    if sparse:
        shape |= {
            "num_experts": 5,
            "encoder_sparse_step": 2,
            "decoder_sparse_step": 2,
            "expert_output_masking": 0.2,
        }
    return ModelConfig(**(shape | changes))


def make_model(config: ModelConfig) -> Transformer:
    torch.manual_seed(3)
    model = Transformer(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.2)
            if "norm.weight" in name:
                parameter.add_(1)
    return model


SOURCES = [[5, 6, 7, 8, 2], [9, 10, 2], [11, 12, 13, 14, 15, 16, 17, 2]]
TARGETS = np.array([[2, 80, 21, 22], [2, 80, 23, 24], [2, 80, 25, 26]])


def expected_logits(model: Transformer) -> torch.Tensor:
    longest = max(map(len, SOURCES))
    padded = torch.tensor([s + [1] * (longest - len(s)) for s in SOURCES])
    with torch.inference_mode():
        return model(padded, torch.from_numpy(TARGETS))


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_the_same_logits_as_the_model_step_by_step(sparse, activation) -> None:
    model = make_model(make_config(sparse, activation=activation))
    expected = expected_logits(model)
    engine = TorchEngine(model.config, model.state_dict())
    decoding = engine.decode(engine.encode(SOURCES), width=1, max_positions=8)
    rows = np.arange(3)
    decoding.advance(TARGETS[:, :2], rows, rows)
    assert torch.allclose(decoding.logits(), expected[:, 1], atol=1e-4)
    for position in (2, 3):
        decoding.advance(TARGETS[:, position : position + 1], rows, rows)
        assert torch.allclose(decoding.logits(), expected[:, position], atol=1e-4)
    assert expected.std() > 0.3


def test_rows_are_reordered_and_sentences_dropped() -> None:
    model = make_model(make_config(False))
    expected = expected_logits(model)
    engine = TorchEngine(model.config, model.state_dict())
    decoding = engine.decode(engine.encode(SOURCES), width=2, max_positions=8)
    decoding.advance(TARGETS[:, :2], np.arange(3), np.arange(3))
    # two beams a sentence, the second a wrong turn; then the first sentence leaves
    both = np.stack([TARGETS[:, 2], np.full(3, 33)], axis=1).reshape(-1, 1)
    decoding.advance(both, np.repeat(np.arange(3), 2), np.arange(3))
    after = np.repeat(TARGETS[1:, 3], 2)[:, None]
    decoding.advance(after, np.array([2, 2, 4, 5]), np.array([1, 2]))
    logits = decoding.logits()
    assert torch.allclose(logits[0], expected[1, 3], atol=1e-4)
    assert torch.allclose(logits[1], expected[1, 3], atol=1e-4)
    assert torch.allclose(logits[2], expected[2, 3], atol=1e-4)
    assert not torch.allclose(logits[3], expected[2, 3], atol=1e-2)  # went through the wrong turn


def test_best_is_the_top_of_the_logits_and_normalised_over_the_open_tokens() -> None:
    model = make_model(make_config(False))
    engine = TorchEngine(model.config, model.state_dict())
    ids = np.array([2, 20, 21, 22, 40, 41, 60], np.int64)
    extra = (np.array([5, 6]), np.array([], np.int64), np.array([88]))
    choice = OutputChoice(projection=engine.restrict(ids), ids=ids, extra=extra)
    rows = np.arange(3)
    whole = engine.decode(engine.encode(SOURCES), width=1, max_positions=8)
    whole.advance(TARGETS[:, :2], rows, rows)
    listed = engine.decode(engine.encode(SOURCES), width=1, max_positions=8, choice=choice)
    listed.advance(TARGETS[:, :2], rows, rows)
    values, tokens = whole.best(5)
    top = whole.logits().log_softmax(-1).topk(5)
    assert (tokens == top.indices.numpy()).all()
    assert np.allclose(values, top.values.numpy(), atol=1e-5)

    logits = listed.logits()
    for row in range(3):
        open_ids = np.sort(np.concatenate([ids, extra[row]]))
        assert np.flatnonzero(torch.isfinite(logits[row]).numpy()).tolist() == open_ids.tolist()
        assert torch.allclose(logits[row, open_ids], whole.logits()[row, open_ids], atol=1e-4)
    values, tokens = listed.best(4)
    top = logits.log_softmax(-1).topk(4)
    assert (tokens == top.indices.numpy()).all()
    assert np.allclose(values, top.values.numpy(), atol=1e-5)


def test_experts_come_from_the_store_and_only_active_ones() -> None:
    asked: list[tuple[str, int]] = []

    def store_of(load):
        class Store:
            def expert_weights(self, layer: str, expert: int):
                asked.append((layer, expert))
                return load(layer, expert)

        return Store()

    model = make_model(make_config(True, num_experts=40))
    engine = TorchEngine(model.config, model.state_dict(), experts=store_of)
    assert asked == []
    engine.encode([[5, 2]])
    assert {layer for layer, _ in asked} == {"encoder.layers.1"}
    assert 2 <= len(set(asked)) == len(asked) <= 4  # two tokens, two experts each
