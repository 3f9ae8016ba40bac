"""The form of a segment that the model receives, and the restoration of its output.

Soft hyphens are removed, because models read them as letters. Text in capitals, which is rare in
training data, is translated in lower case, and its output is converted to capitals again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import regex

from nllb.languages import Language

from .literals import LITERAL

SOFT_HYPHEN: Final = "\u00ad"
CASED_SCRIPTS: Final = frozenset({"Latn", "Cyrl", "Grek", "Armn"})
MIN_CAPITAL_WORDS: Final = 2
"""Minimum number of words in capitals in a text "in capitals"; a single word may be an acronym."""
MIN_CAPITAL_LETTERS: Final = 3
"""Minimum number of letters of such a word."""
MAX_ACRONYM_LETTERS: Final = 5
"""Maximum number of letters of a single word in capitals that is treated as an acronym."""

_WORD = regex.compile(r"[\p{L}\p{M}'’\-]+")
# Turkish, Azerbaijani and Crimean Tatar pair i with İ and ı with I.
_DOTTED_I: Final = frozenset({"tur_Latn", "azj_Latn", "crh_Latn"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInput:
    """A segment in the form that the model receives.

    Attributes:
        text: the text to translate.
        in_capitals: whether the segment was in capitals, so that its output must be in capitals as
            well.
    """

    text: str
    in_capitals: bool = False

    def restore(self, output: str, target: Language) -> str:
        """Return the output in the form of the original segment."""
        if not self.in_capitals or target.script not in CASED_SCRIPTS:
            return output
        return _outside_literals(output, lambda text: _upper(text, target))


def model_input(text: str, source: Language) -> ModelInput:
    """Return the form of a segment that the model receives."""
    text = text.replace(SOFT_HYPHEN, "") or text
    if source.script not in CASED_SCRIPTS or not _is_in_capitals(text):
        return ModelInput(text=text)
    lowered = _outside_literals(text, lambda part: _WORD.sub(lambda w: _lower(w[0], source), part))
    first = _WORD.search(lowered)
    if first is not None and not LITERAL.match(lowered):
        start = first.start()
        lowered = lowered[:start] + _upper(lowered[start], source) + lowered[start + 1 :]
    given = ModelInput(text=lowered, in_capitals=True)
    # Letters whose capitals vary are not changed.
    return given if given.restore(lowered, source) == text else ModelInput(text=text)


def _is_in_capitals(text: str) -> bool:
    """Return whether a text has several words in capitals, or a long one, and no lower case."""
    text = LITERAL.sub(" ", text)
    if any(character.islower() for character in text):
        return False
    lengths = [sum(map(str.isupper, word)) for word in _WORD.findall(text)]
    words = sum(length >= MIN_CAPITAL_LETTERS for length in lengths)
    return words >= MIN_CAPITAL_WORDS or max(lengths, default=0) > MAX_ACRONYM_LETTERS


def _outside_literals(text: str, change: Callable[[str], str]) -> str:
    """Apply a function to a text, except for its addresses, placeholders and tags."""
    changed, start = "", 0
    for match in LITERAL.finditer(text):
        changed += change(text[start : match.start()]) + match[0]
        start = match.end()
    return changed + change(text[start:])


def _lower(text: str, language: Language) -> str:
    if language.code in _DOTTED_I:
        text = text.replace("İ", "i").replace("I", "ı")
    return text.lower()


def _upper(text: str, language: Language) -> str:
    if language.code in _DOTTED_I:
        text = text.replace("i", "İ")
    return text.upper()
