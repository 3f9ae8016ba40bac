"""Cleaning: entities, tags, wiki markup, stray characters; what cannot be mended is rejected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import given, settings, strategies

from data_pipeline.blocks import read_columns, read_facts
from data_pipeline.cleaning.clean_text import clean, clean_columns
from data_pipeline.data_config import CleanConfig, CorpusConfig, DataConfig
from data_pipeline.stages import Machine

DEFAULT = CleanConfig()


def cleaned(text: str, config: CleanConfig = DEFAULT, *, interface: bool = False) -> str:
    frame = polars.DataFrame({"source": [text]}, schema={"source": polars.String})
    (found,) = clean_columns(frame, ["source"], config, interface=interface)["source"].to_list()
    return str(found)


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        ("Tom &amp; Jerry&#39;s &quot;show&quot;&nbsp;!", 'Tom & Jerry\'s "show" !'),
        ("AT&T and R&D; 3 < 5 > 2", "AT&T and R&D; 3 < 5 > 2"),
        ("a <b>bold</b> word<br/>next <a href='x'>link</a><!-- no -->", "a bold word next link"),
        ("x<y and <name@example.org>", "x<y and <name@example.org>"),
        (
            "soft\u00adhyphen zero\u200bwidth \ufeffmark\u0007 bell",
            "softhyphen zerowidth mark bell",
        ),
        ("می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष"),
        ("  many\t\tspaces\u3000here \n now ", "many spaces here now"),
        ("cafe\u0301", "café"),
        ("“quoted” – and… ‘single’", "\"quoted\" - and... 'single'"),
        ("第１章「四」", "第１章「四」"),
    ],
)
def test_text_comes_to_one_form(raw: str, clean_text: str) -> None:
    assert cleaned(raw) == clean_text


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        ("[[User:Tom|Tom]] edited [[Paris]]", "Tom edited Paris"),
        ("'''bold''' and ''italic'' don't", "bold and italic don't"),
        ("{{PLURAL:$1|one page|$1 pages}} in {{SITENAME}}", "$1 pages in {{SITENAME}}"),
        ("{{GENDER:$2|his|her|their}} edit", "his edit"),
        ("{{PLURAL:$1|a [[page]]|[[pages|many]]}}", "many"),
        ("see [https://example.org the manual] now", "see the manual now"),
        ("[$1 Log in] first", "Log in first"),
        ("== Heading ==", "Heading"),
    ],
)
def test_interface_markup_is_resolved(raw: str, clean_text: str) -> None:
    assert cleaned(raw, interface=True) == clean_text
    assert cleaned(raw) != clean_text or "$" not in raw


def test_what_is_switched_off_is_left() -> None:
    off = CleanConfig(unicode="none", punctuation=False, entities=False, markup=False)
    raw = "cafe\u0301 &amp; <b>“x”</b>"
    assert cleaned(raw, off) == raw
    assert cleaned("ﬁ", CleanConfig(unicode="NFKC")) == "fi"


@settings(max_examples=200, deadline=None)
@given(strategies.text(strategies.characters(exclude_categories=("Cs",)), max_size=40))
def test_cleaned_text_is_one_line_and_stays_when_cleaned_again(text: str) -> None:
    off = CleanConfig(punctuation=False, entities=False, markup=False)
    once = cleaned(text, off)
    assert not set(once) & set("\n\r\t\u2028\u0000") and once == once.strip()
    assert cleaned(once, off) == once


def test_lines_that_cannot_be_used_have_a_reason(
    tmp_path: Path,
    make_block: Callable[..., Any],
    make_config: Callable[..., DataConfig],
    machine: Machine,
) -> None:
    sources = ["good", "&nbsp;", "broken \ufffd", "{{#if:$1|a|b}} left", "x"]
    raw = make_block(sources, ["bon", "x", "y", "z", "[[w"], name="ui/eng_Latn-fra_Latn/00000")
    corpus = CorpusConfig(name="ui", format="tsv", path="{source}-{target}.tsv", interface=True)
    (block,) = clean(make_config(corpora=(corpus,)), [raw], tmp_path / "out", machine)
    frame = read_columns(block.path)
    assert frame["reason"].cast(polars.String).to_list() == [
        None,
        "empty",
        "broken_characters",
        "markup",
        "markup",
    ]
    assert frame["line"].to_list() == [1, 2, 3, 4, 5]
    facts = read_facts(block.path)
    assert (facts["rows_in"], facts["rows_out"]) == (5, 1)
    assert facts["reasons"] == {"broken_characters": 1, "empty": 1, "markup": 2}
    assert facts["samples"]["empty"] == [{"line": 2, "source": "&nbsp;", "target": "x"}]
