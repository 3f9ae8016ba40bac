"""IDML: documents of InDesign."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from nllb.documents.archive import Archive
from nllb.documents.office_package import ZipDocument
from nllb.documents.passages import Code, Style, StyledPassage, Tag, Text, Token
from nllb.documents.units import CodeKind, Document, DocumentFormat, FormatOptions
from nllb.documents.xml_parts import NestedEdits, Writing, XmlPart
from nllb.documents.xml_spans import XmlElement, XmlOther, XmlText, escape_text
from nllb.errors import DocumentError

_RANGE: Final = "CharacterStyleRange"
_PARAGRAPHS: Final = "ParagraphStyleRange"
_LAYOUT: Final = "\t\u2028"
_IN_TEXT: Final = frozenset("HyperlinkTextSource XMLElement CrossReferenceSource Change".split())


class IdmlFormat(DocumentFormat):
    """InDesign documents in IDML."""

    name = "idml"
    suffixes = (".idml",)
    keeps = (
        "Text of all stories with tables and footnotes is translated; layout, styles, special "
        "characters and languages of InDesign are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is an InDesign document."""
        return "designmap.xml" in members

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a document."""
        return IdmlDocument(Archive(data))


class IdmlDocument(ZipDocument):
    """A parsed document."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        if "designmap.xml" not in archive:
            raise DocumentError("the file is damaged: it lacks designmap.xml")
        for name in archive.names:
            if name.startswith("Stories/") and name.endswith(".xml"):
                part = XmlPart.parse(name, archive.read(name))
                _add_stories(part, part.tree.root)
                part.sort()
                self.parts.append(part)


def _add_stories(part: XmlPart, element: XmlElement) -> None:
    """Add the paragraphs in an element; those in tables and footnotes come first."""
    for child in element.elements:
        _add_stories(part, child)
    if element.local == _PARAGRAPHS:
        for paragraph in _Reader(part, element).paragraphs():
            _add_paragraph(part, element, paragraph)


@dataclass(slots=True)
class _Paragraph:
    """Text up to a line end, in ranges that are siblings."""

    tokens: list[Token] = field(default_factory=list)
    tag_styles: dict[str, Style] = field(default_factory=dict)
    first: XmlElement | None = None
    last: XmlElement | None = None
    start: int = 0
    end: int = 0


class _Reader:
    """Reads a range of paragraphs; a paragraph may begin in one range and end in another."""

    def __init__(self, part: XmlPart, element: XmlElement) -> None:
        self.part, self.element = part, element
        self.done: list[_Paragraph] = []
        self.current = _Paragraph()

    def paragraphs(self) -> list[_Paragraph]:
        self._read(self.element)
        self._finish()
        return self.done

    def _finish(self) -> None:
        if self.current.tokens:
            self.done.append(self.current)
        self.current = _Paragraph()

    def _read(self, element: XmlElement) -> None:
        for child in element.elements:
            if child.local == _RANGE:
                last = self.current.last
                if last is not None and last.parent is not child.parent:
                    self._finish()
                self._range(child)
            elif child.local != "Properties" and not _is_deleted(child):
                self._finish()
                self._read(child)
                self._finish()

    def _range(self, element: XmlElement) -> None:
        tree = self.part.tree
        properties = element.find("Properties")
        key = tree.source(element.start, element.open_end)
        if properties is not None:
            key += tree.source(properties.start, properties.end)
        self._children(element, element, Style(key, element))

    def _children(self, element: XmlElement, run: XmlElement, style: Style) -> None:
        for child in element.elements:
            if child.local == "Properties":
                continue
            if child.local == "Br":
                if element is run:
                    self._finish()
                else:
                    self._add(Code(child.start, child.end, "<Br/>", is_space=True), child, style)
            elif child.local == "Content":
                self._content(child, style)
            elif child.local in _IN_TEXT and _has_only_text(child):
                self._container(child, run, style)
            else:
                label = self.part.tree.source(child.start, child.open_end)
                self._add(Code(child.start, child.end, label, style=style), child, style)

    def _container(self, element: XmlElement, run: XmlElement, style: Style) -> None:
        name, label = (
            f"element {element.start}",
            self.part.tree.source(element.start, element.open_end),
        )
        self.current.tag_styles[name] = style
        begin = element.open_end
        properties = element.find("Properties")
        if properties is not None:
            begin = properties.end
        self._add(Tag(element.start, begin, label, CodeKind.OPEN, name), element, style)
        self._children(element, run, style)
        closing = f"</{element.name}>"
        self._add(
            Tag(element.close_start, element.end, closing, CodeKind.CLOSE, name), element, style
        )

    def _content(self, content: XmlElement, style: Style) -> None:
        for child in content.children:
            if isinstance(child, XmlOther):
                label = self.part.tree.source(child.start, child.end)
                self._add(Code(child.start, child.end, label, style=style), content, style)
            elif isinstance(child, XmlText):
                for token in _text_tokens(child.text, style):
                    self._add(token, content, style)

    def _add(self, token: Token, element: XmlElement, style: Style) -> None:
        current = self.current
        if not current.tokens:
            current.first, current.start = style.run, element.start
        current.tokens.append(token)
        current.last, current.end = style.run, element.end


def _text_tokens(text: str, style: Style) -> Iterator[Token]:
    begin = 0
    for place, character in enumerate(text):
        if character in _LAYOUT:
            if place > begin:
                yield Text(text[begin:place], style)
            yield Code(0, 0, character, style=style, is_space=True)
            begin = place + 1
    if begin < len(text):
        yield Text(text[begin:], style)


def _is_deleted(element: XmlElement) -> bool:
    return element.attributes.get("ChangeType") == "DeletedText"


def _has_only_text(element: XmlElement) -> bool:
    if _is_deleted(element):
        return False
    children = [child for child in element.elements if child.local != "Properties"]
    return bool(children) and all(child.local in {"Content", "Br"} for child in children)


def _add_paragraph(part: XmlPart, element: XmlElement, paragraph: _Paragraph) -> None:
    passage = StyledPassage(paragraph.tokens, key=part.next_key())

    def write(tokens: Sequence[Token], edits: NestedEdits, writing: Writing) -> None:
        edits.replace(paragraph.start, paragraph.end, _source(part, paragraph, tokens, edits))
        if writing.is_rtl:
            edits.set_attribute(element, "ParagraphDirection", "RightToLeftDirection")
        elif element.attributes.get("ParagraphDirection") == "RightToLeftDirection":
            edits.set_attribute(element, "ParagraphDirection", "LeftToRightDirection")

    part.add_passage(passage, paragraph.start, paragraph.end, write)


def _source(
    part: XmlPart, paragraph: _Paragraph, tokens: Sequence[Token], edits: NestedEdits
) -> str:
    """Return the source of a paragraph, from inside its first range to inside its last one."""
    assert paragraph.first is not None and paragraph.last is not None
    parts: list[str] = []
    tree = part.tree
    current = _key(part, paragraph.first)
    depth = 0

    def change_to(run: XmlElement) -> None:
        nonlocal current
        key = _key(part, run)
        if key != current and not depth:
            parts.append(f"</{run.name}>{key}")
            current = key

    for token in tokens:
        if isinstance(token, Tag):
            if token.kind is CodeKind.OPEN:
                change_to(paragraph.tag_styles[token.name].run)
                depth += 1
            else:
                depth -= 1
            parts.append(tree.source(token.start, token.end))
            continue
        if token.style is not None:
            change_to(token.style.run)
        if isinstance(token, Text):
            parts.append(f"<Content>{escape_text(token.text)}</Content>")
        elif token.label in _LAYOUT or token.label.startswith("<?"):
            written = token.label
            parts.append(f"<Content>{written}</Content>")
        else:
            parts.append(edits.read(token.start, token.end))
    assert not depth
    change_to(paragraph.last)
    return "".join(parts)


def _key(part: XmlPart, run: XmlElement) -> str:
    """Return the start of a range, with its tag and its properties."""
    properties = run.find("Properties")
    key = part.tree.source(run.start, run.open_end)
    return key if properties is None else key + part.tree.source(properties.start, properties.end)
