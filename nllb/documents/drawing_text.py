"""Paragraphs of DrawingML (`a:p`) in slides, shapes, charts and SmartArt of all Office files."""

import re
from collections.abc import Sequence
from typing import Final

from .passages import Code, Style, Tag, Text, Token
from .xml_parts import NestedEdits, Writing
from .xml_spans import XmlElement, XmlTree, escape_attribute, escape_text

NAMESPACES: Final = frozenset(
    {
        "http://schemas.openxmlformats.org/drawingml/2006/main",
        "http://purl.oclc.org/ooxml/drawingml/main",
    }
)
_INVISIBLE: Final = re.compile(
    r"\s(?:lang|altLang|noProof|dirty|err|smtClean|smtId|bmk)\s*=\s*(?:\"[^\"]*\"|'[^']*')"
)
_LANGUAGE: Final = re.compile(r"(\slang\s*=\s*)(?:\"[^\"]*\"|'[^']*')")
_STATE: Final = re.compile(r"\s(?:dirty|err)\s*=\s*(?:\"[^\"]*\"|'[^']*')")


class DrawingText:
    """Reads and writes the paragraphs of one part."""

    def __init__(self) -> None:
        self._styles: dict[str, Style] = {}

    def content(self, paragraph: XmlElement) -> tuple[int, int]:
        """Return the start and end of the content, without the paragraph's properties."""
        start, end = paragraph.open_end, paragraph.close_start
        for child in paragraph.elements:
            if child.local == "pPr":
                start = child.end
            elif child.local == "endParaRPr":
                end = child.start
        return start, end

    def tokens(self, paragraph: XmlElement, tree: XmlTree) -> Sequence[Token]:
        """Return the content of a paragraph."""
        tokens: list[Token] = []
        for child in paragraph.elements:
            if child.local in {"pPr", "endParaRPr"}:
                continue
            text = child.find("t")
            if child.local == "r" and text is not None:
                tokens.append(Text(_shown_text(text), self._style(child, tree)))
                continue
            shown = text.text_content() if child.local == "fld" and text is not None else None
            label = tree.source(child.start, child.open_end)
            tokens.append(Code(child.start, child.end, label, shown, is_space=child.local == "br"))
        return tokens

    def _style(self, run: XmlElement, tree: XmlTree) -> Style:
        properties = run.find("rPr")
        source = "" if properties is None else tree.source(properties.start, properties.end)
        known = self._styles.get(source)
        if known is None:
            tag, tag_end, rest = source.partition(">")
            key = _INVISIBLE.sub("", tag).removesuffix("/").rstrip() + tag_end + rest
            name = "" if properties is None else properties.name
            plain = {f"<{name}>", f"<{name}></{name}>"}
            known = self._styles[source] = Style("" if key in plain else key, run)
        return known

    def write(
        self, tokens: Sequence[Token], edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> str:
        """Return the source of runs."""
        parts: list[str] = []
        for token in tokens:
            if not isinstance(token, Text):
                assert not isinstance(token, Tag)
                parts.append(edits.read(token.start, token.end))
                continue
            assert token.style is not None
            run = token.style.run
            prefix = run.name.removesuffix("r")
            properties = self._properties(run, tree, prefix, writing)
            for number, line in enumerate(token.text.split("\n")):
                if number:
                    parts.append(f"<{prefix}br>{properties}</{prefix}br>")
                if line:
                    parts.append(
                        f"<{run.name}>{properties}<{prefix}t>{escape_text(line)}</{prefix}t>"
                        f"</{run.name}>"
                    )
        return "".join(parts)

    def _properties(self, run: XmlElement, tree: XmlTree, prefix: str, writing: Writing) -> str:
        properties = run.find("rPr")
        if properties is None:
            return f'<{prefix}rPr lang="{escape_attribute(writing.tag)}"/>'
        return with_language(tree.source(properties.start, properties.end), writing)

    def adapt(
        self, paragraph: XmlElement, edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> None:
        """Set the direction of a translated paragraph, and the language of its end."""
        ending = paragraph.find("endParaRPr")
        if ending is not None:
            edits.set_attribute(ending, "lang", writing.tag)
        properties = paragraph.find("pPr")
        if properties is None:
            if writing.is_rtl:
                prefix = paragraph.name.removesuffix("p")
                place = paragraph.open_end
                edits.replace(place, place, f'<{prefix}pPr algn="r" rtl="1"/>')
            return
        was_rtl = properties.attributes.get("rtl") in {"1", "true"}
        if writing.is_rtl and not was_rtl:
            if properties.attributes.get("algn", "l") == "l":
                edits.set_attribute(properties, "algn", "r")
            edits.set_attribute(properties, "rtl", "1")
        elif was_rtl and not writing.is_rtl:
            if properties.attributes.get("algn") == "r":
                edits.set_attribute(properties, "algn", "l")
            edits.set_attribute(properties, "rtl", "0")


def with_language(source: str, writing: Writing) -> str:
    """Return run properties with the language of a translation."""
    tag, tag_end, rest = source.partition(">")
    tag, count = _LANGUAGE.subn(rf'\g<1>"{escape_attribute(writing.tag)}"', _STATE.sub("", tag))
    if not count:
        name = re.match(r"<[^\s/>]+", tag)
        assert name is not None
        tag = f'{name[0]} lang="{escape_attribute(writing.tag)}"{tag[name.end() :]}'
    return tag + tag_end + rest


def _shown_text(element: XmlElement) -> str:
    return element.text_content().replace("\v", "\n")
