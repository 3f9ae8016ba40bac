import random
import shutil
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
from nllb.translation.loading import default_model, describe_model, load_generator, no_model
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


@pytest.fixture
def shipped(mixture_dir, tmp_path, monkeypatch):
    """Put the mixture where the bundled model lies; nothing is cached or named."""
    for module in ("shipped", "listing"):
        monkeypatch.setattr(f"nllb.model.{module}.SHIPPED_DIR", tmp_path / "shipped")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("NLLB_MODEL", raising=False)
    return shutil.copytree(mixture_dir, tmp_path / "shipped" / "mini")


def test_without_a_name_the_bundled_model_translates(shipped, mixture_dir, monkeypatch):
    said = []
    texts = ["some words here", "and others there"]
    translated = [
        Translator.load(name, device="cpu", num_threads=1, report=said.append).translate(
            texts, source="en", target="fr", search=GREEDY, retry=False
        )
        for name in (None, "mini", "nllb-mini", mixture_dir)
    ]
    assert all(each == translated[0] for each in translated)
    assert said[0].startswith("model: mini (ships with nllb")
    assert sum("model: " in each for each in said) == 1
    monkeypatch.chdir(mixture_dir.parent)
    shutil.copytree(mixture_dir, "mini")
    assert open_model("mini").path.samefile("mini")  # what lies here goes before what ships


def test_the_default_is_the_variables_then_the_caches_then_the_bundled(
    shipped, mixture_dir, tmp_path, monkeypatch
):
    assert default_model()[0] == "mini"
    revision = "1" * 40
    for name in ("nllb-200-3.3B", "nllb-200-1.3B"):
        folder = tmp_path / "hub" / f"models--facebook--{name}"
        shutil.copytree(mixture_dir, folder / "snapshots" / revision)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(revision)
    assert default_model() == ("facebook/nllb-200-1.3B", "in the cache, weights CC-BY-NC-4.0")
    (tmp_path / "hub/models--facebook--nllb-200-1.3B/snapshots" / revision).joinpath(
        "model.safetensors"
    ).unlink()
    assert default_model()[0] == "facebook/nllb-200-3.3B"
    monkeypatch.setenv("NLLB_MODEL", str(mixture_dir))
    assert default_model()[0] == str(mixture_dir)
    assert describe_model(None) == describe_model(mixture_dir)


def test_no_model_names_the_ways_to_get_one(shipped, tmp_path):
    shutil.rmtree(shipped)
    with pytest.raises(CheckpointError, match="no model was named"):
        load_generator(None)
    said = no_model()
    for name in ("facebook/nllb-200-distilled-600M", "facebook/nllb-moe-54b", "DIR", "--model"):
        assert name in said
    with pytest.raises(CheckpointError, match="ships with nllb, and this installation was made"):
        Translator.load("mini")
    with pytest.raises(CheckpointError, match="is no model directory"):
        Translator.load(tmp_path)


def test_what_tells_a_model_from_another_is_its_files(shipped, tmp_path):
    before = describe_model("mini")
    assert {"nllb.json", "model.safetensors"} <= {name for name, *_ in before["files"]}
    moved = shipped.rename(tmp_path / "elsewhere")
    assert describe_model(moved) == before
    (moved / "shortlists.safetensors").write_bytes(b"lists")
    assert describe_model(moved) != before


def test_the_disk_is_measured_where_experts_stay_in_the_file(mixture_dir, monkeypatch):
    measured = []
    monkeypatch.setattr(
        "nllb.translation.memory_plan.measure_disk", lambda path: measured.append(path) or 1e9
    )
    load_generator(mixture_dir, device="cpu", num_threads=1)
    assert measured == []
    load_generator(mixture_dir, device="cpu", num_threads=1, expert_memory=1 << 20)
    assert measured == [mixture_dir / "model.safetensors"]
