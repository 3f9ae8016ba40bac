"""Normal forms of text for encoding, comparing, hashing and classifying.

Each is a function from text to text that is fast enough for millions of lines, because it replaces
in whole strings instead of looping over characters.
"""

import re
from functools import cache
from pathlib import Path
from unicodedata import normalize

import regex

from nllb.io.text import read_table

from . import Language

_CLOSED = re.compile(r"\) ([.!:?;,])")
_PERCENT = re.compile(r"(\d) %")
_QUOTE_BEFORE_STOP = re.compile(r'"([,.]+)')
_SPACES = re.compile("  +")
_DIGITS_APART = re.compile("(\\d)\xa0(\\d)")
_SINGLE_QUOTES = re.compile("[´‘’‚]")
_DOUBLE_QUOTES = re.compile("[„“”]")
_DIGIT = re.compile(r"\d")
_NO_LETTERS = regex.compile(r"[^\p{L}\p{M}\s]+")
_FORMAT = regex.compile(r"\p{Cf}+")
_UNPRINTABLE = regex.compile(r"\p{C}")
_UNPRINTABLE_BUT_JOINERS = regex.compile(r"(?![\u200c\u200d\u2060])\p{C}")


def normalize_punctuation(text: str, language: Language | None = None) -> str:
    """Return the text with punctuation as in the training data of NLLB's models.

    NLLB normalised every language by the English rules of Moses' normalize-punctuation.perl, so
    `language` has no effect; it is a parameter for models that are trained differently. Single
    quotation marks become `'` as in sacremoses; in Moses 4.0 they become `"`, which splits words
    with an apostrophe. As in Moses, a second run can change the text again.
    """
    text = text.replace("\r", "")
    if "(" in text or ")" in text:
        text = _squeeze(text.replace("(", " (").replace(")", ") "))
        text = _CLOSED.sub(r")\1", text).replace("( ", "(").replace(" )", ")")
    else:
        text = _squeeze(text)
    if " %" in text:
        text = _PERCENT.sub(r"\1%", text)
    text = text.replace(" :", ":").replace(" ;", ";").replace("`", "'").replace("''", ' " ')
    if not text.isascii():
        text = _normalize_unicode_punctuation(text)
    text = _squeeze(text)
    if '",' in text or '".' in text:
        text = _QUOTE_BEFORE_STOP.sub(r'\1"', text)
    if "\xa0" in text:
        text = _DIGITS_APART.sub(r"\1.\2", text)
    return text.strip()


def _squeeze(text: str) -> str:
    return _SPACES.sub(" ", text) if "  " in text else text


def _normalize_unicode_punctuation(text: str) -> str:
    text = _DOUBLE_QUOTES.sub('"', text).replace("–", "-").replace("—", " - ")
    text = _SINGLE_QUOTES.sub("'", _squeeze(text)).replace("''", '"').replace("…", "...")
    if "«" in text or "»" in text:
        text = text.replace("\xa0«\xa0", '"').replace("«\xa0", '"').replace("«", '"')
        text = text.replace("\xa0»\xa0", '"').replace("\xa0»", '"').replace("»", '"')
    if "\xa0" in text:
        text = text.replace("\xa0%", "%").replace("nº\xa0", "nº ").replace("\xa0:", ":")
        text = text.replace("\xa0ºC", " ºC").replace("\xa0cm", " cm").replace("\xa0?", "?")
        text = text.replace("\xa0!", "!").replace("\xa0;", ";").replace(",\xa0", ", ")
    return text


def replace_unicode_punctuation(text: str) -> str:
    """Return the text with full-width, typographic and CJK punctuation as ASCII."""
    return text if text.isascii() else text.translate(_replacements())


@cache
def _replacements() -> dict[int, str]:
    table = read_table(Path(__file__).with_name("normalization.tsv"))
    return {int(row["code"], 16): row["replacement"][1:-1] for row in table}


def normalize_for_hashing(text: str) -> str:
    """Return the form in which equal sentences are duplicates.

    The text is stripped and lower-cased, every digit becomes 0, and control characters and
    typographic punctuation are removed; ASCII punctuation and inner spaces are kept.

    Source: equals `normalize_for_dedup` of stopes.
    """
    text = _DIGIT.sub("0", text.strip().lower())
    return text if text.isascii() and text.isprintable() else _removed().sub("", text)


@cache
def _removed() -> re.Pattern[str]:
    marks = "".join(map(chr, _replacements()))
    return re.compile(f"[{re.escape(marks)}\x00-\x1f\x7f-\x9f]+")


def normalize_for_detection(text: str) -> str:
    """Return only letters and marks, lower-cased, with one space between words.

    The language identifier is trained on this form and receives it. Joiners and other format
    characters are removed, so that they do not separate a word; NFC is applied before and after.
    The function is idempotent.
    """
    text = normalize("NFC", text).lower()
    if not text.isascii():
        text = _FORMAT.sub("", text)
    return normalize("NFC", " ".join(_NO_LETTERS.sub(" ", text).split()))


def normalize_unicode(text: str) -> str:
    """Return the text in Unicode's composed form (NFC)."""
    return normalize("NFC", text)


def replace_unprintable(text: str, *, keep_joiners: bool = True) -> str:
    """Return the text with a space for each control, format, private or unassigned character.

    Args:
        text: any text; line breaks and tabs are replaced, too.
        keep_joiners: keep the zero-width joiners that Persian, Sinhala, Malayalam and emoji need.
            Without it the result equals that of Moses, LASER and the filters of NLLB.
    """
    if text.isprintable():
        return text
    replaced: str = (_UNPRINTABLE_BUT_JOINERS if keep_joiners else _UNPRINTABLE).sub(" ", text)
    return replaced
