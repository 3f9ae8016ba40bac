"""Office files: the parts of a package by content type, and the paragraphs in them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Final

from nllb.languages import Language

from .archive import OLE_MAGIC, Archive
from .drawing_text import NAMESPACES as DRAWING
from .drawing_text import DrawingText
from .units import Document, Fragment, Unit
from .word_text import NAMESPACES as WORD
from .word_text import WordText
from .xml_parts import NestedEdits, Part, Writing, XmlPart, changed_units
from .xml_spans import XmlElement, parse_xml

CONTENT_TYPES: Final = "[Content_Types].xml"
_METADATA: Final = frozenset({"title", "subject", "description"})
Skip = Callable[[XmlElement], bool]


class ZipDocument(Document):
    """A document of XML parts in a zip archive."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.parts: list[Part] = []
        self.warnings: list[str] = []

    @cached_property
    def _units(self) -> Sequence[Unit]:
        return [unit for part in self.parts for unit in part.units]

    @property
    def units(self) -> Sequence[Unit]:
        """The units to translate, part by part."""
        return self._units

    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return the file with translated units; without changed units, it is kept unchanged."""
        changed = changed_units(self.units, translations)
        if not changed:
            return self.archive.data
        writing = Writing(target)
        contents: dict[str, bytes] = {}
        for part in self.parts:
            edited = part.edit(changed, writing)
            if edited is not None:
                contents[part.name] = edited
        self.finish(contents, writing)
        return self.archive.replace(contents)

    def finish(self, contents: dict[str, bytes], writing: Writing) -> None:
        """Change further members of a translated file, such as its styles."""

    def edit_member(
        self,
        contents: dict[str, bytes],
        name: str,
        change: Callable[[NestedEdits, XmlElement], None],
    ) -> None:
        """Edit a member, which may already have been edited."""
        tree = parse_xml(contents.get(name) or self.archive.read(name), name=name)
        edits = NestedEdits(tree.data, tree.encoding)
        change(edits, tree.root)
        contents[name] = edits.apply()


class OfficePackage(ZipDocument):
    """The common base of docx, pptx and xlsx files.

    Attributes:
        types: the content type of each part, by member name.
    """

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        self.types = _content_types(archive)
        if any("vbaProject" in name or "macroEnabled" in kind for name, kind in self.types.items()):
            self.warnings.append("the file has macros, which are kept unchanged; do not trust them")
        if any(name.startswith("_xmlsignatures/") for name in archive.names):
            self.warnings.append("the file's digital signature does not match the translation")

    def named(self, *endings: str) -> list[str]:
        """Return the parts whose content type ends in one of `endings`, in order."""
        return [name for name, kind in self.types.items() if kind.endswith(endings)]

    def add_paragraphs(self, name: str, *, skip: Skip | None = None) -> XmlPart:
        """Add a part with paragraphs of WordprocessingML or DrawingML."""
        part = XmlPart.parse(name, self.archive.read(name))
        _Collector(part, skip).visit(part.tree.root, ())
        part.sort()
        self.parts.append(part)
        return part

    def add_drawings(self) -> None:
        """Add charts and SmartArt."""
        for name in self.named(
            "drawingml.chart+xml",
            "diagramData+xml",
            "diagramDrawing+xml",
            "drawingml.chartshapes+xml",
        ):
            part = self.add_paragraphs(name)
            for cache in part.tree.root.iter("strCache"):
                for value in cache.iter("v"):
                    part.add_text(value, note="label of a chart")

    def add_metadata(self) -> None:
        """Add title, subject and description of the file."""
        for name in self.named("core-properties+xml"):
            part = XmlPart.parse(name, self.archive.read(name))
            for element in part.tree.root.elements:
                if element.local in _METADATA:
                    part.add_text(element, note=element.local)
            self.parts.append(part)

    def finish(self, contents: dict[str, bytes], writing: Writing) -> None:
        """Set the language in the file's properties."""

        def change(edits: NestedEdits, root: XmlElement) -> None:
            language = root.find("language")
            if language is not None and not language.is_empty_tag:
                edits.replace(language.open_end, language.close_start, writing.tag)

        for name in self.named("core-properties+xml"):
            self.edit_member(contents, name, change)


class _Collector:
    """Finds the paragraphs and alternative texts of a part."""

    def __init__(self, part: XmlPart, skip: Skip | None) -> None:
        self.part, self.skip = part, skip
        self.word, self.drawing = WordText(), DrawingText()

    def visit(self, element: XmlElement, repeats: Sequence[Unit]) -> list[Unit]:
        """Add the content of an element, and return its units; a fallback may repeat units."""
        if self.skip is not None and self.skip(element):
            return []
        found: list[Unit] = []
        for child in element.elements:
            fallback = element.local == "AlternateContent" and child.local == "Fallback"
            found += self.visit(child, [*repeats, *found] if fallback else repeats)
        dialect: WordText | DrawingText | None = None
        if element.local == "p":
            if element.namespace in WORD:
                dialect = self.word
            elif element.namespace in DRAWING:
                dialect = self.drawing
        if dialect is not None:
            unit = self.part.add_paragraph(element, dialect, repeats=repeats)
            if unit is not None:
                found.append(unit)
        elif element.local in {"docPr", "cNvPr"}:
            for name in ("title", "descr"):
                if " " in element.attributes.get(name, "").strip():
                    self.part.add_attribute(element, name, note="alternative text of a picture")
        return found


def _content_types(archive: Archive) -> dict[str, str]:
    root = parse_xml(archive.read(CONTENT_TYPES), name=CONTENT_TYPES).root
    defaults: dict[str, str] = {}
    overrides: dict[str, str] = {}
    for element in root.elements:
        kind = element.attributes.get("ContentType", "")
        if element.local == "Default":
            defaults[element.attributes.get("Extension", "").lower()] = kind
        elif element.local == "Override":
            overrides[element.attributes.get("PartName", "").lstrip("/")] = kind
    return {
        name: overrides.get(name) or defaults.get(name.rpartition(".")[2].lower(), "")
        for name in archive.names
    }


def is_office_package(
    head: bytes, suffix: str, members: Sequence[str], *, folder: str, suffixes: tuple[str, ...]
) -> bool:
    """Return whether a file is an Office package with a folder, or encrypted with a suffix."""
    if head.startswith(OLE_MAGIC):
        return suffix in suffixes
    return CONTENT_TYPES in members and any(name.startswith(folder) for name in members)
