"""Plain text: paragraphs are translated; line ends and blank lines are kept."""

import re
from collections.abc import Sequence
from typing import Final

from nllb.documents.splicing import SplicedDocument, Write, plain_writer, text_pieces
from nllb.documents.text_file import TextFile, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment
from nllb.translation.text_width import columns

_LINE: Final = r"[^\r\n]*\S[^\r\n]*(?:\r\n|\n|\r|$)"
_PARAGRAPH: Final = re.compile(f"(?:{_LINE})+", re.MULTILINE)
_WRAPPED: Final = re.compile(
    rf"(?:{_LINE})(?:(?![ \t]*(?:[-*+•]|\d+[.)])\s){_LINE})*", re.MULTILINE
)
"""Paragraphs, where list items are separate paragraphs."""
_MAX_LINES: Final = 200


class PlainTextFormat(DocumentFormat):
    """Plain text."""

    name = "txt"
    suffixes = (".txt", ".text")
    keeps = "Paragraphs are translated; line ends, indentation and blank lines are kept."

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is text and has no other suffix."""
        return suffix in {*cls.suffixes, ""} and is_text(head)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a text."""
        return PlainTextDocument(read_text(data, options), options)


class PlainTextDocument(SplicedDocument):
    """A parsed text.

    With the extra option `wrapped`, sentences continue after the ends of lines, and a translated
    paragraph is wrapped at its original width.
    """

    def __init__(self, file: TextFile, options: FormatOptions):
        super().__init__(file)
        wrapped = options.extra.get("wrapped") == "yes"
        for start, end in _passages(file.text, _WRAPPED if wrapped else _PARAGRAPH):
            source = file.text[start:end]
            shown = source.replace("\r\n", "\n").replace("\r", "\n")
            write = _wrapping_writer(shown, file.newline) if wrapped else _writer(file.newline)
            pieces = text_pieces(start, end, source, shown)
            self.spans.add(pieces, write, preserve_layout=not wrapped)


def _writer(newline: str) -> Write:
    def write(fragments: Sequence[Fragment]) -> str:
        text = plain_writer(str)(fragments)
        return text if newline == "\n" else text.replace("\n", newline)

    return write


def _wrapping_writer(paragraph: str, newline: str) -> Write:
    """Return a function that wraps a paragraph at its original width and indentation."""
    lines = paragraph.rstrip("\n").split("\n")
    width = max(map(columns, lines))
    following = lines[min(1, len(lines) - 1)]
    indent = following[: len(following) - len(following.lstrip())]
    first = columns(lines[0]) - columns(lines[0].lstrip())

    def write(fragments: Sequence[Fragment]) -> str:
        written: list[str] = []
        column = first
        for word in plain_writer(str)(fragments).split():
            if written and column + 1 + columns(word) > width:
                written.append(newline + indent + word)
                column = columns(indent) + columns(word)
            else:
                written.append(" " + word if written else word)
                column += columns(word) + (len(written) > 1)
        return "".join(written)

    return write


def _passages(text: str, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    """Return the paragraphs; very long ones are split into parts of whole lines."""
    passages: list[tuple[int, int]] = []
    for match in pattern.finditer(text):
        start = match.start()
        lines = match[0].splitlines(keepends=True)
        for first in range(0, len(lines), _MAX_LINES):
            end = start + sum(map(len, lines[first : first + _MAX_LINES]))
            passages.append((start, end))
            start = end
    return passages
