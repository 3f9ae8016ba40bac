"""The structure of a text: segments to translate, and the text around them that is kept.

Every newline is hard: no segment crosses one, and it is restored in its place. The same applies to
tabs, wide gaps, emoji, control characters and lone surrogates, which models drop, and to the bars
between table cells. Indentation, list markers, white space around segments, and text without words
(numbers, addresses, encoded data) are kept as well. Text that is wrapped at a fixed width can be
read accordingly (see `wrapping`). If every output equals its segment, a document renders to exactly
its text.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import regex

from nllb.languages import Language
from nllb.languages.scripts import script_of
from nllb.languages.segmentation import split_sentences, translatable

from .wrapping import SoftBreak, rewrap, unwrap

_EMOJI: Final = (
    r"(?:\p{Emoji_Presentation}|\p{Extended_Pictographic}\ufe0f)"
    r"(?:\p{Emoji_Modifier}|\ufe0f|\u200d\p{Extended_Pictographic})*"
)
MAX_TOKEN_CHARACTERS: Final = 128
"""Maximum length of runs of ASCII without a space that are translated; longer ones are data."""
_BREAK: Final = regex.compile(
    r"(?:[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]|\p{Cs}|[\p{Zs}\t]{3,}"
    rf"|[!-~]{{{MAX_TOKEN_CHARACTERS + 1},}}+|{_EMOJI})+",
    flags=regex.VERSION1,
)
_CELL_EDGE: Final = regex.compile(r"[\p{Zs}\t]*+(?<!\\)\|++[\p{Zs}\t]*+")
_SPACED_BAR: Final = regex.compile(r"(?:\A|[\p{Zs}\t]++)\|++(?:[\p{Zs}\t]++|\Z)")
_BAR_AS_DANDA: Final = frozenset({"Deva", "Beng", "Guru", "Orya"})
"""Scripts in which a bar is often typed instead of the danda, which ends a sentence."""
_MARKER: Final = regex.compile(
    r"""(?:(?:
        [-*+\u2010-\u2015\u2022\u2023\u2043\u25a0-\u25ff\u2605\u2606\u2713-\u2718\u00b7>]  # bullets
      | \#{1,6}                                      # headings
      | \[[ xX]?\]                                   # boxes to tick
      | \(?\p{Nd}{1,3}\)                               # 1) (1)
      | \p{Nd}{1,3}[.\uff0e\u3001](?!\s+\p{Ll})         # 1. but not the date "3. mai"
      | \p{Nd}{1,2}(?:\.\p{Nd}{1,2}){1,3}\.?(?=\s+\p{Lu})  # 1.1 before a title
      | \(?(?:[A-Za-z]|[ivxIVX]{2,4})\)                # a) (a) ii) (iv)
      | [\u2460-\u24ff]                              # circled numbers
    )(?:\s+|$))+""",
    flags=regex.VERBOSE | regex.VERSION1,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentPart:
    """One segment of a document and the text before it.

    Attributes:
        before: white space, breaks and markers between the previous part and this one.
        text: the segment, without white space at its ends or breaks inside.
        translate: whether to translate the segment; text without words is kept unchanged.
        breaks: line ends inside the segment, which its text replaces by a space or nothing.
    """

    before: str
    text: str
    translate: bool
    breaks: tuple[SoftBreak, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A text that is split into parts; joined, they are equal to the text.

    Attributes:
        parts: the segments in order.
        tail: the text after the last segment.
    """

    parts: tuple[DocumentPart, ...]
    tail: str

    def render(self, outputs: Sequence[str], *, between: str = "") -> str:
        """Return the document with each segment replaced by its output.

        `between` separates outputs where nothing separates the sentences of the source.
        """
        pieces = self.render_parts(outputs, between=between)
        return "".join(before + text for before, text in pieces) + self.tail

    def render_parts(self, outputs: Sequence[str], *, between: str = "") -> list[tuple[str, str]]:
        """Return the text before each output, and the output as it is rendered."""
        pieces = []
        for number, (part, output) in enumerate(zip(self.parts, outputs, strict=True)):
            touches = number > 0 and not part.before
            needs_space = touches and part.translate and self.parts[number - 1].translate
            before = between + part.before if needs_space else part.before
            text = rewrap(output, part.text, part.breaks) if part.breaks else output
            pieces.append((before, text))
        return pieces


def separator(source: Language, target: Language) -> str:
    """Return the text to insert between two output sentences if the source has nothing there.

    Chinese sentences touch each other, and English ones do not. The separator is a space if only
    the target language writes spaces between sentences.
    """
    unspaced_source = not script_of(source.script).spaces_words
    spaced = unspaced_source and script_of(target.script).spacing != "none"
    return " " if spaced else ""


def parse(
    text: str, language: Language, *, fits: Callable[[str], bool], wrapped: bool = False
) -> Document:
    """Split a text into parts.

    Args:
        text: Any text.
        language: Its language, which determines the rules for the ends of sentences.
        fits: Returns whether a segment is short enough for the model; longer ones are split.
        wrapped: Whether the ends of full lines are soft, so that sentences continue after them.
    """
    breaks: tuple[SoftBreak, ...] = ()
    if wrapped:
        text, breaks = unwrap(text)
    parts: list[DocumentPart] = []
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
    """Return a document of joined lines with its line ends restored."""
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
    """Return the white space between two segments, from `start` on, with its line ends."""
    restored = ""
    done = 0
    while left and left[0].position <= start + len(space):
        soft = left.popleft()
        at = soft.position - start
        restored += space[done:at] + soft.hyphen + soft.text
        done = at + soft.spaced
    return restored + space[done:]


def cut(pieces: Sequence[str]) -> Document:
    """Return the document whose segments are the pieces without surrounding white space."""
    parts: list[DocumentPart] = []
    tail = _append(pieces, "", parts)
    return Document(parts=tuple(parts), tail=tail)


def _parse_line(
    line: str,
    before: str,
    parts: list[DocumentPart],
    language: Language,
    fits: Callable[[str], bool],
) -> str:
    """Append the parts of a text without breaks; return the rest at its end."""
    body = line.lstrip()
    before += line[: len(line) - len(body)]
    if marker := _MARKER.match(body):
        before += marker[0]
        body = body[marker.end() :]
    start = 0
    for edge in _cell_edges(body, language):
        before = _append(
            split_sentences(body[start : edge.start()], language, fits=fits), before, parts
        )
        before += edge[0]
        start = edge.end()
    return _append(split_sentences(body[start:], language, fits=fits), before, parts)


def _cell_edges(line: str, language: Language) -> "Iterator[regex.Match[str]]":
    """Find the bars between the cells of a table row, or between entries such as `Home | Help`."""
    if "|" not in line:
        return iter(())
    if line.startswith("|"):
        return _CELL_EDGE.finditer(line)
    if language.script in _BAR_AS_DANDA:
        return iter(())
    return _SPACED_BAR.finditer(line)


def _append(pieces: Sequence[str], before: str, parts: list[DocumentPart]) -> str:
    for piece in pieces:
        segment = piece.strip()
        if not segment:
            before += piece
            continue
        start = piece.index(segment)
        parts.append(
            DocumentPart(
                before=before + piece[:start], text=segment, translate=translatable(segment)
            )
        )
        before = piece[start + len(segment) :]
    return before
