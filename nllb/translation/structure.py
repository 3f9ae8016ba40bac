"""A text as segments to translate, and everything around them that is kept as it is.

Every newline is hard: no segment reaches over one, and it comes back where it was. So are tabs,
wide gaps, emoji, control characters and lone surrogates, which models drop. Indentation, list
markers, white space around segments, and pieces without words (numbers, addresses) are kept too.
Text that was wrapped at a fixed width can be asked to be read as such: see `wrapping`.
With the segments themselves as outputs, a document renders to exactly its text.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import regex

from nllb.languages import Language
from nllb.languages.scripts import script_of
from nllb.languages.segmentation import split_sentences, translatable
from nllb.translation.wrapping import SoftBreak, rewrap, unwrap

_EMOJI: Final = (
    r"(?:\p{Emoji_Presentation}|\p{Extended_Pictographic}\ufe0f)"
    r"(?:\p{Emoji_Modifier}|\ufe0f|\u200d\p{Extended_Pictographic})*"
)
_BREAK: Final = regex.compile(
    r"(?:[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]|\p{Cs}|[\p{Zs}\t]{3,}|" + _EMOJI + ")+",
    flags=regex.VERSION1,
)
_MARKER: Final = regex.compile(
    r"""(?:(?:
        [-*+\u2010-\u2015\u2022\u2023\u2043\u25a0-\u25ff\u2605\u2606\u2713-\u2718\u00b7>]  # bullets
      | \#{1,6}                                      # headings
      | \[[ xX]?\]                                   # boxes to tick
      | \(?\p{Nd}{1,3}[).\uff0e\u3001](?!\s+\p{Ll})  # 1. (1) 1), but not the date "3. mai"
      | \(?[A-Za-z]\)                                # a) (a)
      | [\u2460-\u24ff]                              # circled numbers
    )(?:\s+|$))+""",
    flags=regex.VERBOSE | regex.VERSION1,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One segment of a document and what stands before it."""

    before: str
    """White space, breaks and markers between the last part and this one."""
    text: str
    """The segment: no white space at either end, no break inside."""
    translate: bool
    """False for text without words, which is kept as it is."""
    breaks: tuple[SoftBreak, ...] = ()
    """Line ends inside the segment, which stand as spaces in its text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text cut into parts; joined again they are the text."""

    parts: tuple[Part, ...]
    """The segments in order."""
    tail: str
    """What follows the last one."""

    def render(self, outputs: Sequence[str], *, between: str = "") -> str:
        """Return the document with an output in the place of each part's text.

        `between` separates outputs where nothing separates the sentences of the source.
        """
        text = []
        for number, (part, output) in enumerate(zip(self.parts, outputs, strict=True)):
            touches = number > 0 and not part.before
            if touches and part.translate and self.parts[number - 1].translate:
                text.append(between)
            wrapped = rewrap(output, part.text, part.breaks) if part.breaks else output
            text += (part.before, wrapped)
        return "".join(text) + self.tail


def separator(source: Language, target: Language) -> str:
    """Return what stands between two output sentences where the source has nothing between them.

    Chinese sentences touch each other and English ones do not, so it is a space from a script that
    writes no spaces to one that does.
    """
    unspaced_source = not script_of(source.script).spaces_words
    spaced = unspaced_source and script_of(target.script).spacing != "none"
    return " " if spaced else ""


def parse(
    text: str, language: Language, *, fits: Callable[[str], bool], wrapped: bool = False
) -> Document:
    """Cut a text into parts.

    Args:
        text: Any text.
        language: Its language, whose rules for the ends of sentences apply.
        fits: Says whether a segment is short enough for the model; longer ones are cut further.
        wrapped: The ends of full lines are soft: a sentence goes on over them.
    """
    breaks: tuple[SoftBreak, ...] = ()
    if wrapped:
        text, breaks = unwrap(text)
    parts: list[Part] = []
    before = ""
    start = 0
    for found in _BREAK.finditer(text):
        before = _parse_line(text[start : found.start()], before, parts, language, fits)
        before += found[0]
        start = found.end()
    before = _parse_line(text[start:], before, parts, language, fits)
    document = Document(parts=tuple(parts), tail=before)
    return _put_breaks(document, breaks) if breaks else document


def _put_breaks(document: Document, breaks: Sequence[SoftBreak]) -> Document:
    """Return a document of joined lines with the line ends where they were."""
    left = deque(breaks)
    parts = []
    start = 0
    for part in document.parts:
        before = _restore(part.before, start, left)
        start += len(part.before)
        inside = []
        while left and left[0].position < start + len(part.text):
            soft = left.popleft()
            inside.append(replace(soft, position=soft.position - start))
        start += len(part.text)
        parts.append(replace(part, before=before, breaks=tuple(inside)))
    return Document(parts=tuple(parts), tail=_restore(document.tail, start, left))


def _restore(space: str, start: int, left: deque[SoftBreak]) -> str:
    """Return what stands between two segments, from `start` on, with its line ends."""
    restored = ""
    done = 0
    while left and left[0].position <= start + len(space):
        soft = left.popleft()
        at = soft.position - start
        restored += space[done:at] + soft.text
        done = at + soft.spaced
    return restored + space[done:]


def cut(pieces: Sequence[str]) -> Document:
    """Return the document whose segments are these pieces without their white space."""
    parts: list[Part] = []
    tail = _append(pieces, "", parts)
    return Document(parts=tuple(parts), tail=tail)


def _parse_line(
    line: str,
    before: str,
    parts: list[Part],
    language: Language,
    fits: Callable[[str], bool],
) -> str:
    """Append the parts of a text without breaks; return what is left over at its end."""
    body = line.lstrip()
    before += line[: len(line) - len(body)]
    if marker := _MARKER.match(body):
        before += marker[0]
        body = body[marker.end() :]
    return _append(split_sentences(body, language, fits=fits), before, parts)


def _append(pieces: Sequence[str], before: str, parts: list[Part]) -> str:
    for piece in pieces:
        segment = piece.strip()
        if not segment:
            before += piece
            continue
        start = piece.index(segment)
        parts.append(
            Part(before=before + piece[:start], text=segment, translate=translatable(segment))
        )
        before = piece[start + len(segment) :]
    return before
