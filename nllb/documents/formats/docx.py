"""docx: documents of Word."""

import re
from collections.abc import Sequence
from typing import Final

from nllb.documents.archive import Archive
from nllb.documents.embedded_workbooks import add_workbooks
from nllb.documents.office_package import OfficePackage, is_office_package
from nllb.documents.units import Document, DocumentFormat, FormatOptions
from nllb.documents.word_text import set_default_languages, set_table_direction
from nllb.documents.xml_parts import NestedEdits, Prepare, Writing, XmlPart
from nllb.documents.xml_spans import parse_xml
from nllb.errors import DocumentError

_MAIN: Final = (
    "wordprocessingml.document.main+xml",
    "wordprocessingml.template.main+xml",
    "document.macroEnabled.main+xml",
    "template.macroEnabledTemplate.main+xml",
)
_NUMBER: Final = re.compile("%[1-9]")
_OTHER: Final = tuple(
    f"wordprocessingml.{name}+xml"
    for name in ("header", "footer", "footnotes", "endnotes", "comments")
)


class DocxFormat(DocumentFormat):
    """Word documents and templates."""

    name = "docx"
    suffixes = (".docx", ".docm", ".dotx", ".dotm")
    keeps = (
        "Text of paragraphs, tables, headers, footers, notes, comments, text boxes, charts and "
        "SmartArt is translated; formatting, fields, pictures and tracked deletions are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is a Word document."""
        return is_office_package(head, suffix, members, folder="word/", suffixes=cls.suffixes)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a document."""
        return DocxDocument(Archive(data))


class DocxDocument(OfficePackage):
    """A parsed document."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        main = self.named(*_MAIN)
        if not main:
            raise DocumentError("the file is damaged: it has no main document part")
        for name in [*main, *self.named(*_OTHER)]:
            part = self.add_paragraphs(name)
            part.prepare = _table_directions(part)
            if next(part.tree.root.iter("del"), None) is not None:
                self._warn_of_tracked_changes()
        for name in self.named("wordprocessingml.numbering+xml"):
            self._add_numbering(name)
        self.add_drawings()
        add_workbooks(self)
        self.add_metadata()

    def _add_numbering(self, name: str) -> None:
        """Add the words of numbers, such as `Chapter %1`."""
        part = XmlPart.parse(name, self.archive.read(name))
        for level in part.tree.root.iter("lvl"):
            label, kind = level.find("lvlText"), level.find("numFmt")
            if label is not None and kind is not None and "bullet" not in kind.attributes.values():
                part.add_attribute(
                    label,
                    f"{label.name.removesuffix('lvlText')}val",
                    codes=_NUMBER,
                    note="words of a numbered paragraph",
                )
        self.parts.append(part)

    def _warn_of_tracked_changes(self) -> None:
        text = "the file has tracked changes; deleted text is kept and not translated"
        if text not in self.warnings:
            self.warnings.append(text)

    def finish(self, contents: dict[str, bytes], writing: Writing) -> None:
        """Set the languages of styles and settings."""
        super().finish(contents, writing)
        for name in self.named("wordprocessingml.styles+xml", "wordprocessingml.settings+xml"):
            tree = parse_xml(self.archive.read(name), name=name)
            edits = NestedEdits(tree.data, tree.encoding)
            set_default_languages(edits, tree, writing)
            contents[name] = edits.apply()


def _table_directions(part: XmlPart) -> Prepare:
    def prepare(edits: NestedEdits, writing: Writing) -> None:
        for table in part.tree.root.iter("tbl"):
            set_table_direction(edits, table, writing)

    return prepare
