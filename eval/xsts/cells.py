"""What stands in one cell of a ratings file: scores as people type them, flags, rater ids."""

import math
import re
import unicodedata
from dataclasses import dataclass

_SCORE = re.compile(
    r"(?P<score>-?\d+(?:[.,]\d+)?)\s*(?:[,;:(/-]?\s*(?P<flags>(?:(?:s|sentence\s?)[12]|both|and|&|,|\s|"
    r"incoherent)+)\)?)?",
    re.IGNORECASE,
)
_YES = {"1", "y", "yes", "true", "x", "incoherent", "t"}
_NO = {"", "0", "n", "no", "false", "-", "f", "none", "null", "nan"}
_GENERIC = {
    "rater",
    "annotator",
    "evaluator",
    "coder",
    "judge",
    "worker",
    "user",
    "anon",
    "reviewer",
    "expert",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreCell:
    """A score and the flags that stood with it."""

    score: int
    """1 to 5."""
    source_incoherent: bool = False
    """`s1` or no side was named."""
    target_incoherent: bool = False
    """`s2` or no side was named."""


def number_in(value: object) -> float | None:
    """Return the number that a score cell begins with, whatever its scale, or None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return None if math.isnan(value) else float(value)
    found = _SCORE.match(_plain(str(value)))
    return float(found["score"].replace(",", ".")) if found else None


def parse_score(value: object) -> ScoreCell:
    """Read a score cell: 4, ' 4 ', 4.0, digits of any script, '4 incoherent', '1, s2 incoherent'.

    A flag that names no sentence is taken for both: it is how the published training set has it.

    Raises:
        ValueError: with what is wrong, for everything else.
    """
    if (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or str(value).strip() == ""
    ):
        raise ValueError("no score")
    text = _plain(str(value))
    found = _SCORE.fullmatch(text)
    number = number_in(value)
    if found is None or number is None or isinstance(value, bool):
        raise ValueError(f"{str(value)!r} is no score")
    if number != int(number) or not 1 <= number <= 5:
        raise ValueError(f"{str(value)!r} is no whole number from 1 to 5")
    flags = (found["flags"] or "").casefold()
    if flags.strip(" ,") and "incoherent" not in flags:
        raise ValueError(f"{str(value)!r} names a sentence and no flag")
    sides = {side for side in "12" if side in flags} or {"1", "2"}
    flagged = "incoherent" in flags
    return ScoreCell(
        score=int(number),
        source_incoherent=flagged and "1" in sides,
        target_incoherent=flagged and "2" in sides,
    )


def parse_flag(value: object) -> bool:
    """Read a yes-or-no cell; empty is no.

    Raises:
        ValueError: where it is neither.
    """
    text = "" if value is None else _plain(str(value)).casefold().removesuffix(".0")
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise ValueError(f"{str(value)!r} is neither yes nor no")


def is_personal(rater: str) -> bool:
    """Whether a rater id looks like a mail address, a telephone number or a person's name."""
    if "@" in rater or re.fullmatch(r"\+\d[\d ()/-]{6,}", rater):
        return True
    words = [word for word in re.split(r"[\s.,_'-]+", rater) if word]
    named = [word for word in words if len(word) >= 3 and word.isalpha() and not word.isupper()]
    named = [word for word in named if word.casefold() not in _GENERIC]
    return bool(named) and all(word.isalpha() for word in words) and not _is_code(words)


def _is_code(words: list[str]) -> bool:
    """Whether an id of letters is a generic word with a letter, as in `rater A` or `raterB`."""
    text = "".join(words).casefold()
    return any(text.startswith(word) and len(text) - len(word) <= 2 for word in _GENERIC)


def _plain(text: str) -> str:
    """Digits of any script as ASCII digits, marks of direction and odd spaces gone."""
    kept = []
    for character in unicodedata.normalize("NFKC", text):
        digit = unicodedata.digit(character, None)
        if digit is not None:
            kept.append(str(digit))
        elif unicodedata.category(character) != "Cf":
            kept.append(character)
    return " ".join("".join(kept).split())
