"""Hard-wrapped text: joining the lines of a paragraph, and breaking its translation again.

A line end is soft where the line was full: where the next line's first word would not have fitted
into the width of its paragraph. Then the sentence goes on, and the break is put back into the
translation at the same share of its length, at the nearest space. All other line ends are hard.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import regex

MIN_WIDTH: Final = 40
"""Paragraphs with no line of this many characters are verses, addresses, lists: not wrapped."""

_LINE = regex.compile(r"([^\r\n]*)(\r\n|[\r\n]|\Z)")
_INDENT = regex.compile(r"[\p{Zs}\t]*")
_FIRST_WORD = regex.compile(r"\S+")
_BEGINS_ANEW = regex.compile(r"[\p{Zs}\t]*(?:[-*+>#•]|\(?\w{1,3}[.)]\s)")
_UNSPACED = regex.compile(
    r"[\p{Script=Hani}\p{Script=Hira}\p{Script=Kana}\u3000-\u303f\uff00-\uffef]"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftBreak:
    """A line end inside a sentence."""

    position: int
    """Where it was in the joined text: the place of a space, or between two characters."""
    text: str
    """The line end and the indentation after it."""
    spaced: bool
    """Whether a space stands for it in the joined text."""


def unwrap(text: str) -> tuple[str, tuple[SoftBreak, ...]]:
    """Return the text with every soft line end replaced by a space, and what was replaced.

    Between Chinese or Japanese characters nothing stands for it.
    """
    lines = [(found[1], found[2]) for found in _LINE.finditer(text) if found[0]]
    widths = _paragraph_widths([line for line, _ in lines])
    joined = ""
    breaks = []
    dropped = ""
    for number, (line, end) in enumerate(lines):
        joined += line[len(dropped) :]
        following = lines[number + 1][0] if number + 1 < len(lines) else ""
        dropped = ""
        if end and _is_full(line, following, widths[number]):
            indent = _INDENT.match(following)
            assert indent is not None
            dropped = indent[0]
            bare = following[len(dropped) :]
            spaced = not (_UNSPACED.match(line[-1]) and _UNSPACED.match(bare[0]))
            breaks.append(SoftBreak(position=len(joined), text=end + dropped, spaced=spaced))
            joined += " " if spaced else ""
        else:
            joined += end
    return joined, tuple(breaks)


def rewrap(output: str, source: str, breaks: tuple[SoftBreak, ...]) -> str:
    """Return an output of a segment with the segment's soft breaks, positions counted in it."""
    places: list[tuple[int, int, str]] = []
    free = 0
    for soft in breaks:
        wish = max(free, round(soft.position * len(output) / max(1, len(source))))
        start, end = _nearest_place(output, wish, free, spaced=soft.spaced)
        places.append((start, end, soft.text))
        free = end
    edges = [(0, 0, ""), *places, (len(output), len(output), "")]
    return "".join(
        text + output[end:following] for (_, end, text), (following, _, _) in pairwise(edges)
    )


def _nearest_place(output: str, wish: int, free: int, *, spaced: bool) -> tuple[int, int]:
    """Return the span of `output` that a break replaces: a space near `wish`, or nothing there."""
    if not spaced and _UNSPACED.match(output[wish - 1 : wish]) and _UNSPACED.match(output, wish):
        return wish, wish
    spaces = [i for i in range(free, len(output)) if output[i] == " "]
    if spaces:
        nearest = min(spaces, key=lambda space: abs(space - wish))
        return nearest, nearest + 1
    return wish, wish


def _paragraph_widths(lines: list[str]) -> list[int]:
    """Return for each line the width of the longest line between the blank lines around it."""
    widths: list[int] = []
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
            continue
        widths += [max(map(len, paragraph), default=0)] * len(paragraph)
        widths.append(0)
        paragraph = []
    return widths


def _is_full(line: str, following: str, width: int) -> bool:
    """Say whether a line ends where it does only because the next word did not fit."""
    word = _FIRST_WORD.search(following)
    if width < MIN_WIDTH or word is None or not line.strip() or line != line.rstrip():
        return False
    if _BEGINS_ANEW.match(following) or line.lstrip().startswith("#"):
        return False
    wrapped_inside = _UNSPACED.match(word[0]) and _UNSPACED.match(line[-1])
    needed = 1 if wrapped_inside else 1 + len(word[0])
    return len(line) + needed > width
