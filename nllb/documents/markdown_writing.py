"""Writes text and inline codes as Markdown with the same meaning."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from markdown_it import MarkdownIt

from .splicing import joined
from .units import CodeKind, Fragment, InlineCode

_SPECIAL: Final = re.compile(
    r"""\\(?=[!-/:-@\[-`{-~])      # a backslash that would escape something
    | `                            # code
    | (?<!\s)\* | \*(?!\s)         # emphasis
    | (?<![^\W_])_ | _(?![^\W_])
    | ~(?=~|$)
    | <(?=[A-Za-z/!?])             # a tag
    | \](?=[(\[:])                 # a link
    | &(?=\#?\w+;)                 # a reference
    """,
    re.VERBOSE,
)
_BLOCK_START: Final = re.compile(
    r"""(\s*)(?:
      (\d+)(?=[.)](?:\s|$))                # a number of a list
    | (?=(?:[-+*>]|\#{1,6})(?:\s|$))       # a bullet or a heading
    | (?=>|~~~|=+\s*$|-+\s*$|\|)           # a quotation, code, a line under a heading, a table
    | (?=\[[ xX]\]\s)                      # a task
    )""",
    re.VERBOSE,
)
_EMPHASIS: Final = re.compile(r"\*+|_+|~~")
_OTHER_MARK: Final = str.maketrans("*_", "_*")
_NO_MARKS: Final = str.maketrans("", "", "*_~")
_ASCII_PUNCTUATION: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def inline_writer(
    *, newline: str, width: int, in_table: bool, starts_block: bool
) -> Callable[[Sequence[Fragment]], str]:
    """Return a function that writes the fragments of a passage.

    Args:
        newline: the separator of the passage's lines; "" for a single line.
        width: the length of its longest line.
        in_table: whether it is a cell.
        starts_block: whether its first character could be read as a marker of a list.
    """

    def write(fragments: Sequence[Fragment]) -> str:
        parts: list[tuple[str, bool]] = []
        for number, part in enumerate(fragments):
            if isinstance(part, str):
                text = escape_inline(part, in_table=in_table)
                if number == 0 and starts_block:
                    text = escape_block_start(text)
                parts.append((text, True))
            else:
                parts.append((part.data, False))
        return _wrap(parts, newline, width) if newline else "".join(data for data, _ in parts)

    def write_and_check(fragments: Sequence[Fragment]) -> str:
        wanted = _emphasis_tokens(fragments)
        placed = place_emphasis(fragments)
        for tried in (placed, _spaced_emphasis(placed)):
            if not wanted or _found_tokens(write(_without_labels(tried))) == wanted:
                return write(tried)
        return write(_around_everything(fragments))

    return write_and_check


def escape_inline(text: str, *, in_table: bool = False) -> str:
    """Return text in which no character is read as Markdown markup."""
    text = _SPECIAL.sub(lambda match: "\\" + match[0], text)
    return text.replace("|", "\\|") if in_table else text


def escape_block_start(text: str) -> str:
    """Return text that does not start a list, a heading, a quotation or a table."""
    match = _BLOCK_START.match(text)
    if match is None:
        return text
    return f"{match[1]}{match[2] or ''}\\{text[match.end() :]}"


def _wrap(parts: Sequence[tuple[str, bool]], newline: str, width: int) -> str:
    """Break text into lines of about the original width, at blanks outside codes."""
    chunks = [""]
    for data, breaks in parts:
        if not breaks:
            chunks[-1] += data
            continue
        first, *rest = data.split(" ")
        chunks[-1] += first
        chunks += rest
    written = chunks[0]
    prefix = len(newline.lstrip("\r\n"))
    for chunk in chunks[1:]:
        column = len(written) - written.rfind("\n") - 1
        room = width + prefix if "\n" in written else width
        fits = column + 1 + len(chunk.partition("\n")[0]) <= room
        if fits or escape_block_start(chunk) != chunk or not column:
            written += " " + chunk
        else:
            written += newline + chunk
    return written


def place_emphasis(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Move emphasis markers to positions where they are read as such.

    A marker does not open before a blank, nor inside a word before punctuation; closing markers are
    the mirror image. Blanks and punctuation are moved out of the emphasis, or the rest of the word
    is moved in.
    """
    parts = list(fragments)
    for index, part in enumerate(parts):
        if not _is_emphasis(part):
            continue
        assert isinstance(part, InlineCode)
        if part.kind is CodeKind.OPEN:
            _place(parts, index, inner=1)
        elif part.kind is CodeKind.CLOSE:
            _place(parts, index, inner=-1)
    return [part for part in parts if part != ""]


def _place(parts: list[Fragment], index: int, *, inner: int) -> None:
    """Place one marker; `inner` is the direction of the text that it marks."""
    inside, outside = index + inner, index - inner
    for pattern in (_BLANKS, _PUNCTUATION):
        text = _text(parts, inside)
        match = pattern[inner].search(text)
        if match is None or (pattern is _PUNCTUATION and _reads(parts, index, inner)):
            continue
        rest = text[match.end() :] if inner > 0 else text[: match.start()]
        if not any(map(str.isalnum, rest)):
            continue
        if not isinstance(_at(parts, outside), str):
            continue
        parts[inside] = rest
        before = _text(parts, outside)
        parts[outside] = before + match[0] if inner > 0 else match[0] + before
    if _reads(parts, index, inner):
        return
    text = _text(parts, outside)
    word = _WORD[inner].search(text)
    if word is not None and isinstance(_at(parts, inside), str):
        own = _text(parts, inside)
        parts[outside] = text[: word.start()] if inner > 0 else text[word.end() :]
        parts[inside] = word[0] + own if inner > 0 else own + word[0]


_BLANKS: Final = {1: re.compile(r"^\s+"), -1: re.compile(r"\s+$")}
_PUNCTUATION: Final = {1: re.compile(r"^[^\w\s]+"), -1: re.compile(r"[^\w\s]+$")}
_WORD: Final = {1: re.compile(r"\S+$"), -1: re.compile(r"^\S+")}


def _reads(parts: Sequence[Fragment], index: int, inner: int) -> bool:
    """Return whether a marker is read as opening (inner 1) or closing (inner -1) emphasis."""
    mark = parts[index]
    assert isinstance(mark, InlineCode)
    own, other = _neighbour(parts, index, inner), _neighbour(parts, index, -inner)
    if not own or own.isspace():
        return False
    is_edge = not other or other.isspace() or _is_punctuation(other)
    if mark.data.startswith("_"):
        return is_edge
    return is_edge or not _is_punctuation(own)


def _neighbour(parts: Sequence[Fragment], index: int, direction: int) -> str:
    """Return the character next to a code, or nothing at the end."""
    index += direction
    while 0 <= index < len(parts):
        part = parts[index]
        source = part if isinstance(part, str) else part.data
        if source:
            return source[0] if direction > 0 else source[-1]
        index += direction
    return ""


def _at(parts: Sequence[Fragment], index: int) -> Fragment | None:
    return parts[index] if 0 <= index < len(parts) else None


def _text(parts: Sequence[Fragment], index: int) -> str:
    part = _at(parts, index)
    return part if isinstance(part, str) else ""


def _is_punctuation(character: str) -> bool:
    is_ascii = character in _ASCII_PUNCTUATION
    return is_ascii or unicodedata.category(character).startswith("P")


def _is_emphasis(part: Fragment) -> bool:
    return isinstance(part, InlineCode) and _EMPHASIS.fullmatch(part.data) is not None


def _around_everything(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Return fragments whose emphasis covers the whole text."""
    opening = [part for part in fragments if _is_emphasis(part) and _kind(part) is CodeKind.OPEN]
    closing = [part for part in fragments if _is_emphasis(part) and _kind(part) is CodeKind.CLOSE]
    rest = joined([part for part in fragments if not _is_emphasis(part)])
    if rest and isinstance(first := rest[0], str):
        rest[0] = first.lstrip()
    if rest and isinstance(last := rest[-1], str):
        rest[-1] = last.rstrip()
    numbers = {_number(part): place for place, part in enumerate(opening)}
    closing.sort(key=lambda part: -numbers.get(_number(part), 0))
    return [*_alternating(opening), *rest, *reversed(_alternating(closing[::-1]))]


def _alternating(marks: Sequence[Fragment]) -> list[Fragment]:
    """Return marks of nested emphasis from the outside in; two stars would be read as one mark."""
    written: list[Fragment] = []
    before = ""
    for mark in marks:
        assert isinstance(mark, InlineCode)
        before = mark.data.translate(_OTHER_MARK) if mark.data == before else mark.data
        written.append(replace(mark, data=before))
    return written


def _spaced_emphasis(parts: Sequence[Fragment]) -> list[Fragment]:
    """Return fragments with a blank between emphasis that ends and emphasis that begins."""
    spaced: list[Fragment] = []
    for part in parts:
        before = spaced[-1] if spaced else None
        if before is not None and _is_emphasis(before) and _is_emphasis(part):
            if _kind(before) is CodeKind.CLOSE and _kind(part) is CodeKind.OPEN:
                spaced.append(" ")
        spaced.append(part)
    return spaced


def _kind(part: Fragment) -> CodeKind | None:
    return None if isinstance(part, str) else part.kind


def _number(part: Fragment) -> int:
    return 0 if isinstance(part, str) else part.number


_TOKENS: Final = {"*": "em_open", "_": "em_open", "**": "strong_open", "__": "strong_open"} | {
    "~~": "s_open"
}


def _emphasis_tokens(fragments: Sequence[Fragment]) -> Counter[str]:
    return Counter(
        _TOKENS[part.data]
        for part in fragments
        if isinstance(part, InlineCode) and part.kind is CodeKind.OPEN and part.data in _TOKENS
    )


def _without_labels(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Return fragments without emphasis characters in the labels of links, which stay as they are.

    Without the definitions of its labels, a passage would be parsed as if labels were text.
    """
    return [
        part
        if isinstance(part, str) or _is_emphasis(part)
        else replace(part, data=part.data.translate(_NO_MARKS))
        for part in fragments
    ]


def _found_tokens(written: str) -> Counter[str]:
    [token] = _parser().parseInline(written)
    return Counter(
        child.type for child in token.children or [] if child.type in {*_TOKENS.values()}
    )


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["strikethrough"])
