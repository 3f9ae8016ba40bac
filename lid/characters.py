"""What a code point is to the detector: a separator, a plain character, or a letter of a script."""

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
# Planes 0 to 3 and the variation selectors; no letter or mark stands elsewhere.
_ASSIGNED: Final = ((0, 0x40000), (0xE0000, 0xE0200))
_SURROGATES: Final = slice(0xD800, 0xE000)


def fold(text: str) -> str:
    """Return what `normalize_for_detection` makes of a text before it parts the words.

    With `character_classes(normalised=True)` to part the words, both give the same words.
    """
    text = normalize("NFC", text).lower()
    return text if text.isascii() else normalize("NFC", _FORMAT.sub("", text))


@cache
def simple_folds() -> npt.NDArray[np.uint32]:
    """Return what `fold` makes of each character of plane 0, for texts where it can go one by one.

    The character in small letters, with a flag where it is taken out, where it is a mark (behind
    another one, NFC may change their order), or where `fold` itself must be asked: characters that
    NFC changes or joins to the one before, and small letters that depend on what is around.
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
    """Return the ISO 15924 codes of the scripts that are counted, sorted."""
    return tuple(sorted({row.script for row in script_ranges()}))


@cache
def character_classes(*, normalised: bool) -> npt.NDArray[np.uint8]:
    """Return one byte per code point: separator, plain, or 2 + index of the letter's script.

    Args:
        normalised: part words at whatever is no letter and no mark, as `normalize_for_detection`
            does; otherwise only at the spaces that fastText knows.
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
    """Return the indexes in `scripts()` of what text in a FLORES-200 script is written with."""
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
    """Return which code points match, by the same Unicode tables as `normalize_for_detection`."""
    matching = np.zeros(CODE_POINTS, np.bool_)
    for first, last in _ASSIGNED:
        points = np.arange(first, last, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
        for found in regex.finditer(pattern, points):
            matching[first + found.start() : first + found.end()] = True
    return matching
