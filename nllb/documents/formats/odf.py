"""OpenDocument: text documents, presentations, spreadsheets and drawings of LibreOffice."""

import re
from collections.abc import Sequence
from html import unescape
from typing import Final

from nllb.documents.archive import Archive
from nllb.documents.odf_languages import with_language
from nllb.documents.odf_text import TEXT, OdfText, looks_of_styles
from nllb.documents.office_package import ZipDocument
from nllb.documents.sheet_text import compared_texts
from nllb.documents.streamed_parts import StreamedPart
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment
from nllb.documents.xml_parts import NestedEdits, Writing, XmlPart
from nllb.documents.xml_spans import XmlElement, xml_encoding
from nllb.errors import DocumentError

_MANIFEST: Final = "META-INF/manifest.xml"
_OBJECT: Final = re.compile(r"(?:[^/]+/)?(?:content|styles)\.xml")
_FORMULA: Final = re.compile(r'(?<!\w)\w+:(?:formula|condition|value)="([^"]*&quot;[^"]*)"')
_SKIPPED: Final = frozenset({"tracked-changes", "automatic-styles", "font-face-decls"})
_METADATA: Final = frozenset({"title", "subject", "description"})


class OdfFormat(DocumentFormat):
    """OpenDocument files and templates."""

    name = "odf"
    suffixes = (".odt", ".ott", ".odp", ".otp", ".ods", ".ots", ".odg", ".otg")
    keeps = (
        "Text of paragraphs, tables, headers, footers, notes, comments, shapes and charts is "
        "translated; formatting, fields, formulas, pictures and tracked deletions are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is an OpenDocument file."""
        is_package = "mimetype" in members or _MANIFEST in members
        return is_package and ("content.xml" in members or "styles.xml" in members)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a file."""
        return OdfDocument(Archive(data))


class OdfDocument(ZipDocument):
    """A parsed file."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        if _MANIFEST in archive and b"encryption-data" in archive.read(_MANIFEST):
            raise DocumentError("the file is encrypted: save it without a password")
        self._warn()
        self._looks: dict[str, str] = {}
        self._kept: set[str] = set()
        names = [name for name in archive.names if _OBJECT.fullmatch(name)]
        for name in sorted(names, key=lambda name: (name != "content.xml", name.count("/"))):
            self._add(name)
        if "meta.xml" in archive:
            part = XmlPart.parse("meta.xml", archive.read("meta.xml"))
            for element in part.tree.root.iter():
                if element.local in _METADATA:
                    part.add_text(element, note=element.local)
            self.parts.append(part)

    def _warn(self) -> None:
        names = self.archive.names
        if any(name.startswith(("Basic/", "Scripts/")) for name in names):
            self.warnings.append("the file has macros, which are kept unchanged; do not trust them")
        if "META-INF/documentsignatures.xml" in names:
            self.warnings.append("the file's digital signature does not match the translation")

    def _add(self, name: str) -> None:
        data = self.archive.read(name)
        source = data.decode(xml_encoding(data), "replace")
        if "<text:tracked-changes" in source:
            self.warnings.append("the file has tracked changes; deleted text is not translated")
        for match in _FORMULA.finditer(source):
            self._kept.update(compared_texts(unescape(match[1]).replace('";"', '","')))
        looks: dict[str, str] = {}
        collector = _Collector(OdfText(lambda style: looks.get(style, style)), self._kept)

        def wanted(element: XmlElement) -> bool:
            return element.local in {"automatic-styles", "styles"} or collector.is_wanted(element)

        def collect(part: XmlPart, element: XmlElement) -> None:
            if element.local in {"automatic-styles", "styles"}:
                root = XmlElement("", "root", {}, 0, 0, children=[element])
                looks.update(looks_of_styles(root))
            else:
                collector.visit(part, element)

        self.parts.append(StreamedPart(name, data, wanted, collect))

    def finish(self, contents: dict[str, bytes], writing: Writing) -> None:
        """Set the languages and directions of styles, and the language of the file."""

        def metadata(edits: NestedEdits, root: XmlElement) -> None:
            for element in root.iter("language"):
                if not element.is_empty_tag:
                    edits.replace(element.open_end, element.close_start, writing.tag)

        if "meta.xml" in self.archive:
            self.edit_member(contents, "meta.xml", metadata)
        for part in self.parts:
            if part.name != "meta.xml":
                data = contents.get(part.name) or self.archive.read(part.name)
                contents[part.name] = with_language(data, writing)


class _Collector:
    """Finds the paragraphs of a part."""

    def __init__(self, dialect: OdfText, kept: set[str]) -> None:
        self.dialect, self.kept = dialect, kept

    def is_wanted(self, element: XmlElement) -> bool:
        """Return whether an element is a paragraph or contains paragraphs."""
        if not self._is_paragraph(element) and element.local not in {"table-cell", "title", "desc"}:
            return False
        around = element.parent
        while around is not None:
            if around.local in _SKIPPED:
                return False
            around = around.parent
        return True

    def _is_paragraph(self, element: XmlElement) -> bool:
        return element.local in {"p", "h"} and element.namespace == TEXT

    def visit(self, part: XmlPart, element: XmlElement) -> None:
        """Add the paragraphs in an element, inner paragraphs first."""
        if element.local == "table-cell" and _attribute(element, "formula"):
            return
        for child in element.elements:
            if child.local not in _SKIPPED:
                self.visit(part, child)
        if self._is_paragraph(element):
            if element.text_content().strip() not in self.kept:
                part.add_paragraph(element, self.dialect)
        elif element.local in {"title", "desc"} and element.name.startswith("svg:"):
            part.add_text(element, note="alternative text of a picture")
        elif element.local == "table-cell" and _attribute(element, "string-value"):
            _write_values(part, element)


def _write_values(part: XmlPart, cell: XmlElement) -> None:
    """Update the value of a cell to its translated text."""
    places = part.places
    paragraphs = [child for child in cell.elements if child.local == "p"]
    own = [place for place in places if place.start in {each.start for each in paragraphs}]
    name = next(n for n in _names_as_written(part, cell) if n.endswith(":string-value"))
    if len(paragraphs) != 1 or len(own) != 1:
        return
    inner = own[0].apply

    def apply(fragments: Sequence[Fragment], edits: NestedEdits, writing: Writing) -> None:
        inner(fragments, edits, writing)
        text = "".join(each if isinstance(each, str) else each.text or "" for each in fragments)
        edits.set_attribute(cell, name, text)

    own[0].apply = apply


def _names_as_written(part: XmlPart, element: XmlElement) -> list[str]:
    tag = part.tree.source(element.start, element.open_end)
    return re.findall(r"([\w.:-]+)\s*=", tag)


def _attribute(element: XmlElement, local: str) -> str:
    for name, value in element.attributes.items():
        if name.rpartition("}")[2] == local:
            return value
    return ""
