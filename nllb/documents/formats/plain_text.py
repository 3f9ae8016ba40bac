"""Plain text: paragraphs are translated, line ends and blank lines are kept."""

import re
from collections.abc import Sequence
from typing import Final

from nllb.documents.splicing import SplicedDocument, plain_writer, text_pieces
from nllb.documents.text_file import TextFile, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment

_PARAGRAPH: Final = re.compile(r"(?:[^\r\n]*\S[^\r\n]*(?:\r\n|\n|\r|$))+", re.MULTILINE)
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
        return PlainTextDocument(read_text(data, options))


class PlainTextDocument(SplicedDocument):
    """A parsed text."""

    def __init__(self, file: TextFile):
        super().__init__(file)
        newline = file.newline

        def write(fragments: Sequence[Fragment]) -> str:
            text = plain_writer(str)(fragments)
            return text if newline == "\n" else text.replace("\n", newline)

        for start, end in _passages(file.text):
            source = file.text[start:end]
            shown = source.replace("\r\n", "\n").replace("\r", "\n")
            self.spans.add(text_pieces(start, end, source, shown), write, preserve_layout=True)


def _passages(text: str) -> list[tuple[int, int]]:
    """Return the paragraphs; very long ones are cut into parts of whole lines."""
    passages: list[tuple[int, int]] = []
    for match in _PARAGRAPH.finditer(text):
        start = match.start()
        lines = match[0].splitlines(keepends=True)
        for first in range(0, len(lines), _MAX_LINES):
            end = start + sum(map(len, lines[first : first + _MAX_LINES]))
            passages.append((start, end))
            start = end
    return passages
