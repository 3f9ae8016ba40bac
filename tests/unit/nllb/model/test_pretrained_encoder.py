"""States equal those of transformers' BertModel, do not depend on padding, and are never NaN."""

from pathlib import Path

import pytest
import torch

from nllb.errors import CheckpointError
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.formats.encoder_weight_names import encoder_weight_name
from nllb.model.pretrained_encoder import (
    EncoderConfig,
    PretrainedEncoder,
    layer_numbers,
    list_encoder_weights,
)
from nllb.model.shipped_encoder import SHIPPED_ENCODER

CONFIG = EncoderConfig(
    vocabulary_size=60,
    model_dim=32,
    num_layers=3,
    num_heads=4,
    ffn_dim=48,
    max_positions=24,
    num_token_types=2,
)


def reference(config: EncoderConfig, encoder: PretrainedEncoder):
    """Return transformers' BertModel with the same weights."""
    from transformers import BertConfig, BertModel

    model = BertModel(
        BertConfig(
            vocab_size=config.vocabulary_size,
            hidden_size=config.model_dim,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.ffn_dim,
            max_position_embeddings=config.max_positions,
            type_vocab_size=config.num_token_types,
            layer_norm_eps=config.norm_epsilon,
        ),
        add_pooling_layer=False,
    )
    state = {encoder_weight_name(name, "bert"): w for name, w in encoder.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def largest_difference(encoder: PretrainedEncoder, ids_BS: torch.Tensor) -> float:
    is_token_BS = ids_BS != encoder.config.pad_id
    with torch.inference_mode():
        theirs = reference(encoder.config, encoder)(
            ids_BS, attention_mask=is_token_BS.long(), output_hidden_states=True
        ).hidden_states
        ours_LBSD = encoder(ids_BS)
    assert len(theirs) == len(ours_LBSD)
    pairs = zip(ours_LBSD, theirs, strict=True)
    return max(float((a - b)[is_token_BS].abs().max()) for a, b in pairs)


@pytest.fixture(scope="module")
def encoder(randomize) -> PretrainedEncoder:
    module = PretrainedEncoder(CONFIG).eval()
    randomize(module, 3)
    return module


@pytest.fixture
def ids_BS() -> torch.Tensor:
    ids = torch.randint(4, 60, (3, 17))
    ids[1, 9:] = ids[2, 1:] = CONFIG.pad_id
    return ids


def test_states_of_all_layers_equal_bert(encoder, ids_BS) -> None:
    assert largest_difference(encoder, ids_BS) < 1e-4


@pytest.mark.skipif(not SHIPPED_ENCODER.is_dir(), reason="installed without the encoder")
def test_shipped_weights_equal_bert() -> None:
    directory = EncoderDirectory.open(SHIPPED_ENCODER)
    sequences = directory.tokenizer().tokenize(
        ["Where does the river end?", "Wo endet der Fluss, den wir gestern sahen?", "नदी"],
        prefix="query: ",
    )
    rows = [torch.tensor(text.windows[0]) for text in sequences]
    ids_BS = torch.nn.utils.rnn.pad_sequence(
        rows, batch_first=True, padding_value=directory.config.pad_id
    )
    assert largest_difference(directory.load(), ids_BS) < 1e-4


def test_states_do_not_depend_on_padding(encoder, ids_BS) -> None:
    with torch.inference_mode():
        together = encoder(ids_BS)[:, 1, :9]
        alone = encoder(ids_BS[1:2, :9])[:, 0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_chosen_layers_are_those_of_all(encoder, ids_BS) -> None:
    with torch.inference_mode():
        every = encoder(ids_BS)
        chosen = encoder(ids_BS, layers=[2, 0, -1])
    assert torch.equal(chosen, every[[2, 0, 3]])


def test_later_layers_are_not_computed(encoder, ids_BS, monkeypatch) -> None:
    monkeypatch.setattr(encoder.layers[2], "forward", lambda *a: pytest.fail("layer 3 was run"))
    with torch.inference_mode():
        encoder(ids_BS, layers=[2])


def test_a_row_of_padding_is_finite(encoder, ids_BS) -> None:
    ids_BS[2] = CONFIG.pad_id
    with torch.inference_mode():
        assert torch.isfinite(encoder(ids_BS)).all()


def test_gradients_reach_every_weight_that_is_used(encoder, ids_BS) -> None:
    encoder.zero_grad()
    encoder(ids_BS, layers=[-1]).square().sum().backward()
    missing = [name for name, weight in encoder.named_parameters() if weight.grad is None]
    assert missing == []


def test_weights_are_listed_with_their_shapes(encoder) -> None:
    listed = {weight.name: weight.shape for weight in list_encoder_weights(CONFIG)}
    assert listed == {name: tuple(w.shape) for name, w in encoder.state_dict().items()}


def test_sequences_beyond_the_positions_are_refused(encoder) -> None:
    with pytest.raises(ValueError, match="25 tokens; the encoder accepts at most 24"):
        encoder(torch.full((1, 25), 5))


@pytest.mark.parametrize("layers", [[4], [-5], []])
def test_layers_that_do_not_exist_are_refused(layers) -> None:
    with pytest.raises(ValueError, match="has layers 0 to 3"):
        layer_numbers(CONFIG, layers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "cannot be divided among 5 heads"),
        ({"unk_id": 1}, "must differ"),
        ({"unk_id": 60}, "below the vocabulary's size, 60"),
    ],
)
def test_sizes_that_do_not_belong_together_are_refused(changes, message) -> None:
    values = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    with pytest.raises(CheckpointError, match=message):
        EncoderConfig(**(values | changes)).check(Path("config.json"))
