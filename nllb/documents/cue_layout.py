"""Distribution of text over subtitle cues by time and length, and line breaking."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

import regex

from nllb.languages.scripts import unicode_class, unsegmented_scripts
from nllb.translation.text_width import columns

from .units import CodeKind, Fragment, InlineCode

MAX_COLUMNS: Final = 42
MAX_LINES: Final = 2
_GRAPHEME: Final = regex.compile(r"\X")
_AFTER_PUNCTUATION: Final = re.compile(r"[,;:.!?…،؛、，。！？।]$")
_PUNCTUATION_BONUS: Final = 0.08


def split_fragments(
    fragments: Sequence[Fragment], weights: Sequence[float]
) -> list[list[Fragment]]:
    """Distribute a text over cues at blanks, close to the given shares, without splitting codes.

    Args:
        fragments: the text with its codes.
        weights: the share of each cue.

    Returns:
        The fragments of each cue; an open pair is closed at the end of a cue and reopened.
    """
    text = "".join(part for part in fragments if isinstance(part, str))
    cuts = _cuts(text, weights)
    closing = {
        part.number: part
        for part in fragments
        if isinstance(part, InlineCode) and part.kind is CodeKind.CLOSE
    }
    parts: list[list[Fragment]] = [[]]
    open_codes: list[InlineCode] = []
    position = 0

    def next_cue() -> None:
        parts[-1] += [closing[code.number] for code in reversed(open_codes)]
        parts.append([*open_codes])

    for fragment in fragments:
        if isinstance(fragment, InlineCode):
            parts[-1].append(fragment)
            if fragment.kind is CodeKind.OPEN and fragment.number in closing:
                open_codes.append(fragment)
            elif fragment.kind is CodeKind.CLOSE:
                open_codes = [code for code in open_codes if code.number != fragment.number]
            continue
        start = 0
        while cuts and cuts[0] <= position + len(fragment):
            cut = cuts.pop(0) - position
            parts[-1].append(fragment[start:cut].rstrip(" "))
            start = cut
            next_cue()
        rest = fragment[start:]
        parts[-1].append(rest.lstrip(" ") if start else rest)
        position += len(fragment)
    for _ in range(len(weights) - len(parts)):
        next_cue()
    return parts


def _cuts(text: str, weights: Sequence[float]) -> list[int]:
    """Return the positions at which a text is cut, one fewer than there are weights."""
    places = _places(text)
    total = sum(weights) or 1.0
    cuts: list[int] = []
    wish = 0.0
    for number, weight in enumerate(weights[:-1]):
        wish += weight / total
        left = len(weights) - 2 - number
        first = 0 if not cuts else places.index(cuts[-1]) + 1
        candidates = places[first : len(places) - left or None]
        if not candidates:
            break

        def cost(place: int, wish: float = wish) -> float:
            bonus = _PUNCTUATION_BONUS if _AFTER_PUNCTUATION.search(text[:place].rstrip()) else 0
            return abs(place / len(text) - wish) - bonus

        cuts.append(min(candidates, key=cost))
    return cuts


def _places(text: str) -> list[int]:
    """Return the possible cut positions: after blanks, or between characters without blanks."""
    blanks = [match.end() for match in re.finditer(r"(?<=\S)[ \n]+(?=\S)", text)]
    if blanks or not _unsegmented().search(text):
        return blanks
    return [match.end() for match in _GRAPHEME.finditer(text)][:-1]


@cache
def _unsegmented() -> "regex.Pattern[str]":
    """Return a pattern of letters in scripts without spaces between words."""
    scripts = "".join(map(unicode_class, unsegmented_scripts()))
    return regex.compile(f"[{scripts}]")


def wrap_fragments(
    fragments: Sequence[Fragment], *, max_columns: int = MAX_COLUMNS
) -> list[Fragment]:
    """Break a text that is wider than a line into two lines of similar width."""
    text = "".join(part if isinstance(part, str) else part.text or "" for part in fragments)
    if columns(text) <= max_columns:
        return list(fragments)
    best, best_cost = -1, float("inf")
    for place in _places(text):
        first, second = columns(text[:place].rstrip()), columns(text[place:])
        cost = max(first, second) + (0 if first <= second else 0.5)
        if cost < best_cost:
            best, best_cost = place, cost
    if best < 0:
        return list(fragments)
    result: list[Fragment] = []
    position = 0
    for part in fragments:
        shown = part if isinstance(part, str) else part.text or ""
        if isinstance(part, str) and position < best <= position + len(part):
            at = best - position
            result.append(part[:at].rstrip(" ") + "\n" + part[at:])
        else:
            result.append(part)
        position += len(shown)
    return result
