"""Paragraphs of OpenDocument: `text:p` and `text:h` with spans, links, notes and fields."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from .passages import Code, Style, Tag, Text, Token
from .units import CodeKind
from .xml_parts import NestedEdits, Writing
from .xml_spans import XmlElement, XmlText, XmlTree, escape_text

TEXT: Final = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"
STYLE: Final = "urn:oasis:names:tc:opendocument:xmlns:style:1.0"
FO: Final = "urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0"
_OFFICE: Final = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
_CONTAINERS: Final = frozenset({"a", "meta"})
_MARKS: Final = {
    "bookmark-start": (CodeKind.OPEN, "bookmark"),
    "bookmark-end": (CodeKind.CLOSE, "bookmark"),
    "reference-mark-start": (CodeKind.OPEN, "reference"),
    "reference-mark-end": (CodeKind.CLOSE, "reference"),
    "change-start": (CodeKind.OPEN, "change"),
    "change-end": (CodeKind.CLOSE, "change"),
    "annotation": (CodeKind.OPEN, "annotation"),
    "annotation-end": (CodeKind.CLOSE, "annotation"),
}
_NAMES: Final = (f"{{{TEXT}}}name", f"{{{TEXT}}}change-id", f"{{{_OFFICE}}}name")
_SPACES: Final = frozenset({"tab", "line-break"})
_HIDDEN: Final = frozenset("note frame custom-shape annotation hidden-text script".split())
"""Elements whose text is displayed elsewhere or not at all."""
_INVISIBLE: Final = re.compile(
    r"rsid|^\{[^}]*\}(?:language|country|script|rfc-language-tag)(?:-asian|-complex)?$"
)
_WHITE: Final = re.compile(r"[ \t\r\n]+")
_WRITTEN: Final = re.compile(r"\n|\t|  +|^ | $")

Look = Callable[[str], str]
"""Returns the appearance of a text style by its name; equal results look equal."""


class OdfText:
    """Reads and writes the paragraphs of one part."""

    def __init__(self, look: Look) -> None:
        self.look = look

    def content(self, paragraph: XmlElement) -> tuple[int, int]:
        """Return the start and end of the paragraph's content."""
        return paragraph.open_end, paragraph.close_start

    def tokens(self, paragraph: XmlElement, tree: XmlTree) -> Sequence[Token]:
        """Return the content of a paragraph."""
        reader = _Reader(self.look, tree)
        reader.read(paragraph, Style("", paragraph))
        return reader.tokens

    def write(
        self, tokens: Sequence[Token], edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> str:
        """Return the source of spans and of the content between them."""
        parts: list[str] = []
        current: Style | None = None

        def close() -> None:
            nonlocal current
            if current is not None:
                parts.extend(f"</{span.name}>" for span in reversed(self._spans(current)))
            current = None

        for token in tokens:
            style = None if isinstance(token, Tag) else token.style
            if style is None or current is None or style.key != current.key:
                close()
                current = style
                if style is not None:
                    parts += (tree.source(e.start, e.open_end) for e in self._spans(style))
            if isinstance(token, Text):
                prefix = _prefix(token.style)
                parts.append(_text_source(token.text, prefix))
            else:
                parts.append(edits.read(token.start, token.end))
        close()
        return "".join(parts)

    def _spans(self, style: Style) -> list[XmlElement]:
        """Return the nested spans of a style, from the outermost to the innermost."""
        spans: list[XmlElement] = []
        element: XmlElement | None = style.run
        while element is not None and element.local not in {"p", "h"}:
            if element.local == "span" and self.look(_style_name(element)):
                spans.append(element)
            element = element.parent
        return spans[::-1]

    def adapt(
        self, paragraph: XmlElement, edits: NestedEdits, tree: XmlTree, writing: Writing
    ) -> None:
        """Do nothing: styles have the language and the direction."""


@dataclass(slots=True)
class _Reader:
    """Reads the content of one paragraph."""

    look: Look
    tree: XmlTree
    tokens: list[Token] = field(default_factory=list)
    ends_blank: bool = True
    """Whether white space that follows is not displayed."""

    def read(self, parent: XmlElement, style: Style) -> None:
        for child in parent.children:
            if isinstance(child, XmlText):
                text = _WHITE.sub(" ", child.text)
                if self.ends_blank:
                    text = text.removeprefix(" ")
                self._text(text, style)
                self.ends_blank = text.endswith(" ") or (self.ends_blank and not text)
            elif isinstance(child, XmlElement):
                self._element(child, style)

    def _text(self, text: str, style: Style) -> None:
        if text:
            self.tokens.append(Text(text, style))

    def _element(self, element: XmlElement, style: Style) -> None:
        local = element.local
        label = self.tree.source(element.start, element.open_end)
        if local == "span":
            inner = style
            if look := self.look(_style_name(element)):
                inner = Style(f"{style.key}<{look}>", element)
            self.read(element, inner)
        elif local == "s":
            count = element.attributes.get(f"{{{TEXT}}}c", "1")
            self._text(" " * min(int(count) if count.isdecimal() else 1, 1000), style)
            self.ends_blank = False
        elif local == "soft-page-break":
            return
        elif local in _CONTAINERS and not element.is_empty_tag:
            name = f"element {element.start}"
            self.tokens.append(Tag(element.start, element.open_end, label, CodeKind.OPEN, name))
            self.read(element, style)
            closing = f"</{element.name}>"
            self.tokens.append(Tag(element.close_start, element.end, closing, CodeKind.CLOSE, name))
        elif local in _MARKS and (found := self._name(element)):
            kind, what = _MARKS[local]
            name = f"{what} {found}"
            self.tokens.append(Tag(element.start, element.end, label, kind, name, is_mark=True))
        else:
            shown = None if local in _HIDDEN else _shown(element).strip() or None
            is_space = local in _SPACES
            self.tokens.append(
                Code(element.start, element.end, label, shown, style, is_space=is_space)
            )
            self.ends_blank = is_space

    def _name(self, element: XmlElement) -> str:
        return next((element.attributes[n] for n in _NAMES if n in element.attributes), "")


def _shown(element: XmlElement) -> str:
    base = element.find("ruby-base")
    return (base or element).text_content()


def _style_name(span: XmlElement) -> str:
    return span.attributes.get(f"{{{TEXT}}}style-name", "")


def _prefix(style: Style | None) -> str:
    assert style is not None
    return style.run.name.removesuffix(style.run.local)


def _text_source(text: str, prefix: str) -> str:
    parts: list[str] = []
    done = 0
    for match in _WRITTEN.finditer(text):
        parts.append(escape_text(text[done : match.start()]))
        done = match.end()
        blanks = match[0]
        if blanks == "\n":
            parts.append(f"<{prefix}line-break/>")
        elif blanks == "\t":
            parts.append(f"<{prefix}tab/>")
        elif len(blanks) == 1:
            parts.append(" ")
        else:
            count = len(blanks) - 1
            parts.append(f' <{prefix}s text:c="{count}"/>'.replace("text:c", f"{prefix}c"))
    return "".join([*parts, escape_text(text[done:])])


def looks_of_styles(root: XmlElement) -> Iterator[tuple[str, str]]:
    """Yield the text styles of a file with the appearance of each."""
    for group in root.elements:
        if group.local not in {"automatic-styles", "styles"}:
            continue
        for style in group.elements:
            if style.attributes.get(f"{{{STYLE}}}family") != "text":
                continue
            name = style.attributes.get(f"{{{STYLE}}}name", "")
            if group.local == "styles":
                yield name, name
                continue
            parent = style.attributes.get(f"{{{STYLE}}}parent-style-name", "")
            visible = sorted(
                f"{key}={value}"
                for properties in style.elements
                for key, value in properties.attributes.items()
                if not _INVISIBLE.search(key)
            )
            inner = any(True for properties in style.elements for _ in properties.elements)
            yield name, " ".join([parent, *visible, name if inner else ""]).strip()
