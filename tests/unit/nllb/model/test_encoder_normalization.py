"""Characters are replaced by the map, decomposed ones are composed, and none is lost."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.errors import CheckpointError
from nllb.model.encoder_normalization import CharacterMap
from tests.tiny_encoder import REPLACEMENTS

CHARACTERS = CharacterMap({**REPLACEMENTS, "\u212b": "\u00c5", "\u0958": "\u0915\u093c"})


@pytest.mark.parametrize(("source", "target"), REPLACEMENTS.items())
def test_single_characters_are_replaced(source, target) -> None:
    assert CHARACTERS.normalize(f"x{source}y") == f"x{target}y"


@pytest.mark.parametrize("text", ["é", "ệ", "ờ", "한국어", "각", "ά", "ё", "ṩ", "লো", "தொ"])
def test_decomposed_characters_are_composed(text) -> None:
    assert CHARACTERS.normalize(unicodedata.normalize("NFD", text)) == text


@pytest.mark.parametrize("text", ["\u01a1\u0300", "\u00ea\u0323", "\uac00\u11a8", "A\u030a"])
def test_partly_composed_characters_are_composed(text) -> None:
    assert CHARACTERS.normalize(text) == unicodedata.normalize("NFC", text)


def test_marks_of_a_replaced_letter_are_kept() -> None:
    assert CHARACTERS.normalize("\u0958\u093f") == "\u0915\u093c\u093f"
    assert CHARACTERS.normalize("\uff21\u030a") == "\u00c5"


def test_marks_are_not_reordered() -> None:
    assert CHARACTERS.normalize("\u0628\u0651\u064f") == "\u0628\u0651\u064f"
    assert CHARACTERS.normalize("\u0628\u064f\u0651") == "\u0628\u064f\u0651"


def test_halves_of_surrogate_pairs_are_replaced() -> None:
    assert CHARACTERS.normalize("a\ud800b") == "a\ufffdb"


@given(st.text(st.sampled_from("ab \t\uff21\ufb01\x01e\u0301\u0323\u1ea1\u1100\u1161\u11a8\u0651")))
def test_aligned_text_is_the_normalised_text(text: str) -> None:
    aligned = CHARACTERS.align(text)
    assert aligned.text == CHARACTERS.normalize(text)
    assert len(aligned.starts) == len(aligned.ends) == len(aligned.text)
    assert list(aligned.starts) == sorted(aligned.starts)
    spans = zip(aligned.starts, aligned.ends, strict=True)
    assert all(0 <= first < last <= len(text) for first, last in spans)


def test_aligned_characters_know_what_they_stand_for() -> None:
    aligned = CHARACTERS.align("\x01\ufb01e\u0323\u0302")
    assert aligned.text == "fi\u1ec7"
    assert (aligned.starts, aligned.ends) == ((1, 1, 2), (2, 2, 5))


def test_a_map_is_read_as_it_was_written(tmp_path) -> None:
    CHARACTERS.write(tmp_path / "normalization.tsv")
    assert CharacterMap.read(tmp_path / "normalization.tsv").replacements == CHARACTERS.replacements


@pytest.mark.parametrize(
    "line", ["41", "41\tx", "110000\t41", "D800\t41", "41\t41\t41", "41\t" + "41 " * 33, "-1\t41"]
)
def test_lines_that_are_no_replacement_are_refused(tmp_path, line) -> None:
    path = tmp_path / "normalization.tsv"
    path.write_text(f"# comment\n41\t42\n{line}\n")
    with pytest.raises(CheckpointError, match=r"normalization\.tsv:3: "):
        CharacterMap.read(path)


def test_a_missing_map_is_an_error(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"normalization\.tsv"):
        CharacterMap.read(tmp_path / "normalization.tsv")
