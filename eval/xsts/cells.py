"""Reads the cells of ratings files: scores as people type them, flags and ids."""

import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import date

_SCORE = re.compile(
    r"(?P<score>-?\d+(?:[.,]\d+)?)\s*(?:[,;:(/-]?\s*(?P<flags>(?:(?:s|sentence\s?)[12]|both|and|&|,|\s|"
    r"incoherent)+)\)?)?",
    re.IGNORECASE,
)
_YES = {"1", "y", "yes", "true", "x", "incoherent", "t"}
_NO = {"", "0", "n", "no", "false", "-", "f", "none", "null", "nan"}
# Words and letter codes that do not identify a person: `rater A`, `annotator_3`.
_NEUTRAL_WORDS = {
    "rater", "annotator", "evaluator", "coder", "judge", "worker", "user", "anon", "reviewer",
    "expert",
}  # fmt: skip
_MIN_NAME_LETTERS = 3
_MIN_PHONE_DIGITS = 11


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreCell:
    """A score and the flags beside it in the same cell."""

    score: int
    """1 to 5."""
    source_incoherent: bool = False
    """`s1` or no side was named."""
    target_incoherent: bool = False
    """`s2` or no side was named."""


def is_blank_score(value: object) -> bool:
    """Return whether a score cell was never filled in."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or not str(value).strip(" \t\r\n\u00a0")
    )


def number_in(value: object) -> float | None:
    """Return the number at the start of a cell, whatever its scale, or None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return None if math.isnan(value) else float(value)
    found = _SCORE.match(_plain(str(value)))
    return float(found["score"].replace(",", ".")) if found else None


def parse_score(value: object) -> ScoreCell:
    """Read a score cell: 4, ' 4 ', 4.0, digits of any script, '4 incoherent', '1, s2 incoherent'.

    A flag without a sentence applies to both, as in the published training set.

    Raises:
        ValueError: for every other content, with the reason.
    """
    if is_blank_score(value):
        raise ValueError("no score")
    if isinstance(value, date):
        raise ValueError(
            f"{value} is a date, not a score: a spreadsheet program may have converted the cell"
        )
    text = _plain(str(value))
    found = _SCORE.fullmatch(text)
    number = number_in(value)
    if found is None or number is None or isinstance(value, bool):
        raise ValueError(f"{str(value)!r} is not a score")
    if number != int(number) or not 1 <= number <= 5:
        raise ValueError(f"{str(value)!r} is not a whole number from 1 to 5")
    flags = (found["flags"] or "").casefold()
    if flags.strip(" ,") and "incoherent" not in flags:
        raise ValueError(f"{str(value)!r} gives a sentence without a flag")
    sides = {side for side in "12" if side in flags} or {"1", "2"}
    flagged = "incoherent" in flags
    return ScoreCell(
        score=int(number),
        source_incoherent=flagged and "1" in sides,
        target_incoherent=flagged and "2" in sides,
    )


def parse_points(value: object, *, low: float, high: float) -> float:
    """Read a score of another scale than XSTS: one number within the ends of the scale.

    Raises:
        ValueError: for every other content, with the reason.
    """
    if is_blank_score(value):
        raise ValueError("no score")
    try:
        number = float(_plain(str(value)).replace(",", "."))
    except ValueError:
        raise ValueError(f"{str(value)!r} is not a number") from None
    if not low <= number <= high:
        raise ValueError(f"{str(value)!r} is not from {low:g} to {high:g}")
    return number


def parse_flag(value: object) -> bool:
    """Read a yes-or-no cell; an empty one is no.

    Raises:
        ValueError: if it is neither.
    """
    text = "" if value is None else _plain(str(value)).casefold().removesuffix(".0")
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise ValueError(f"{str(value)!r} is neither yes nor no")


def cell_text(value: object) -> str:
    """Return an id or a name as text, without losing a digit: 1234567.0 is `1234567`."""
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value).strip()


def rater_key(rater: str) -> str:
    """Return a key that is equal for rater ids that differ only in case, width or spacing."""
    return "".join(unicodedata.normalize("NFKC", rater).casefold().split())


def is_personal(rater: str) -> bool:
    """Return whether a rater id looks like an e-mail address, a telephone number or a name.

    This is a heuristic for ids that are shown or used as file names; ratings are always read under
    pseudonyms.
    """
    digits = re.sub(r"[\s()/.-]", "", rater)
    if "@" in rater or re.fullmatch(r"\+\d{7,}", digits):
        return True
    if digits.isdigit() and len(digits) >= _MIN_PHONE_DIGITS:
        return True
    words = [word for word in re.split(r"[\s.,_'-]+", rater) if word]
    if not words or not all(word.isalpha() for word in words) or _is_neutral(words):
        return False
    if any(not word.isascii() for word in words):
        return len("".join(words)) > 1
    if len(words) > 1:  # `MARIA SILVA`, `J. Li`
        return max(map(len, words)) > 1
    return len(words[0]) >= _MIN_NAME_LETTERS and not words[0].isupper()


def _is_neutral(words: list[str]) -> bool:
    """Return whether an id is a neutral word with a letter or two, as in `rater A` or `raterB`."""
    text = "".join(words).casefold()
    return any(text.startswith(word) and len(text) - len(word) <= 2 for word in _NEUTRAL_WORDS)


def _plain(text: str) -> str:
    """Return text with digits of any script in ASCII, without format marks and odd spaces."""
    kept = []
    for character in unicodedata.normalize("NFKC", text):
        digit = unicodedata.digit(character, None)
        if digit is not None:
            kept.append(str(digit))
        elif unicodedata.category(character) != "Cf":
            kept.append(character)
    return " ".join("".join(kept).split())
