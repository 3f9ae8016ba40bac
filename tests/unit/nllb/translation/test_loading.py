import random
import string

import pytest
import sentencepiece
import torch

from nllb.errors import CheckpointError, ResourceError
from nllb.model.checkpoint import open_model
from nllb.model.config import ModelConfig
from nllb.model.hugging_face import write_hugging_face
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer
from nllb.translation import SearchOptions, Translator
from nllb.translation.loading import load_generator, no_model
from nllb.translation.memory_plan import plan_memory

CODES = ["eng_Latn", "fra_Latn", "deu_Latn"]
GREEDY = SearchOptions(beam_size=1, max_output_tokens=12)


@pytest.fixture(scope="module")
def mixture_dir(tmp_path_factory):
    """Return a random mixture-of-experts model: 2 layers of 4 experts."""
    folder = tmp_path_factory.mktemp("mixture")
    draw = random.Random(0)
    words = [
        "".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 7))) for _ in range(300)
    ]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(" ".join(draw.choices(words, k=6)) for _ in range(400)),
        model_prefix=str(folder / "vocabulary"),
        vocab_size=200,
        model_type="bpe",
        num_threads=1,
        minloglevel=2,
    )
    tokenizer = Tokenizer.build(folder / "vocabulary.model", CODES)
    config = ModelConfig(
        vocabulary_size=tokenizer.layout.size,
        model_dim=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_heads=4,
        decoder_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_experts=4,
        encoder_sparse_step=2,
        decoder_sparse_step=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Transformer(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    directory = folder / "model"
    write_hugging_face(directory, config, model.state_dict(), tokenizer, settings={})
    return directory


def test_the_memory_plan_is_reported_before_loading(mixture_dir):
    said = []
    translator = Translator.load(mixture_dir, device="cpu", report=said.append, num_threads=1)
    assert len(said) == 1 and "memory:" in said[0] and "8 of 8 held" in said[0]
    assert [translator.language(code).code for code in CODES] == CODES


def test_little_expert_memory_gives_the_same_translation(mixture_dir):
    plan = plan_memory(open_model(mixture_dir).config, dtype="float32")
    said = []
    texts = ["some words here", "and others there. More of them"]
    held, on_demand = (
        Translator.load(
            mixture_dir,
            device="cpu",
            dtype="float32",
            num_threads=1,
            expert_memory=memory,
            report=said.append,
        ).translate(texts, source="en", target="fr", search=GREEDY, retry=False)
        for memory in (None, 2 * plan.expert_bytes)
    )
    assert [each.text for each in held] == [each.text for each in on_demand]
    assert "2 of 8 held" in said[1]


def test_a_model_that_does_not_fit_is_refused_with_what_it_needs(mixture_dir, monkeypatch):
    monkeypatch.setattr("nllb.translation.memory_plan.available_memory", lambda: 1 << 20)
    with pytest.raises(ResourceError, match=r"needed, 1\.0 MiB free"):
        Translator.load(mixture_dir, device="cpu")
    with pytest.raises(ResourceError, match="holds no expert"):
        monkeypatch.undo()
        Translator.load(mixture_dir, device="cpu", expert_memory=10, num_threads=1).translate(
            "words", source="en", target="fr"
        )


def test_no_model_names_the_ways_to_get_one(tmp_path):
    with pytest.raises(CheckpointError, match="no model was named"):
        load_generator(None)
    said = no_model()
    for name in ("facebook/nllb-200-distilled-600M", "facebook/nllb-moe-54b", "DIR", "--model"):
        assert name in said
    with pytest.raises(CheckpointError):
        Translator.load(tmp_path)


def test_the_disk_is_measured_where_experts_stay_in_the_file(mixture_dir, monkeypatch):
    measured = []
    monkeypatch.setattr(
        "nllb.translation.memory_plan.measure_disk", lambda path: measured.append(path) or 1e9
    )
    load_generator(mixture_dir, device="cpu", num_threads=1)
    assert measured == []
    load_generator(mixture_dir, device="cpu", num_threads=1, expert_memory=1 << 20)
    assert measured == [mixture_dir / "model.safetensors"]
