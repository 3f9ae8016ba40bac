"""A mixture of experts on a small machine: experts left in the file, and experts left out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nllb.cli import main
from nllb.errors import CheckpointError, ConfigError, DataError
from nllb.inference.expert_cache import ExpertCache
from nllb.inference.generator import SearchOptions
from nllb.inference.model_generator import ModelGenerator
from nllb.inference.pruning import choose_experts, count_gates
from nllb.languages import parse_language
from nllb.model.configuration import ModelConfig
from nllb.model.formats.hugging_face import write_hugging_face
from nllb.model.formats.open_model import load_model, open_model
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer

ENGLISH, FRENCH = parse_language("eng_Latn"), parse_language("fra_Latn")
LINES = [
    "The river rises in the hills and runs slowly to the sea.",
    "Three red boats wait at the old stone bridge.",
    "Nobody knew which of the doors led to the garden.",
    "Rain fell for nine days, and the road to the village was lost.",
    "She writes letters by hand because she likes the sound of the pen.",
    "A small dog slept under the table.",
]


@pytest.fixture(scope="module")
def model_dir(train_vocabulary, tmp_path_factory) -> Path:
    """Return a random mixture of 8 experts in the Hugging Face layout."""
    folder = tmp_path_factory.mktemp("model")
    path = train_vocabulary(LINES * 3, folder, vocab_size=120, hard_vocab_limit=False)
    tokenizer = Tokenizer.build(path)
    config = ModelConfig(
        vocabulary_size=tokenizer.layout.size,
        model_dim=32,
        encoder_layers=4,
        decoder_layers=2,
        encoder_heads=4,
        decoder_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_experts=8,
        encoder_sparse_step=2,
        decoder_sparse_step=2,
        expert_output_masking=0.2,
    )
    torch.manual_seed(3)
    model = Transformer(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            wide = 0.05 if "embedding" in name else 2.0 * parameter.shape[-1] ** -0.5
            parameter.normal_(1.0 if name.endswith("norm.weight") else 0.0, wide)
    output = folder / "moe"
    write_hugging_face(output, config, model.state_dict(), tokenizer, settings={})
    return output


def draw(generator: ModelGenerator) -> list[tuple[int, ...]]:
    """Sample: a random model's best tokens repeat, its draws follow every logit."""
    search = SearchOptions(beam_size=1, sampling=True, max_output_tokens=24)
    found = generator.generate(LINES, source=ENGLISH, target=FRENCH, search=search)
    return [hypotheses[0].token_ids for hypotheses in found]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("held", [1, 5])
def test_experts_left_in_the_file_give_the_same_tokens(model_dir: Path, dtype, held) -> None:
    stores: list[ExpertCache] = []

    def bounded(load) -> ExpertCache:
        stores.append(ExpertCache(load, expert_bytes=1000, memory_bytes=1000 * held))
        return stores[-1]

    all_in_memory = draw(ModelGenerator.load(model_dir, device="cpu", dtype=dtype, num_threads=1))
    left = ModelGenerator.load(model_dir, device="cpu", dtype=dtype, num_threads=1, experts=bounded)
    assert draw(left) == all_in_memory
    assert len(set(all_in_memory)) > 1
    (store,) = stores
    assert len(store) <= held
    assert store.statistics.evictions > 0


@pytest.fixture(scope="module")
def gates(model_dir: Path):
    return count_gates(open_model(model_dir), LINES, source=ENGLISH, target=FRENCH, quiet=True)


def test_the_gate_of_every_token_is_counted_once(gates, model_dir: Path) -> None:
    assert list(gates) == ["encoder.layers.1", "encoder.layers.3", "decoder.layers.1"]
    tokenizer = open_model(model_dir).tokenizer()
    tokens = sum(len(tokenizer.encode_source(line, "eng_Latn")) for line in LINES)
    for layer in ("encoder.layers.1", "encoder.layers.3"):
        assert gates[layer].sum() == pytest.approx(tokens, rel=1e-5)
    assert gates["decoder.layers.1"].sum() > len(LINES)


@pytest.mark.parametrize(
    ("keep", "ratio", "encoder", "decoder"),
    [(0.5, 3.0, 5, 2), (0.5, 1.0, 4, 4), (1.0, 3.0, 8, 8), (0.01, 3.0, 2, 2), (0.9, 3.0, 8, 6)],
)
def test_the_kept_experts_are_the_busiest(gates, model_dir, keep, ratio, encoder, decoder) -> None:
    config = open_model(model_dir).config
    kept = choose_experts(gates, config, keep=keep, encoder_to_decoder=ratio)
    for layer, experts in kept.items():
        assert len(experts) == (encoder if layer.startswith("encoder") else decoder)
        dropped = np.setdiff1d(np.arange(8), experts)
        assert not len(dropped) or gates[layer][dropped].max() <= gates[layer][experts].min()


def test_a_pruned_model_is_the_whole_one_with_the_others_forbidden(
    model_dir: Path, gates, tmp_path: Path, capsys
) -> None:
    """Ours and transformers read the pruned directory; both equal the whole model, masked."""
    from transformers import NllbMoeForConditionalGeneration

    text = tmp_path / "lines.txt"
    text.write_text("\n".join(LINES) + "\n")
    output = tmp_path / "pruned"
    command = ["prune", str(model_dir), str(output), "--text", str(text), "--source", "en"]
    assert main([*command, "--target", "fr", "--keep", "0.5", "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["experts_before"], result["experts_after"]) == (24, 12)
    assert result["bytes_after"] < result["bytes_before"]
    assert 0.5 < result["gate_kept"] < 1

    kept = choose_experts(gates, open_model(model_dir).config, keep=0.5)
    whole = load_model(open_model(model_dir)).eval()
    masked = Transformer(replace(whole.config, router_bias=True)).eval()
    state = whole.state_dict()
    for layer, experts in kept.items():
        bias = torch.full((8,), -1e4)
        bias[experts] = 0.0
        state[f"{layer}.feed_forward.router.bias"] = bias
    masked.load_state_dict(state)
    source = torch.tensor([[5, 9, 12, 30, 2, 1], [7, 8, 9, 10, 11, 2]])
    target = torch.tensor([[2, 40, 9, 12], [2, 40, 30, 31]])
    reference = NllbMoeForConditionalGeneration.from_pretrained(output).eval()
    with torch.no_grad():
        wanted = masked(source, target)
        ours = load_model(open_model(output)).eval()(source, target)
        theirs = reference(
            input_ids=source, attention_mask=(source != 1).long(), decoder_input_ids=target
        ).logits
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(theirs, wanted, rtol=0, atol=1e-4)
    assert not torch.allclose(wanted, whole(source, target), atol=1e-2)


def test_what_cannot_be_pruned_is_said(model_dir: Path, gates, tmp_path: Path) -> None:
    opened = open_model(model_dir)
    with pytest.raises(ConfigError, match="keep is 1"):
        choose_experts(gates, opened.config, keep=1.5)
    with pytest.raises(ConfigError, match=r"ratio is -1\.0"):
        choose_experts(gates, opened.config, keep=0.5, encoder_to_decoder=-1.0)
    (tmp_path / "there").write_text("something")
    words = ["--text", "none", "--source", "en", "--target", "fr", "--keep", "0.5"]
    assert main(["prune", str(model_dir), str(tmp_path), *words]) == CheckpointError.exit_code
    with pytest.raises(DataError, match="sample text is empty"):
        count_gates(opened, ["", " "], source=ENGLISH, target=FRENCH)
    dense = replace(opened, config=replace(opened.config, num_experts=0))
    with pytest.raises(ConfigError, match="dense model"):
        count_gates(dense, LINES, source=ENGLISH, target=FRENCH)
