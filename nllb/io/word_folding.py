"""The form in which word lists and text are compared, with positions in the original text.

NFC, case folded, zero-width characters and tatweel removed, apostrophes and hyphens unified, white
space collapsed; combining marks are kept. `wordlists.tsv` lists the characters, and the particles
that some languages attach to words.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .text import read_table

# Characters that Unicode may compose are inside one of these pieces: a base with its marks, Hangul
# jamo, removed characters.
_PIECE = r"[^{marks}][{marks}]*|[{marks}]+"


@dataclass(frozen=True, kw_only=True, slots=True)
class Particles:
    """Particles that one language attaches to words, in folded form."""

    prefixes: frozenset[str] = frozenset()
    """Particles before a word."""
    suffixes: frozenset[str] = frozenset()
    """Particles after a word."""


def fold(text: str, *, keep_line_breaks: bool = False) -> str:
    """Return the form in which word lists and text are compared."""
    # Few characters of a text are in the table: a set and some replacements are faster than
    # str.translate. Composition is the most expensive step, so it is done once, at the end.
    for character in _table().keys() & set(text):
        if not (keep_line_breaks and character == "\n"):
            text = text.replace(character, _table()[character])
    text = unicodedata.normalize("NFC", text.casefold())
    # A dotted capital I that was two characters.
    text = text.replace("i\u0307", "i")
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def alignment(text: str, folded: str) -> tuple[list[int], list[int]]:
    """Return for each folded character the start and end of its piece in the original text."""
    starts: list[int] = []
    ends: list[int] = []
    for piece in _pieces().finditer(text):
        form = fold(piece.group())
        if form.startswith(" ") and starts and folded[len(starts) - 1] == " ":
            ends[-1], form = piece.end(), form[1:]
        starts.extend([piece.start()] * len(form))
        ends.extend([piece.end()] * len(form))
    assert len(starts) == len(folded), "a composition crosses two pieces"
    return starts, ends


@cache
def _table() -> dict[str, str]:
    """Characters that are removed ('') or replaced before case folding."""
    table = {
        character: " "
        for character in map(chr, range(0x3001))
        if character.isspace() and character != " "
    }
    for row in _rows():
        if row["kind"] in ("drop", "fold"):
            reads_as = "".join(_characters(row["reads_as"]))
            table.update(dict.fromkeys(_characters(row["value"]), reads_as))
    return table


@cache
def _pieces() -> "re.Pattern[str]":
    dropped = [character for character, reads_as in _table().items() if not reads_as]
    # The marks of the Unicode version of this Python, which also does the composition.
    marks = [
        character
        for character in map(chr, range(0x110000))
        if unicodedata.category(character)[0] == "M"
    ]
    return re.compile(
        _PIECE.format(marks=_ranges([*marks, *dropped, *map(chr, range(0x1160, 0x1200))]))
    )


@cache
def particles(language: str) -> Particles:
    """Return the particles of a language; they attach to entries of three letters or more."""
    found: dict[str, frozenset[str]] = {
        row["kind"]: frozenset(fold(affix) for affix in row["value"].split())
        for row in _rows()
        if row["kind"] in ("prefix", "suffix") and language in row["languages"].split()
    }
    return Particles(
        prefixes=found.get("prefix", frozenset()), suffixes=found.get("suffix", frozenset())
    )


@cache
def _rows() -> tuple[dict[str, str], ...]:
    return tuple(read_table(Path(__file__).with_name("wordlists.tsv")))


def _characters(value: str) -> list[str]:
    found: list[str] = []
    for part in value.split():
        first, _, last = part.partition("-")
        found.extend(map(chr, range(int(first[2:], 16), int((last or first)[2:], 16) + 1)))
    return found


def _ranges(characters: Iterable[str]) -> str:
    """Return the inside of a character class, with runs as ranges."""
    runs: list[list[int]] = []
    for number in sorted(map(ord, set(characters))):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in runs)
