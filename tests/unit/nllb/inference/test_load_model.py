import shutil

import pytest

from nllb.errors import CheckpointError, ResourceError
from nllb.inference import load_model
from nllb.inference.load_model import (
    default_model,
    describe_model,
    load_generator,
    no_model_message,
)
from nllb.inference.memory_plan import plan_memory
from nllb.model.formats.open_model import open_model
from nllb.translation import SearchOptions, Translator

CODES = ["eng_Latn", "fra_Latn", "deu_Latn"]
GREEDY = SearchOptions(beam_size=1, max_output_tokens=12)


def test_the_memory_plan_is_reported_before_loading(random_model_dir, monkeypatch):
    monkeypatch.setattr(load_model, "SMALL_MODEL_BYTES", 0)
    said = []
    translator = Translator.load(random_model_dir, device="cpu", report=said.append, num_threads=1)
    assert len(said) == 1 and "memory:" in said[0] and "8 of 8 in memory" in said[0]
    assert [translator.language(code).code for code in CODES] == CODES


def test_little_expert_memory_gives_the_same_translation(random_model_dir, monkeypatch):
    monkeypatch.setattr(load_model, "SMALL_MODEL_BYTES", 0)
    plan = plan_memory(open_model(random_model_dir).config, dtype="float32")
    said = []
    texts = ["some words here", "and others there. More of them"]
    held, on_demand = (
        Translator.load(
            random_model_dir,
            device="cpu",
            dtype="float32",
            num_threads=1,
            expert_memory=memory,
            report=said.append,
        ).translate(texts, source="en", target="fr", search=GREEDY, retry=False)
        for memory in (None, 2 * plan.expert_bytes)
    )
    assert [each.text for each in held] == [each.text for each in on_demand]
    assert "2 of 8 in memory" in said[1]


def test_a_model_that_does_not_fit_is_refused_with_what_it_needs(random_model_dir, monkeypatch):
    monkeypatch.setattr("nllb.inference.memory_plan.available_memory", lambda: 1 << 20)
    with pytest.raises(ResourceError, match=r"needed, 1\.0 MiB free"):
        Translator.load(random_model_dir, device="cpu")
    with pytest.raises(ResourceError, match="is too small: one expert needs"):
        monkeypatch.undo()
        Translator.load(random_model_dir, device="cpu", expert_memory=10, num_threads=1).translate(
            "words", source="en", target="fr"
        )


@pytest.fixture
def shipped(random_model_dir, tmp_path, monkeypatch):
    """Put the mixture where the bundled model lies; nothing is cached or named."""
    monkeypatch.setattr("nllb.model.shipped.SHIPPED_DIR", tmp_path / "shipped")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("NLLB_MODEL", raising=False)
    return shutil.copytree(random_model_dir, tmp_path / "shipped" / "mini")


def test_without_a_name_the_bundled_model_translates(shipped, random_model_dir, monkeypatch):
    said = []
    texts = ["some words here", "and others there"]
    translated = [
        Translator.load(name, device="cpu", num_threads=1, report=said.append).translate(
            texts, source="en", target="fr", search=GREEDY, retry=False
        )
        for name in (None, "mini", "nllb-mini", random_model_dir)
    ]
    assert all(each == translated[0] for each in translated)
    assert said[0].startswith("model: mini (ships with nllb")
    assert sum("model: " in each for each in said) == 1
    monkeypatch.chdir(shipped.parents[1])
    shutil.copytree(random_model_dir, "mini")
    assert open_model("mini").path.samefile("mini")  # what lies here goes before what ships


def test_the_default_is_the_variables_then_the_caches_then_the_bundled(
    shipped, random_model_dir, tmp_path, monkeypatch
):
    assert default_model()[0] == "mini"
    revision = "1" * 40
    for name in ("nllb-200-3.3B", "nllb-200-1.3B"):
        folder = tmp_path / "hub" / f"models--facebook--{name}"
        shutil.copytree(random_model_dir, folder / "snapshots" / revision)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(revision)
    assert default_model() == ("facebook/nllb-200-1.3B", "in the cache, weights under CC-BY-NC-4.0")
    (tmp_path / "hub/models--facebook--nllb-200-1.3B/snapshots" / revision).joinpath(
        "model.safetensors"
    ).unlink()
    assert default_model()[0] == "facebook/nllb-200-3.3B"
    monkeypatch.setenv("NLLB_MODEL", str(random_model_dir))
    assert default_model()[0] == str(random_model_dir)
    assert describe_model(None) == describe_model(random_model_dir)


def test_no_model_names_the_ways_to_get_one(shipped, tmp_path):
    shutil.rmtree(shipped)
    with pytest.raises(CheckpointError, match="no model was named"):
        load_generator(None)
    said = no_model_message()
    for name in ("facebook/nllb-200-distilled-600M", "facebook/nllb-moe-54b", "DIR", "--model"):
        assert name in said
    with pytest.raises(
        CheckpointError, match="ships with nllb, but this installation does not include"
    ):
        Translator.load("mini")
    with pytest.raises(CheckpointError, match="is not a model directory"):
        Translator.load(tmp_path)


def test_what_tells_a_model_from_another_is_its_files(shipped, tmp_path):
    before = describe_model("mini")
    assert {"nllb.json", "model.safetensors"} <= {name for name, *_ in before["files"]}
    moved = shipped.rename(tmp_path / "elsewhere")
    assert describe_model(moved) == before
    (moved / "shortlists.safetensors").write_bytes(b"lists")
    assert describe_model(moved) != before


def test_the_disk_is_measured_where_experts_stay_in_the_file(random_model_dir, monkeypatch):
    measured = []
    monkeypatch.setattr(
        "nllb.inference.memory_plan.measure_disk", lambda path: measured.append(path) or 1e9
    )
    load_generator(random_model_dir, device="cpu", num_threads=1)
    assert measured == []
    load_generator(random_model_dir, device="cpu", num_threads=1, expert_memory=1 << 20)
    assert measured == [random_model_dir / "model.safetensors"]
