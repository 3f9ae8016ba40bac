"""Documents become sentences: split, filtered, identified, decontaminated, deduplicated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest

import data_pipeline.filtering.detectors
import data_pipeline.filtering.languages
from data_pipeline.blocks import read_columns, read_facts
from data_pipeline.data_config import (
    CorpusConfig,
    DataConfig,
    EvaluationConfig,
    LanguageFilterConfig,
    MonolingualConfig,
    NearDuplicateConfig,
)
from data_pipeline.monolingual import blocks_and_decisions, make_sentences
from data_pipeline.readers.ingestion import ingest
from data_pipeline.stages import Machine

DOCUMENTS = """This is the first sentence of it. And this is the second one of them.
Short.
Привет, это не по-английски, но всё же здесь.
This is the first sentence of it. !!! ??? --- ((( ))) *** &&& %%%
12 34 56 78 90 12 34 56 78 90 of 12
Noooooooooooooooooooooooooooo, it is not to be in the way.
il est à la mer et je ne pas un mot de plus
The secret evaluation sentence is in it, as you see, and it stays there for good reason.
And this is the last one of the documents, with it.
"""
SECRET = "The secret evaluation sentence is in it, as you see, and it stays there for good reason."


@pytest.fixture
def config(tmp_path: Path, make_config: Callable[..., DataConfig]) -> DataConfig:
    (tmp_path / "docs.eng_Latn.txt").write_text(DOCUMENTS, encoding="utf-8")
    (tmp_path / "more.eng_Latn.txt").write_text(
        "And this is the second one of them. A new one it is for you.\n", encoding="utf-8"
    )
    (tmp_path / "eng_Latn-fra_Latn.tsv").write_text("a\tb\n")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "eng_Latn").write_text(SECRET + "\n")
    corpora = tuple(
        CorpusConfig(name=name, format="lines", path=f"{name}.{{language}}.txt")
        for name in ("docs", "more")
    )
    return make_config(
        data_dir=tmp_path,
        monolingual=MonolingualConfig(corpora=corpora, language=LanguageFilterConfig()),
        decontamination=(EvaluationConfig(name="own", path="evaluation"),),
    )


def test_what_stays_and_why_the_rest_does_not(
    tmp_path: Path,
    config: DataConfig,
    word_detector: Any,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        data_pipeline.filtering.languages, "load_detector", lambda model: word_detector
    )
    out = tmp_path / "out"
    ingest(config, out, machine)
    blocks = make_sentences(config, out, machine)
    frame = polars.concat([read_columns(block.path) for block in blocks])
    assert frame["text"].to_list() == [
        "This is the first sentence of it.",
        "And this is the second one of them.",
        "And this is the last one of the documents, with it.",
        "A new one it is for you.",
    ]
    assert frame["document"].to_list() == [1, 1, 9, 1]
    assert set(frame["language"].cast(polars.String)) == {"eng_Latn"}
    assert frame["probability"].min() > 0.5  # type: ignore[operator]
    assert frame.columns == ["text", "language", "probability", "document", "line"]
    assert all("sentences/eng_Latn/" in str(block.path) for block in blocks)
    reasons = [
        read_facts(filtered.path)["reasons"] for filtered, _ in blocks_and_decisions(config, out)
    ]
    assert reasons[0] == {
        "digits": 1,
        "evaluation_whole": 1,
        "language": 1,
        "punctuation": 1,
        "repetition": 1,
        "script": 2,
        "too_short": 1,
    }
    # The second corpus repeats a sentence of the first.
    assert [read_facts(block.path)["reasons"] for block in blocks] == [{}, {"duplicate": 1}]


def test_a_second_start_does_nothing(
    tmp_path: Path,
    config: DataConfig,
    word_detector: Any,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        data_pipeline.filtering.languages, "load_detector", lambda model: word_detector
    )
    out = tmp_path / "out"
    ingest(config, out, machine)
    first = make_sentences(config, out, machine)
    asked = len(word_detector.asked)
    assert make_sentences(config, out, machine) == first
    assert len(word_detector.asked) == asked


def test_optional_stages_drop_boilerplate_navigation_and_near_duplicates(
    tmp_path: Path, make_config: Callable[..., DataConfig], machine: Machine
) -> None:
    story = "The old bridge over the river was closed for repairs until the end of the summer"
    documents = [
        f"Accept all cookies to continue. {story}.",
        f"Accept all cookies to continue. {story} .",
        "Accept all cookies to continue. Home | News | Contact",
        f"{story.replace('old', 'new')}. A very different sentence follows here.",
    ]
    (tmp_path / "web.eng_Latn.txt").write_text("\n".join(documents) + "\n", encoding="utf-8")
    corpus = CorpusConfig(name="web", format="lines", path="web.{language}.txt")

    def sentences(**options: Any) -> tuple[list[str], dict[str, int], dict[str, int]]:
        section = MonolingualConfig(corpora=(corpus,), **options)
        config = make_config(corpora=(), data_dir=tmp_path, monolingual=section)
        out = tmp_path / "out"
        ingest(config, out, machine)
        (block,) = make_sentences(config, out, machine)
        ((filtered, _),) = blocks_and_decisions(config, out)
        texts = read_columns(block.path)["text"].to_list()
        return texts, read_facts(filtered.path)["reasons"], read_facts(block.path)["reasons"]

    texts, _, dropped = sentences()
    assert len(texts) == 6 and dropped == {"duplicate": 2}
    texts, rejected, dropped = sentences(
        max_repetitions=2, navigation=True, near_duplicates=NearDuplicateConfig()
    )
    assert texts == [f"{story}.", "A very different sentence follows here."]
    assert rejected == {"navigation": 1}
    assert dropped == {"boilerplate": 3, "near_duplicate": 2}
