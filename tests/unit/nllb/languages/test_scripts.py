"""Scripts: one table, from which everything that counts letters by script is made."""

from itertools import pairwise

import polars
import pytest
import regex

from nllb.errors import LanguageError
from nllb.languages import languages
from nllb.languages.scripts import (
    script_of,
    script_ranges,
    scripts,
    unicode_class,
    unsegmented_scripts,
)


def test_the_table_has_the_scripts_of_the_languages() -> None:
    assert set(scripts()) == {language.script for language in languages()}


def test_own_names_are_written_in_their_script() -> None:
    for language in languages():
        letters = regex.findall(
            rf"(?V1)[{unicode_class(language.script)}&&\p{{L}}]", language.own_name
        )
        assert letters, language


@pytest.mark.parametrize(
    ("script", "inside", "outside"),
    [
        ("Jpan", "漢かカー", "한a"),
        ("Hans", "漢々", "かー"),
        ("Hang", "한", "漢a"),
        ("Latn", "aé", "аα"),
        ("Arab", "عپ", "aא"),
        ("Nkoo", "ߒ", "a"),
    ],
)
def test_letters_of_a_script_in_both_engines(script: str, inside: str, outside: str) -> None:
    pattern = f"[{unicode_class(script)}]"
    assert all(regex.fullmatch(pattern, character) for character in inside)
    assert not any(regex.fullmatch(pattern, character) for character in outside)
    counts = polars.Series([inside, outside]).str.count_matches(pattern).to_list()
    assert counts == [len(inside), 0]


def test_korean_may_be_mixed_with_han() -> None:
    assert regex.fullmatch(f"[{unicode_class('Hang', mixed=True)}]+", "한漢")


def test_variants_and_unknown_scripts() -> None:
    assert script_of("kore") is scripts()["Hang"]
    assert script_of("Aran").code == "Arab"
    assert script_of("Nkoo").spaces_words
    for text in ("", "La", "Latin"):
        with pytest.raises(LanguageError, match="not a script code of four letters"):
            script_of(text)


def test_spaces_between_words() -> None:
    assert set(unsegmented_scripts()) == {"Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai"}
    assert not script_of("Tibt").spaces_words
    assert script_of("Hans").spacing == "none"


def test_ranges_are_in_order_and_name_the_scripts_of_the_table() -> None:
    parts = {part for script in scripts().values() for part in script.unicode}
    assert {row.script for row in script_ranges()} == parts | {"Zzzz"}
    for script in parts:
        rows = [row for row in script_ranges() if row.script == script]
        assert all(a.first <= a.last < b.first for a, b in pairwise(rows))


def test_ranges_agree_with_the_regex_package() -> None:
    for row in script_ranges():
        if row.script != "Zzzz":
            first = chr(row.first)
            assert regex.match(rf"\p{{Script={row.script}}}|\P{{Assigned}}", first), row
