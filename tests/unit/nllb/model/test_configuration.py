"""Configurations to and from transformers' form."""

from dataclasses import replace

import pytest

from nllb.errors import CheckpointError
from nllb.model.configuration import ModelConfig

DENSE = ModelConfig(
    vocabulary_size=100,
    model_dim=16,
    encoder_layers=3,
    decoder_layers=2,
    encoder_heads=4,
    decoder_heads=2,
    encoder_ffn_dim=20,
    decoder_ffn_dim=24,
)
SPARSE = replace(
    DENSE,
    num_experts=4,
    encoder_sparse_step=2,
    decoder_sparse_step=1,
    expert_output_masking=0.3,
    second_expert_policy="random",
    activation="gelu",
    scale_embedding=False,
    dropout=0.0,
)


@pytest.mark.parametrize("config", [DENSE, SPARSE])
def test_round_trip(config) -> None:
    assert ModelConfig.from_hugging_face(config.to_hugging_face()) == config


@pytest.mark.parametrize("config", [DENSE, SPARSE])
def test_transformers_reads_the_same(config) -> None:
    from transformers import AutoConfig

    values = config.to_hugging_face()
    theirs = AutoConfig.for_model(**values)
    assert theirs.model_type == config.architecture
    kept = theirs.to_dict()
    assert {key: kept[key] for key in values} == values


def test_defaults_are_transformers_own() -> None:
    from transformers import NllbMoeConfig

    full = NllbMoeConfig().to_dict()
    given = ModelConfig.from_hugging_face(full)
    required = [
        *("model_type", "vocab_size", "d_model", "encoder_layers", "decoder_layers"),
        *("encoder_attention_heads", "decoder_attention_heads"),
        *("encoder_ffn_dim", "decoder_ffn_dim"),
    ]
    assert ModelConfig.from_hugging_face({key: full[key] for key in required}) == given


def test_sparse_layers_are_every_nth() -> None:
    assert [SPARSE.is_sparse("encoder", layer) for layer in range(3)] == [False, True, False]
    assert [SPARSE.is_sparse("decoder", layer) for layer in range(2)] == [True, True]
    assert not any(DENSE.is_sparse("encoder", layer) for layer in range(3))


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(CheckpointError) as caught:
        replace(SPARSE, encoder_heads=3, num_experts=1, expert_output_masking=1.0, decoder_layers=0)
    for part in ("encoder_heads 3", "num_experts is 1", "masking is 1.0", "decoder_layers is 0"):
        assert part in str(caught.value)


def test_values_of_a_wrong_type_are_reported_with_their_names() -> None:
    values = DENSE.to_hugging_face() | {"d_model": "1024", "encoder_layers": 2.5, "dropout": True}
    with pytest.raises(CheckpointError) as caught:
        ModelConfig.from_hugging_face(values, where="x/config.json")
    assert "x/config.json cannot be used: d_model is '1024', which is not an int" in str(
        caught.value
    )
    assert "encoder_layers is 2.5" in str(caught.value) and "dropout is True" in str(caught.value)
