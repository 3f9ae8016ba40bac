"""Java properties: values are translated; keys, comments and layout are kept."""

import re
from collections.abc import Sequence
from typing import Final

from nllb.documents.prose import is_chosen, is_prose
from nllb.documents.splicing import SplicedDocument, plain_writer
from nllb.documents.text_file import TextFile, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions

_ENTRY: Final = re.compile(
    r"""^[ \t\f]*
    (?: [\#!][^\r\n]*                                   # a comment
      | (?P<key>(?:\\.|[^\\\r\n:=\s])+)
        [ \t\f]*(?:[:=][ \t\f]*)?(?:\\(?:\r\n|\r|\n)[ \t\f]*)?
        (?P<value>(?:\\(?:\r\n|.|\n|\r)|[^\\\r\n])*)
    )""",
    re.MULTILINE | re.VERBOSE,
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(\r\n|\r|\n)[ \t\f]*|(.))", re.DOTALL)
_PLAIN: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class PropertiesFormat(DocumentFormat):
    """Java properties files."""

    name = "properties"
    suffixes = (".properties",)
    keeps = "Values that are text are translated, or those of chosen keys; all else is kept."

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is one by its name."""
        return suffix in cls.suffixes and is_text(head)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a file."""
        return PropertiesDocument(read_text(data, options, fallback="latin-1"), options)


class PropertiesDocument(SplicedDocument):
    """A parsed file."""

    def __init__(self, file: TextFile, options: FormatOptions):
        super().__init__(file)
        write = plain_writer(self._escape)
        seen: set[str] = set()
        for match in _ENTRY.finditer(file.text):
            source = match["value"]
            if not source:
                continue
            key, text = unescape(match["key"]), unescape(source)
            chosen = is_chosen((key,), options.keys) if options.keys else is_prose(text)
            if not chosen:
                continue
            while key in seen:
                key += "'"
            seen.add(key)
            self.spans.add_text(*match.span("value"), text, write, key=key)

    def _escape(self, text: str) -> str:
        text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        text = text.replace("\t", "\\t").replace("\f", "\\f")
        if text.startswith(" "):
            text = "\\" + text
        if self.file.encoding == "utf-8" and not self.file.text.isascii():
            return text
        limit = 0xFF if self.file.encoding == "latin-1" else 0x7F
        return "".join(
            character
            if ord(character) <= limit
            else "".join(f"\\u{unit:04x}" for unit in _utf16(character))
            for character in text
        )


def unescape(source: str) -> str:
    """Return the text of a key or value without its escapes."""

    def character(match: re.Match[str]) -> str:
        if match[1] is not None:
            return chr(int(match[1], 16))
        return "" if match[2] is not None else _PLAIN.get(match[3], match[3])

    text = _ESCAPE.sub(character, source)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _utf16(character: str) -> list[int]:
    encoded = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(encoded[at : at + 2], "big") for at in range(0, len(encoded), 2)]
