"""Rich text in workbooks: `si`, `is` and `text` with plain text or runs."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from .passages import Code, Style, Tag, Text, Token
from .xml_parts import NestedEdits, Writing
from .xml_spans import XmlElement, XmlTree, escape_text

_ESCAPE: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_LITERAL: Final = re.compile(r'"((?:[^"]|"")*)"')
_COLUMN: Final = re.compile(r"\[([^\[\]]+)\]")
_WRITTEN_ESCAPE: Final = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)|\r")


class SheetText:
    """Reads and writes the texts of one part."""

    def content(self, paragraph: XmlElement) -> tuple[int, int]:
        """Return the start and end of the text, including its runs and phonetic guides."""
        inside = [child for child in paragraph.elements if child.local in {"t", "r", "rPh"}]
        if not inside:
            return paragraph.open_end, paragraph.open_end
        return inside[0].start, inside[-1].end

    def tokens(self, paragraph: XmlElement, tree: XmlTree) -> Sequence[Token]:
        """Return the content without phonetic guides, which only match the original text."""
        tokens: list[Token] = []
        for child in paragraph.elements:
            if child.local == "t":
                tokens.append(Text(shown_text(child), Style("", child)))
            elif child.local == "r" and (text := child.find("t")) is not None:
                properties = child.find("rPr")
                key = "" if properties is None else tree.source(properties.start, properties.end)
                tokens.append(Text(shown_text(text), Style(key, child)))
        return tokens

    def write(
        self, tokens: Sequence[Token], edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> str:
        """Return the source of runs, or of plain text if no text has properties."""
        texts = [token for token in tokens if isinstance(token, Text)]
        assert not any(isinstance(token, Code | Tag) for token in tokens)
        if len(texts) == 1 and texts[0].style is not None and texts[0].style.run.local == "t":
            return _text_source(texts[0].text, texts[0].style.run.name)
        parts: list[str] = []
        for token in texts:
            assert token.style is not None
            run = token.style.run
            prefix = run.name.removesuffix(run.local)
            text = _text_source(token.text, f"{prefix}t")
            parts.append(f"<{prefix}r>{token.style.key}{text}</{prefix}r>")
        return "".join(parts)

    def adapt(
        self, paragraph: XmlElement, edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> None:
        """Do nothing, because workbooks do not store the language of a text."""


def shown_text(element: XmlElement) -> str:
    """Return text with its escapes, such as `_x000D_`, resolved."""
    text = element.text_content()
    if "_x" not in text:
        return text
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


def compared_texts(formula: str) -> Iterator[str]:
    """Yield the texts and the table columns that a formula compares or refers to."""
    for match in _LITERAL.finditer(formula):
        text = match[1].replace('""', '"').strip()
        yield text
        yield from (part.strip() for part in text.split(","))  # a list of valid values
    for match in _COLUMN.finditer(formula):
        yield match[1].lstrip("@#").strip()


def _text_source(text: str, name: str) -> str:
    escaped = escape_text(
        _WRITTEN_ESCAPE.sub(lambda match: "_x000D_" if match[0] == "\r" else "_x005F_", text)
    )
    space = ' xml:space="preserve"' if text != text.strip() or "\n" in text else ""
    return f"<{name}{space}>{escaped}</{name}>"
