"""Hashes of whole columns equal those of single strings."""

from pathlib import Path

import numpy
import polars
import pytest
import xxhash
from hypothesis import given, settings, strategies

from data_pipeline.deduplication.hashing import hash_texts, joined_sides, normalized, pair_salt
from nllb.languages.normalization import normalize_for_hashing


def normalized_column(texts: list[str]) -> list[str]:
    return normalized(polars.Series(texts, dtype=polars.String)).to_list()


def test_the_column_form_equals_the_string_form_on_real_lines(data_dir: Path) -> None:
    lines = [
        line
        for folder in ("nllb_seed", "udhr", "tico19")
        for path in sorted((data_dir / folder).iterdir())
        if path.name not in ("README", "LICENSE")
        for line in path.read_text(encoding="utf-8").split("\n")[:60]
    ]
    assert len(lines) > 9000
    assert normalized_column(lines) == [normalize_for_hashing(line) for line in lines]


@settings(max_examples=300, deadline=None)
@given(
    strategies.text(strategies.characters(max_codepoint=0x2FFF, exclude_categories=("Cs", "Cn")))
)
def test_the_column_form_equals_the_string_form_on_any_text(text: str) -> None:
    assert normalized_column([text]) == [normalize_for_hashing(text)]


@pytest.mark.parametrize(
    "text",
    [
        " \x1c Déjà\tvu 12 \x1f",
        "ΟΔΟΣ ΣΟΦΙΑΣ",
        "İSTANBUL Iğdır",
        "１２３、「四」",
        "a\u200bb",
        "",
        "٣٤ १२",
    ],
)
def test_edges_of_the_column_form(text: str) -> None:
    assert normalized_column([text]) == [normalize_for_hashing(text)]


def test_a_full_width_digit_stays_a_digit() -> None:
    # Defect 7 of the anchors: their table turns U+FF11 into a quotation mark.
    assert normalized_column(["第１章", "第1章"]) == ["第0章", "第0章"]


def test_hashes_are_those_of_utf8_bytes() -> None:
    # Defect 1 of the anchors: xxhash from version 4 on refuses text, so it is bytes that are given.
    texts = ["", "a", "Straße", "नमस्ते", "語" * 100]
    assert hash_texts(polars.Series(texts))[:, 0].tolist() == [
        xxhash.xxh3_64_intdigest(text.encode()) for text in texts
    ]
    wide = hash_texts(polars.Series(texts), 128)
    for text, (high, low) in zip(texts, wide.tolist(), strict=True):
        assert (high << 64) + low == xxhash.xxh3_128_intdigest(text.encode())


def test_hashes_of_a_filtered_column_are_those_of_its_own_rows() -> None:
    series = polars.Series(["a", "bb", "ccc", "dddd"])
    kept = series.filter(polars.Series([False, True, False, True])).slice(1)
    assert hash_texts(kept).tolist() == hash_texts(polars.Series(["dddd"])).tolist()


def test_the_letters_form_drops_all_but_letters_and_digits() -> None:
    texts = polars.Series(["Don't -- STOP, 3 times!", "dont stop 3 times"])
    forms = normalized(texts, "letters")
    assert forms.to_list() == ["dontstop3times"] * 2


def test_both_orientations_of_a_corpus_meet(make_block) -> None:  # type: ignore[no-untyped-def]
    one = make_block(["Hello"], ["Bonjour"], name="a/eng_Latn-fra_Latn/00000")
    other = make_block(["Bonjour"], ["Hello"], name="b/fra_Latn-eng_Latn/00000")
    frames = [
        polars.DataFrame({"source": ["Hello"], "target": ["Bonjour"]}),
        polars.DataFrame({"source": ["Bonjour"], "target": ["Hello"]}),
    ]
    joined = [
        joined_sides(frame, block, "pair", "standard").to_list()
        for frame, block in zip(frames, (one, other), strict=True)
    ]
    assert joined == [["hello\tbonjour"]] * 2
    assert pair_salt(one, "pair") == pair_salt(other, "pair")
    assert pair_salt(one, "source") == pair_salt(other, "target")
    assert len({int(pair_salt(one, by)) for by in ("pair", "source", "target")}) == 3
    assert isinstance(pair_salt(one, "pair"), numpy.uint64)
