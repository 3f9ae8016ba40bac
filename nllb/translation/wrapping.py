"""Hard-wrapped text: the lines of a paragraph are joined, and its translation is wrapped again.

A line end is soft if the line was full, that is, if the first word of the next line would not have
fitted into the width of its paragraph. The sentence then continues after it, and the line end is
restored in the translation at the same relative position, at the nearest space. A word that was
hyphenated at a soft line end is joined. All other line ends are hard. Widths are counted in columns
of a fixed-width font, where a Chinese character has two.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import regex

from .text_width import columns

MIN_WIDTH: Final = 40
"""Minimum width in columns of a wrapped paragraph; narrower ones are verses, addresses or lists."""

_LINE = regex.compile(r"([^\r\n]*)(\r\n|[\r\n]|\Z)")
_INDENT = regex.compile(r"[\p{Zs}\t]*")
_FIRST_WORD = regex.compile(r"\S+")
_NEW_BLOCK = regex.compile(r"[\p{Zs}\t]*(?:[-*+>#•|]|\(?\w{1,3}[.)]\s)")
_UNSPACED = regex.compile(
    r"[\p{Script=Hani}\p{Script=Hira}\p{Script=Kana}\u3000-\u303f\uff00-\uffef]"
)
# A character and the punctuation that may not begin a line, so that it moves with the character.
_UNSPACED_UNIT = regex.compile(r"\S[、。，．：；！？」』）】》〉…]*")
_HYPHENATED = regex.compile(r"(?<=\p{L})[-\u00ad\u2010]\Z")
_SMALL_LETTER = regex.compile(r"[\p{Ll}\p{Lo}]")


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftBreak:
    """A line end inside a sentence.

    Attributes:
        position: its position in the joined text: that of a space, or one between two characters.
        text: the line end and the indentation after it.
        spaced: whether the joined text has a space instead of the line end.
        hyphen: the hyphen before it that divided a word, which the joined text lacks.
    """

    position: int
    text: str
    spaced: bool
    hyphen: str = ""


def unwrap(text: str) -> tuple[str, tuple[SoftBreak, ...]]:
    """Return the text with every soft line end replaced by a space, and the soft line ends.

    Between Chinese or Japanese characters, and inside a hyphenated word, the lines are joined
    without a space.
    """
    lines = [(found[1], found[2]) for found in _LINE.finditer(text) if found[0]]
    widths = _paragraph_widths([line for line, _ in lines])
    joined = ""
    breaks = []
    indent = ""
    for number, (line, end) in enumerate(lines):
        joined += line[len(indent) :]
        following = lines[number + 1][0] if number + 1 < len(lines) else ""
        indent = ""
        if not end or not following.strip():
            joined += end
            continue
        rest = following.lstrip(" \t")
        hyphen = _hyphen(line, rest, widths[number])
        if hyphen or _is_full(line, following, widths[number]):
            found_indent = _INDENT.match(following)
            assert found_indent is not None
            indent = found_indent[0]
            first = following[len(indent)]
            joined = joined[: len(joined) - len(hyphen)]
            spaced = not hyphen and not (_UNSPACED.match(line[-1]) and _UNSPACED.match(first))
            breaks.append(
                SoftBreak(position=len(joined), text=end + indent, spaced=spaced, hyphen=hyphen)
            )
            joined += " " if spaced else ""
        else:
            joined += end
    return joined, tuple(breaks)


def rewrap(output: str, source: str, breaks: tuple[SoftBreak, ...]) -> str:
    """Return the output of a segment with the segment's soft breaks at proportional places."""
    kept = output == source
    places: list[tuple[int, int, str]] = []
    free = 0
    for soft in breaks:
        if kept:
            start, end = soft.position, soft.position + soft.spaced
        else:
            wish = max(free, round(soft.position * len(output) / max(1, len(source))))
            spaced = soft.spaced or bool(soft.hyphen)
            start, end = _nearest_place(output, wish, free, spaced=spaced)
        places.append((start, end, soft.hyphen * kept + soft.text))
        free = end
    edges = [(0, 0, ""), *places, (len(output), len(output), "")]
    return "".join(
        text + output[end:following] for (_, end, text), (following, _, _) in pairwise(edges)
    )


def _nearest_place(output: str, wish: int, free: int, *, spaced: bool) -> tuple[int, int]:
    """Return the span of `output` to replace by a break: a space near `wish`, or an empty span."""
    if not spaced and _UNSPACED.match(output[wish - 1 : wish]) and _UNSPACED.match(output, wish):
        return wish, wish
    spaces = [i for i in range(free, len(output)) if output[i] == " "]
    if spaces:
        nearest = min(spaces, key=lambda space: abs(space - wish))
        return nearest, nearest + 1
    return wish, wish


def _paragraph_widths(lines: list[str]) -> list[int]:
    """Return the width of each line's paragraph, which is that of its longest line."""
    widths: list[int] = []
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
            continue
        widths += [max(map(columns, paragraph), default=0)] * len(paragraph)
        widths.append(0)
        paragraph = []
    return widths


def _hyphen(line: str, rest: str, width: int) -> str:
    """Return the hyphen at the end of a line that divides a word, or nothing."""
    found = _HYPHENATED.search(line)
    if found is None or width < MIN_WIDTH or not _SMALL_LETTER.match(rest):
        return ""
    return found[0]


def _is_full(line: str, following: str, width: int) -> bool:
    """Return whether a line ends only because the next word did not fit."""
    word = _FIRST_WORD.search(following)
    if width < MIN_WIDTH or word is None or not line.strip() or line != line.rstrip():
        return False
    if _NEW_BLOCK.match(following) or line.lstrip().startswith(("#", "|")):
        return False
    needed = 1 + columns(word[0])
    if _UNSPACED.match(word[0]) and _UNSPACED.match(line[-1]):
        unit = _UNSPACED_UNIT.match(word[0])
        assert unit is not None
        needed = columns(unit[0])
    return columns(line) + needed > width
