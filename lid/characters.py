"""Classify code points: separators, plain characters, and letters by script."""

from functools import cache
from typing import Final
from unicodedata import combining, decomposition, normalize

import numpy as np
import numpy.typing as npt
import regex

from nllb.languages.scripts import script_ranges
from nllb.languages.scripts import scripts as known_scripts

CODE_POINTS: Final = 0x110000
SEPARATOR: Final = 0
PLAIN: Final = 1
FIRST_SCRIPT: Final = 2

FOLD_DROP: Final = 1 << 24
FOLD_MARK: Final = 1 << 25
FOLD_ASK: Final = 1 << 26

_PLANE: Final = "".join(map(chr, range(0x10000)))
_FORMAT: Final = regex.compile(r"\p{Cf}+")
_SPACES: Final = " \t\n\v\f\r\0"
# Planes 0 to 3 and the variation selectors; there are no letters or marks in other planes.
_ASSIGNED: Final = ((0, 0x40000), (0xE0000, 0xE0200))
_SURROGATES: Final = slice(0xD800, 0xE000)


def fold(text: str) -> str:
    """Return the text as `normalize_for_detection` transforms it before it splits words.

    Splitting the result by `character_classes(normalised=True)` gives the same words as
    `normalize_for_detection`.
    """
    text = normalize("NFC", text).lower()
    return text if text.isascii() else normalize("NFC", _FORMAT.sub("", text))


@cache
def simple_folds() -> npt.NDArray[np.uint32]:
    """Return the result of `fold` for every character of plane 0 that does not depend on context.

    Each entry is the lower-case code point combined with one of these flags. FOLD_DROP: the
    character is removed. FOLD_MARK: it is a mark, and NFC may reorder it after another mark.
    FOLD_ASK: `fold` must be called on the text, because NFC changes the character or composes it
    with the preceding one, or because its lower case depends on context.
    """
    points = range(len(_PLANE))
    joined = {0x3A3, *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}  # final sigma; Hangul vowels
    for character in _PLANE:
        parts = decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            joined.add(int(parts[1], 16))
    changed = joined | {point for point in points if normalize("NFC", chr(point)) != chr(point)}
    folds = np.array([_fold_one(character, changed) for character in _PLANE], np.uint32)
    folds[_matching(r"\p{Cf}+")[: len(_PLANE)]] = FOLD_DROP
    folds.flags.writeable = False
    return folds


def _fold_one(character: str, changed: set[int]) -> int:
    lower = character.lower()
    if (
        ord(character) in changed
        or len(lower) != 1
        or ord(lower) in changed
        or ord(lower) >= len(_PLANE)
    ):
        return FOLD_ASK
    if combining(character) or combining(lower):
        return ord(lower) | FOLD_MARK
    return ord(lower)


@cache
def scripts() -> tuple[str, ...]:
    """Return the sorted ISO 15924 codes of the scripts whose letters are counted."""
    return tuple(sorted({row.script for row in script_ranges()}))


@cache
def character_classes(*, normalised: bool) -> npt.NDArray[np.uint8]:
    """Return one byte per code point: separator, plain, or 2 + index of the letter's script.

    Args:
        normalised: If true, every character except letters and marks is a separator, as in
            `normalize_for_detection`; otherwise only the whitespace of fastText is.
    """
    classes = np.full(CODE_POINTS, PLAIN, np.uint8)
    index = {script: FIRST_SCRIPT + number for number, script in enumerate(scripts())}
    letters = _letters()
    for script, first, last in script_ranges():
        classes[first : last + 1][letters[first : last + 1]] = index[script]
    if normalised:
        classes[~_kept()] = SEPARATOR
    classes[[ord(space) for space in _SPACES]] = SEPARATOR
    classes[_SURROGATES] = SEPARATOR
    classes.flags.writeable = False
    return classes


def writable_scripts(label_script: str) -> tuple[int, ...]:
    """Return the indices in `scripts()` of the Unicode scripts of a FLORES-200 script."""
    known = known_scripts().get(label_script)
    parts = known.unicode if known is not None else (label_script,)
    return tuple(scripts().index(part) for part in parts if part in scripts())


@cache
def _letters() -> npt.NDArray[np.bool_]:
    return _matching(r"\p{L}+")


@cache
def _kept() -> npt.NDArray[np.bool_]:
    return _matching(r"[\p{L}\p{M}]+")


def _matching(pattern: str) -> npt.NDArray[np.bool_]:
    """Return which code points match, using the Unicode tables of `normalize_for_detection`."""
    matching = np.zeros(CODE_POINTS, np.bool_)
    for first, last in _ASSIGNED:
        points = np.arange(first, last, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
        for found in regex.finditer(pattern, points):
            matching[first + found.start() : first + found.end()] = True
    return matching
