"""Strings files of Apple's systems: `"key" = "value";` with comments."""

import re
from collections.abc import Sequence
from typing import Final

from nllb.documents.splicing import SplicedDocument, plain_writer
from nllb.documents.text_file import TextFile, head_text, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions
from nllb.errors import DocumentError

_TEXT: Final = r"(?:\\.|[^\"\\])*"
_TOKEN: Final = re.compile(
    rf"""\s+ | /\*(?P<comment>.*?)\*/ | //(?P<line>[^\r\n]*)
    | (?P<key>"{_TEXT}"|[\w.$-]+)\s*(?:=\s*"(?P<value>{_TEXT})"\s*)?;
    """,
    re.DOTALL | re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(?:[Uu]([0-9a-fA-F]{4})|(.))", re.DOTALL)
_PLAIN: Final = {"n": "\n", "r": "\r", "t": "\t"}


class AppleStringsFormat(DocumentFormat):
    """Strings files of iOS and macOS."""

    name = "strings"
    suffixes = (".strings",)
    keeps = "Values are translated; keys, comments and format specifiers are kept."

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is one by its name and its first characters."""
        return suffix in cls.suffixes and is_text(head) and "<plist" not in head_text(head)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a file."""
        return AppleStringsDocument(read_text(data, options))


class AppleStringsDocument(SplicedDocument):
    """A parsed file."""

    def __init__(self, file: TextFile):
        super().__init__(file)
        write = plain_writer(_escape)
        position, note = 0, ""
        seen: set[str] = set()
        while position < len(file.text):
            match = _TOKEN.match(file.text, position)
            if match is None:
                line = file.text.count("\n", 0, position) + 1
                raise DocumentError(f'line {line} is not of the form "key" = "value";')
            position = match.end()
            if match["comment"] is not None or match["line"] is not None:
                note = (match["comment"] or match["line"] or "").strip()
            elif match["value"] is not None:
                key = match["key"].strip('"')
                while key in seen:
                    key += "'"
                seen.add(key)
                text = _unescape(match["value"])
                self.spans.add_text(*match.span("value"), text, write, key=key, note=note)
                note = ""


def _unescape(source: str) -> str:
    def character(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else _PLAIN.get(match[2], match[2])

    text = _ESCAPE.sub(character, source)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _escape(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text.replace("\r", "\\r").replace("\t", "\\t")
