"""Parses Markdown to passages with the positions of their text and inline codes in the source.

markdown-it determines headings, links and emphasis. Its tokens have no positions inside a line, so
the source is read along with them; where the two differ, a passage is kept unchanged.
"""

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from .splicing import InlinePiece
from .units import CodeKind

_SOFT_BREAK: Final = re.compile(r"[ \t]*\n[ \t]*")
_HARD_BREAK: Final = re.compile(r"(?: {2,}|\\)\n[ \t]*")
_HTML_TAG: Final = re.compile(r"<(/?)([A-Za-z][\w-]*)[^<>]*?(/?)>")
_CELL_EDGE: Final = re.compile(r"(?<!\\)\|")
_TASK: Final = re.compile(r"\[[ xX]\][ \t]+")
_SINGLE_TAGS: Final = frozenset({"br", "img", "wbr", "hr", "input"})
_MARKER: Final = re.compile(r"[ \t]*(?:(?:>|[-+*](?=\s)|\d+[.)](?=\s)|#{1,6}(?=\s))[ \t]*)*")


class _Mismatch(Exception):
    """The tokens do not match the source."""


@dataclass(frozen=True, slots=True)
class MarkdownPassage:
    """A passage of Markdown.

    Attributes:
        pieces: its text and codes.
        images: start, end and text of the alternative texts of its images.
        newline: the separator of its lines in the source; "" for a single line.
        width: the length of its longest line.
        in_table: whether it is a cell of a table.
        starts_block: whether its first character could be read as a marker of a list or heading.
    """

    pieces: list[InlinePiece]
    images: list[tuple[int, int, str]]
    newline: str
    width: int
    in_table: bool
    starts_block: bool


def markdown_passages(text: str) -> Iterator[MarkdownPassage | None]:
    """Yield the passages of a text in order; None for one that could not be located."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("text_join")
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]
    lines = plain.split("\n")
    row, column = 0, 0
    in_table, is_heading = False, False
    for token in parser.parse(plain):
        if token.type in {"table_open", "table_close"}:
            in_table = token.type == "table_open"
        elif token.type == "tr_open":
            row, column = token.map[0] if token.map else row, 0
        elif token.type == "heading_open":
            is_heading = True
        elif token.type == "heading_close":
            is_heading = False
        elif token.type == "inline" and token.content.strip():
            try:
                if in_table:
                    places = [_cell(lines, row, column)]
                    tokens = parser.parseInline(places[0][2])[0].children or []
                else:
                    places = _locate(lines, token)
                    tokens = token.children or []
                yield _Reader(text, starts, places, parser).read(
                    tokens, in_table=in_table, starts_block=not in_table and not is_heading
                )
            except _Mismatch:
                yield None
        if token.type in {"th_close", "td_close"}:
            column += 1


SpanLocation = tuple[int, int, str]
"""A line, the column where the text of a passage begins in it, and that text."""


def _locate(lines: Sequence[str], token: Token) -> list[SpanLocation]:
    if token.map is None:
        raise _Mismatch
    places: list[SpanLocation] = []
    for number, content in enumerate(token.content.split("\n"), start=token.map[0]):
        if number >= len(lines):
            raise _Mismatch
        line = lines[number]
        wanted = content.rstrip()
        column = len(line.rstrip()) - len(wanted)
        if column < 0 or line[column : column + len(wanted)] != wanted:
            marker = _MARKER.match(line)
            column = line.find(wanted, marker.end() if marker else 0)
        if column < 0:
            raise _Mismatch
        places.append((number, column, content))
    return places


def _cell(lines: Sequence[str], row: int, column: int) -> SpanLocation:
    line = lines[row]
    edges = [match.start() for match in _CELL_EDGE.finditer(line)]
    marker = re.match(r"[ \t>]*", line)
    first = marker.end() if marker else 0
    if not edges or edges[0] > first:
        edges.insert(0, first - 1)
    edges.append(len(line))
    if column + 1 >= len(edges):
        raise _Mismatch
    start, end = edges[column] + 1, edges[column + 1]
    content = line[start:end]
    return row, start + len(content) - len(content.lstrip()), content.strip()


class _Reader:
    """Reads the source of a passage along with its tokens."""

    def __init__(
        self, text: str, starts: Sequence[int], places: Sequence[SpanLocation], parser: MarkdownIt
    ):
        self.text, self.parser = text, parser
        self.content = "\n".join(content for *_, content in places)
        self.position = 0
        self.pieces: list[InlinePiece] = []
        self.images: list[tuple[int, int, str]] = []
        self.links: list[int] = []
        self.skip = 0
        """Characters of the next texts that have already been read."""
        self.places = places
        self.lines: list[tuple[int, int]] = []
        """The start of each line in the content and in the source."""
        offset = 0
        for line, column, content in places:
            self.lines.append((offset, starts[line] + column))
            offset += len(content) + 1

    def read(
        self, tokens: Sequence[Token], *, in_table: bool, starts_block: bool
    ) -> MarkdownPassage:
        """Return the passage of all tokens."""
        autolink = False
        if task := _TASK.match(self.content):
            self._add(task.end(), CodeKind.STANDALONE)
            self.skip = task.end()
        for token in tokens:
            if token.type == "link_open" and token.markup == "autolink":
                autolink = True
                end = self.content.index(">", self.position) + 1
                self._add(end, CodeKind.STANDALONE, self.content[self.position + 1 : end - 1])
            elif autolink:
                autolink = token.type != "link_close"
            else:
                self._token(token)
        if self.content[self.position :].strip():
            raise _Mismatch
        newline = ""
        if len(self.places) > 1:
            first_end = self.lines[0][1] + len(self.places[0][2].rstrip())
            newline = self.text[first_end : self.lines[1][1]]
            newline = newline.lstrip(" ") if "\\" not in newline else newline.lstrip("\\ ")
        return MarkdownPassage(
            pieces=self.pieces,
            images=self.images,
            newline=newline,
            width=max(len(content) for *_, content in self.places),
            in_table=in_table,
            starts_block=starts_block,
        )

    def _source_offset(self, offset: int) -> int:
        start, source = self.lines[bisect_right(self.lines, (offset, sys.maxsize)) - 1]
        return source + offset - start

    def _add(
        self,
        end: int,
        kind: CodeKind | None,
        shown: str | None = None,
        *,
        name: str = "",
        written: str | None = None,
    ) -> None:
        """Add the source between the position and `end`, and continue there."""
        if end > self.position:
            start, last = self._source_offset(self.position), self._source_offset(end - 1) + 1
            if self.pieces and self.pieces[-1].end < start:  # the end of a line
                gap = self.text[self.pieces[-1].end : start]
                self.pieces.append(InlinePiece(self.pieces[-1].end, start, gap, " "))
            source = self.text[start:last] if written is None else written
            rewritten = written is not None
            self.pieces.append(InlinePiece(start, last, source, shown, kind, name, rewritten))
            self.position = end

    def _expect(self, source: str) -> int:
        if not source or not self.content.startswith(source, self.position):
            raise _Mismatch
        return self.position + len(source)

    def _token(self, token: Token) -> None:
        kind = token.type
        if kind == "text":
            skipped = min(self.skip, len(token.content))
            self.skip -= skipped
            if len(token.content) > skipped:
                self._add(self._expect(token.content[skipped:]), None, token.content[skipped:])
        elif kind == "text_special":
            self._add(self._expect(token.markup), None, token.content)
        elif kind == "softbreak":
            self._break(_SOFT_BREAK, None)
        elif kind == "hardbreak":
            self._break(_HARD_BREAK, CodeKind.STANDALONE)
        elif kind == "code_inline":
            start = self._expect(token.markup)
            close = re.compile(rf"(?<!`){token.markup}(?!`)").search(self.content, start)
            if close is None:
                raise _Mismatch
            self._add(close.end(), CodeKind.STANDALONE, token.content)
        elif kind == "html_inline":
            self._html(token.content)
        elif kind == "image":
            self._image(token)
        elif kind == "link_open":
            self.links.append(self.position)
            self._add(self._expect("["), CodeKind.OPEN, name="link")
        elif kind == "link_close":
            self._link_close()
        elif kind.endswith("_open"):
            self._add(self._expect(token.markup), CodeKind.OPEN, name=kind[:-5])
        elif kind.endswith("_close"):
            self._add(self._expect(token.markup), CodeKind.CLOSE, name=kind[:-6])
        else:
            raise _Mismatch

    def _break(self, pattern: re.Pattern[str], kind: CodeKind | None) -> None:
        match = pattern.match(self.content, self.position)
        if match is None:
            raise _Mismatch
        if kind is None:
            self.position = match.end()  # the gap becomes a piece with the next text
            return
        start = self._source_offset(self.position)
        following = min(match.end(), len(self.content) - 1)
        last = self._source_offset(following)
        self.pieces.append(InlinePiece(start, last, self.text[start:last], kind=kind))
        self.position = match.end()

    def _html(self, source: str) -> None:
        tag = _HTML_TAG.fullmatch(source)
        kind, name = CodeKind.STANDALONE, ""
        if tag is not None and not tag[3] and tag[2].lower() not in _SINGLE_TAGS:
            kind, name = CodeKind.CLOSE if tag[1] else CodeKind.OPEN, "<" + tag[2].lower()
        self._add(self._expect(source), kind, name=name)

    def _image(self, token: Token) -> None:
        alt_start = self._expect("![")
        end_of_alt = alt_start + len(token.content)
        if self.content[alt_start : end_of_alt + 1] != token.content + "]":
            raise _Mismatch
        end = self._link_tail(end_of_alt)
        if token.content.strip() and "\n" not in token.content and end > end_of_alt + 2:
            self.images.append(
                (
                    self._source_offset(alt_start),
                    self._source_offset(end_of_alt - 1) + 1,
                    token.content,
                )
            )
        self._add(end, CodeKind.STANDALONE)

    def _link_close(self) -> None:
        start = self.links.pop() + 1
        label = self.content[start : self.position]
        end = self._link_tail(self.position)
        written = None
        if end <= self.position + 1 or self.content[self.position : end] == "][]":
            written = f"][{' '.join(label.split())}]"  # the text was also the label
        self._add(end, CodeKind.CLOSE, name="link", written=written)

    def _link_tail(self, bracket: int) -> int:
        """Return the end of a link or image whose text ends with the bracket at a position."""
        content = self.content
        if content[bracket : bracket + 1] != "]":
            raise _Mismatch
        following = content[bracket + 1 : bracket + 2]
        if following == "[":
            end = content.find("]", bracket + 2)
            if end < 0:
                raise _Mismatch
            return end + 1
        if following != "(":
            return bracket + 1
        helpers, size = self.parser.helpers, len(content)
        position = _skip(content, bracket + 2)
        destination = helpers.parseLinkDestination(content, position, size)
        if destination.ok:
            position = destination.pos
        blank = _skip(content, position)
        title = helpers.parseLinkTitle(content, blank, size)
        if title.ok and blank != position:
            blank = _skip(content, title.pos)
        if content[blank : blank + 1] != ")":
            return bracket + 1
        return blank + 1


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\n":
        position += 1
    return position
