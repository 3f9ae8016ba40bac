"""The search options in `generation_config.json` are used, reported, and kept by a conversion."""

import json
import shutil
from pathlib import Path

import pytest

from nllb.errors import CheckpointError
from nllb.inference.generator import SearchOptions
from nllb.inference.recommended_search import recommended_search
from nllb.model.formats.generation_options import read_generation_options


def recommended(tmp_path: Path, name: str = "generation_config.json", **options: object):
    (tmp_path / name).write_text(json.dumps(options))
    return recommended_search(read_generation_options(tmp_path), where="the model")


def test_what_transformers_writes_for_every_nllb_model_changes_nothing(tmp_path) -> None:
    found = recommended(
        tmp_path, max_length=200, eos_token_id=2, length_penalty=1.0, early_stopping=False
    )
    assert found.options == SearchOptions()
    assert found.describe() == []
    assert read_generation_options(tmp_path / "nothing") == {}


def test_options_of_beam_search(tmp_path) -> None:
    found = recommended(
        tmp_path,
        num_beams=5,
        early_stopping=True,
        length_penalty=0.6,
        no_repeat_ngram_size=3,
        repetition_penalty=1.2,
        min_length=6,
        top_k=20,
    )
    assert found.options == SearchOptions(
        beam_size=5,
        early_stopping=True,
        length_penalty=0.6,
        no_repeat_ngram=3,
        repetition_penalty=1.2,
        min_output_tokens=4,
    )
    assert "num_beams 5" in found.describe()[0]
    assert found.unused == {}


def test_greedy_search_is_a_choice(tmp_path) -> None:
    assert recommended(tmp_path, num_beams=1).options.beam_size == 1


def test_sampling(tmp_path) -> None:
    found = recommended(tmp_path, do_sample=True, temperature=0.7, top_p=0.9)
    expected = SearchOptions(beam_size=1, sampling=True, temperature=0.7, top_k=50, top_p=0.9)
    assert found.options == expected
    with_beams = recommended(tmp_path, do_sample=True, num_beams=4, temperature=0.7)
    assert with_beams.options == SearchOptions()
    assert with_beams.unused == {"do_sample": True}


def test_what_is_not_supported_is_named(tmp_path) -> None:
    found = recommended(tmp_path, early_stopping="never", bad_words_ids=[[5]], num_beam_groups=2)
    assert found.options == SearchOptions()
    assert set(found.unused) == {"early_stopping", "bad_words_ids", "num_beam_groups"}
    assert "not used" in found.describe()[0]


def test_older_directories_have_the_options_in_their_config(tmp_path) -> None:
    assert recommended(tmp_path, "config.json", num_beams=7).options.beam_size == 7
    assert recommended(tmp_path, num_beams=2).options.beam_size == 2


@pytest.mark.parametrize(
    "options", [{"num_beams": 100_000}, {"num_beams": "4"}, {"length_penalty": [1]}, {"top_k": {}}]
)
def test_impossible_values_are_refused(tmp_path, options) -> None:
    with pytest.raises(CheckpointError, match=r"generation_config|beam_size"):
        recommended(tmp_path, **options)


def test_a_translator_uses_them_unless_the_caller_names_options(
    random_model_dir, tmp_path, monkeypatch
) -> None:
    from nllb.inference.model_generator import ModelGenerator
    from nllb.translation.translator import Translator

    folder = Path(shutil.copytree(random_model_dir, tmp_path / "model"))
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | {"num_beams": 3}))
    said: list[str] = []
    translator = Translator.load(folder, num_threads=1, report=said.append)
    assert "search options of the model: num_beams 3" in said
    used = []
    generate = ModelGenerator.generate

    def spy(self, segments, *, search, **others):
        used.append(search.beam_size)
        return generate(self, segments, search=search, **others)

    monkeypatch.setattr(ModelGenerator, "generate", spy)
    translator.translate("Hello.", "eng_Latn", "fra_Latn", retry=False)
    translator.translate(
        "Hello.", "eng_Latn", "fra_Latn", retry=False, search=SearchOptions(beam_size=2)
    )
    assert used == [3, 2]
