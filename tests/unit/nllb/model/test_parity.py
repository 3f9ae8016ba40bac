"""The Transformer gives the logits of transformers' M2M100 and NllbMoe."""

from dataclasses import replace

import pytest
import torch

from nllb.model.formats.open_model import load_model, open_model
from nllb.model.formats.weight_names import list_weights, num_parameters
from nllb.model.known_models import known_models
from nllb.model.transformer import DecoderCache, Transformer

DENSE = {
    "plain": {},
    "unequal sides": {
        "encoder_layers": 3,
        "decoder_layers": 1,
        "encoder_attention_heads": 8,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 96,
    },
    "gelu, unscaled": {"activation_function": "gelu", "scale_embedding": False},
    "swish, other width": {"activation_function": "swish", "d_model": 24, "vocab_size": 300},
}
SPARSE = {
    "4 experts everywhere": {"num_experts": 4, "encoder_sparse_step": 1, "decoder_sparse_step": 1},
    "8 experts, steps 2 and 1": {
        "num_experts": 8,
        "encoder_sparse_step": 2,
        "decoder_sparse_step": 1,
        "moe_token_dropout": 0.0,
        "encoder_layers": 4,
        "decoder_layers": 3,
    },
    "4 experts, steps 4 and 3, unequal sides": {
        "num_experts": 4,
        "encoder_sparse_step": 4,
        "decoder_sparse_step": 3,
        "moe_token_dropout": 0.2,
        "encoder_layers": 4,
        "decoder_layers": 3,
        "decoder_ffn_dim": 64,
        "decoder_attention_heads": 2,
    },
    "8 experts, masking 0.5, router bias, no sparse encoder": {
        "num_experts": 8,
        "encoder_sparse_step": 0,
        "decoder_sparse_step": 2,
        "moe_token_dropout": 0.5,
        "router_bias": True,
        "router_dtype": "float32",
    },
}


@pytest.mark.parametrize("shape", [*DENSE.values(), *SPARSE.values()], ids=[*DENSE, *SPARSE])
def test_logits_equal_transformers(
    shape, make_reference, padded_batch, reference_logits, tmp_path
) -> None:
    source, target = padded_batch
    reference = make_reference(**shape)
    expected = reference_logits(reference, source, target)
    reference.save_pretrained(tmp_path)
    with torch.no_grad():
        logits = load_model(open_model(tmp_path))(source, target)
    is_token = target != 1
    assert expected[is_token].std() >= 1
    torch.testing.assert_close(logits[is_token], expected[is_token], rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [{}, SPARSE["4 experts everywhere"]], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    "saved", [{"safe_serialization": False}, {"max_shard_size": "40KB"}], ids=["bin", "shards"]
)
def test_other_forms_of_weight_files(
    shape, saved, make_reference, padded_batch, reference_logits, tmp_path
) -> None:
    source, target = padded_batch
    reference = make_reference(**shape)
    reference.save_pretrained(tmp_path, **saved)
    if "max_shard_size" in saved:
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    with torch.no_grad():
        logits = load_model(open_model(tmp_path))(source, target)
    expected = reference_logits(reference, source, target)
    torch.testing.assert_close(logits[target != 1], expected[target != 1], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def sparse_model(make_reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparse")
    make_reference(**SPARSE["8 experts, steps 2 and 1"], seed=3).save_pretrained(folder)
    return load_model(open_model(folder))


@torch.no_grad()
def test_a_sentence_does_not_depend_on_its_batch_mates(sparse_model, padded_batch) -> None:
    source, target = padded_batch
    batched = sparse_model(source, target)
    for row in range(len(source)):
        alone_source = source[row : row + 1, : int((source[row] != 1).sum())]
        alone_target = target[row : row + 1, : int((target[row] != 1).sum())]
        alone = sparse_model(alone_source, alone_target)[0]
        torch.testing.assert_close(batched[row, : len(alone)], alone, rtol=0, atol=1e-4)


@torch.no_grad()
def test_decoding_by_steps_equals_decoding_at_once(sparse_model, padded_batch) -> None:
    source, target = padded_batch[0], padded_batch[1].clamp_min(4)
    memory = sparse_model.encode(source)
    cache = DecoderCache()
    steps = [target[:, :3], target[:, 3:4], target[:, 4:5], target[:, 5:]]
    states = [sparse_model.decode(step, memory, source, cache=cache) for step in steps]
    assert cache.length == target.shape[1]
    torch.testing.assert_close(
        sparse_model.project(torch.cat(states, 1)), sparse_model(source, target), rtol=0, atol=1e-4
    )


def test_longer_than_the_positions_table(make_reference, reference_logits, tmp_path) -> None:
    reference = make_reference(max_position_embeddings=16)
    reference.save_pretrained(tmp_path)
    source = torch.arange(50)[None] % 200 + 4
    with torch.no_grad():
        logits = load_model(open_model(tmp_path))(source, source)
    expected = reference_logits(reference, source, source)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_masking_factor_is_no_small_matter(sparse_model, padded_batch) -> None:
    config = replace(sparse_model.config, expert_output_masking=0.2)
    other = Transformer(config).eval()
    other.load_state_dict(sparse_model.state_dict())
    assert (other(*padded_batch) - sparse_model(*padded_batch)).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(sparse_model, padded_batch, dtype) -> None:
    source, target = padded_batch
    half = Transformer(sparse_model.config).eval()
    half.load_state_dict(sparse_model.state_dict())
    half = half.to(dtype)
    logits, expected = half(source, target), sparse_model(source, target)
    assert logits.dtype == dtype
    error = (logits.float() - expected)[target != 1]
    # A token near a tie may go to another expert: most logits are near, not each.
    assert error.abs().median() < (0.15 if dtype == torch.bfloat16 else 0.02)


@pytest.mark.parametrize("shape", [DENSE["unequal sides"], *SPARSE.values()])
def test_weight_names_are_the_state_dict(shape, make_reference, tmp_path) -> None:
    make_reference(**shape).config.save_pretrained(tmp_path)
    from nllb.model.configuration import ModelConfig
    from nllb.model.formats.hugging_face import read_document

    config = ModelConfig.from_hugging_face(read_document(tmp_path / "config.json"))
    with torch.device("meta"):
        state = Transformer(config).state_dict()
    assert {weight.name: weight.shape for weight in list_weights(config)} == {
        name: tuple(tensor.shape) for name, tensor in state.items()
    }


def test_sizes_of_the_published_models() -> None:
    counts = {model.name: num_parameters(model.config) for model in known_models()}
    assert counts["facebook/nllb-200-distilled-600M"] == 615_073_792
    assert counts["facebook/nllb-200-3.3B"] == 3_344_863_232
    assert counts["facebook/nllb-moe-54b"] == 54_500_569_088


@torch.no_grad()
@pytest.mark.parametrize("shape", [DENSE["unequal sides"], SPARSE["4 experts everywhere"]])
def test_greedy_tokens_equal_transformers_generate(
    shape, make_reference, padded_batch, tmp_path
) -> None:
    source, _ = padded_batch
    reference = make_reference(seed=11, **shape)
    reference.save_pretrained(tmp_path)
    model = load_model(open_model(tmp_path))
    expected = reference.generate(
        input_ids=source,
        attention_mask=(source != 1).long(),
        forced_bos_token_id=7,
        num_beams=1,
        do_sample=False,
        max_new_tokens=20,
    )
    memory, cache = model.encode(source), DecoderCache()
    tokens = torch.tensor([[2, 7]]).expand(len(source), -1)
    step, is_done = tokens, torch.zeros(len(source), dtype=torch.bool)
    while tokens.shape[1] < expected.shape[1]:
        logits = model.project(model.decode(step, memory, source, cache=cache)[:, -1])
        step = torch.where(is_done, 1, logits.argmax(-1))[:, None]
        # Finished rows are fed something that is no padding, and write padding.
        is_done |= step[:, 0] == 2
        tokens = torch.cat([tokens, step], 1)
        step = step.clamp_min(2)
    assert torch.equal(tokens, expected)
