"""Normal forms: what they change, what they keep, and that they are the forms of the anchors."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.languages import parse_language
from nllb.languages.normalization import (
    normalize_for_detection,
    normalize_for_hashing,
    normalize_punctuation,
    normalize_unicode,
    replace_unicode_punctuation,
    replace_unprintable,
)

ANY_TEXT = st.text(st.characters(codec=None, categories=None))
PUNCTUATION = st.text("(()) %:;,.\"'`´‘’‚„“”«»–—…\xa0 a1b2ºnC?!\r", max_size=20)

# The rules of Moses' normalize-punctuation.perl (as sacremoses has them, English) one by one.
RULES: list[tuple[str, str]] = [
    (r"\r", ""),
    (r"\(", " ("),
    (r"\)", ") "),
    (r" +", " "),
    (r"\) ([.!:?;,])", r")\1"),
    (r"\( ", "("),
    (r" \)", ")"),
    (r"(\d) %", r"\1%"),
    (r" :", ":"),
    (r" ;", ";"),
    (r"`", "'"),
    (r"''", ' " '),
    (r"[„“”]", '"'),
    (r"–", "-"),
    (r"—", " - "),
    (r" +", " "),
    (r"[´‘‚’]", "'"),
    (r"''", '"'),
    (r"…", "..."),
    ("\xa0«\xa0", '"'),
    ("«\xa0", '"'),
    ("«", '"'),
    ("\xa0»\xa0", '"'),
    ("\xa0»", '"'),
    ("»", '"'),
    ("\xa0%", "%"),
    ("nº\xa0", "nº "),
    ("\xa0:", ":"),
    ("\xa0ºC", " ºC"),
    ("\xa0cm", " cm"),
    ("\xa0\\?", "?"),
    ("\xa0!", "!"),
    ("\xa0;", ";"),
    (",\xa0", ", "),
    (r" +", " "),
    (r'"([,.]+)', r'\1"'),
    ("(\\d)\xa0(\\d)", r"\1.\2"),
]


def moses(text: str) -> str:
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    return text.strip()


@given(PUNCTUATION | ANY_TEXT)
def test_punctuation_is_that_of_moses(text: str) -> None:
    assert normalize_punctuation(text) == moses(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("“Hi”, she said…", '"Hi," she said...'),
        ("«\xa0Oui\xa0» — non\xa0!", '"Oui" - non!'),
        ("п’ять", "п'ять"),
        ("l’été ‘90", "l'été '90"),
        ("a ( b ) .", "a (b)."),
        ("12\xa0345 %", "12.345%"),
        ("价格（１１元）《书》。", "价格（１１元）《书》。"),
        ("plain text, 3.5", "plain text, 3.5"),
        ("", ""),
    ],
)
def test_punctuation_examples(text: str, expected: str) -> None:
    assert normalize_punctuation(text) == expected
    assert normalize_punctuation(text, parse_language("fr")) == expected


def test_full_width_one_is_a_digit() -> None:
    # In the public tables it becomes a quotation mark, which spoils every CJK number with a one.
    assert replace_unicode_punctuation("１１月２日：（好）。…【完】") == "11月２日:(好)....[完]"
    assert replace_unicode_punctuation("plain") == "plain"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello, World!  ", "hello, world!"),
        ("In 2024 and ٢٠٢٤ and １９", "in 0000 and 0000 and 00"),
        ("a\tb\x00c\x85d", "abcd"),
        ("“Ja”，《好》。", "ja好"),
        ("a b !", "a b !"),
        ("a b!", "a b!"),
        ("ÄÖ – ß", "äö  ß"),
    ],
)
def test_form_for_hashing(text: str, expected: str) -> None:
    assert normalize_for_hashing(text) == expected


@given(ANY_TEXT)
def test_form_for_hashing_by_its_definition(text: str) -> None:
    marks = set("，。、„”“«»１」「《》´∶：？！（）；–—．～’…━〈〉【】％►")
    assert len(marks) == 34
    controls = {chr(code) for code in [*range(32), *range(0x7F, 0xA0)]}
    digits = re.sub(r"\d", "0", text.strip().lower())
    expected = "".join(character for character in digits if character not in marks | controls)
    assert normalize_for_hashing(text) == expected
    # Only a space that a removed mark had covered can still change.
    assert normalize_for_hashing(expected) == expected.strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World! 42", "hello world"),
        ("L'été: 20 °C…", "l été c"),
        ("e\u0301a", "\u00e9a"),
        ("می\u200cروم", "میروم"),
        ("यह 2 वाक्य हैं।", "यह वाक्य हैं"),
        ("😀 123 -- ", ""),
        ("a\nb\x00c\ud800d", "a b c d"),
        ("ＡＢＣ１", "ａｂｃ"),
    ],
)
def test_form_for_detection(text: str, expected: str) -> None:
    assert normalize_for_detection(text) == expected


@given(ANY_TEXT)
def test_form_for_detection_holds_only_letters_and_stays(text: str) -> None:
    form = normalize_for_detection(text)
    assert normalize_for_detection(form) == form
    assert form == " ".join(form.split())
    # Characters newer than this Python's tables count as unassigned here, as letters there.
    assert {unicodedata.category(character)[0] for character in form} <= set("LMZC")


@given(ANY_TEXT)
def test_other_forms_stay_and_keep_what_is_written(text: str) -> None:
    composed = normalize_unicode(text)
    assert normalize_unicode(composed) == composed
    printable = replace_unprintable(text)
    assert len(printable) == len(text)
    assert replace_unprintable(printable) == printable
    ascii_marks = replace_unicode_punctuation(text)
    assert replace_unicode_punctuation(ascii_marks) == ascii_marks


def test_joiners_are_kept_unless_unwanted() -> None:
    assert replace_unprintable("می\u200cروم\x07\ufeff\n") == "می\u200cروم   "
    assert replace_unprintable("می\u200cروم", keep_joiners=False) == "می روم"
    assert replace_unprintable("plain \u00e9") == "plain \u00e9"
