"""pptx: presentations of PowerPoint."""

from collections.abc import Sequence

from nllb.documents.archive import Archive
from nllb.documents.embedded_workbooks import add_workbooks
from nllb.documents.office_package import OfficePackage, is_office_package
from nllb.documents.units import Document, DocumentFormat, FormatOptions
from nllb.documents.xml_parts import NestedEdits, Prepare, Writing, XmlPart
from nllb.documents.xml_spans import XmlElement
from nllb.errors import DocumentError


class PptxFormat(DocumentFormat):
    """Presentations, slide shows and templates of PowerPoint."""

    name = "pptx"
    suffixes = (".pptx", ".pptm", ".potx", ".potm", ".ppsx", ".ppsm")
    keeps = (
        "Text of slides, notes, comments, tables, charts and SmartArt is translated; formatting, "
        "fields, pictures and the data behind charts are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is a presentation."""
        return is_office_package(head, suffix, members, folder="ppt/", suffixes=cls.suffixes)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a presentation."""
        return PptxDocument(Archive(data))


class PptxDocument(OfficePackage):
    """A parsed presentation."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        if not self.named(
            "presentation.main+xml",
            "slideshow.main+xml",
            "template.main+xml",
            "presentation.macroEnabled.main+xml",
            "slideshow.macroEnabled.main+xml",
            "template.macroEnabled.main+xml",
        ):
            raise DocumentError("the file is damaged: it has no main presentation part")
        for name in self.named("presentationml.slide+xml", "presentationml.notesSlide+xml"):
            self._add(name)
        for name in self.named("presentationml.slideLayout+xml", "presentationml.slideMaster+xml"):
            self._add(name, is_template=True)
        for name in self.named("ms-powerpoint.comments+xml"):
            self.add_paragraphs(name)
        for name in self.named("presentationml.comments+xml"):
            part = XmlPart.parse(name, archive.read(name))
            for text in part.tree.root.iter("text"):
                part.add_text(text, note="comment")
            self.parts.append(part)
        self.add_drawings()
        add_workbooks(self)
        self.add_metadata()

    def _add(self, name: str, *, is_template: bool = False) -> None:
        part = self.add_paragraphs(name, skip=_is_placeholder if is_template else None)
        part.prepare = _table_directions(part)

    def finish(self, contents: dict[str, bytes], writing: Writing) -> None:
        """Set the language of the default text style."""
        super().finish(contents, writing)

        def change(edits: NestedEdits, root: XmlElement) -> None:
            for properties in root.iter("defRPr"):
                if "lang" in properties.attributes:
                    edits.set_attribute(properties, "lang", writing.tag)

        for name in self.named("main+xml"):
            self.edit_member(contents, name, change)


def _is_placeholder(element: XmlElement) -> bool:
    """Return whether a shape of a template is only a prompt for text on slides."""
    return element.local == "sp" and next(element.iter("ph"), None) is not None


def _table_directions(part: XmlPart) -> Prepare:
    def prepare(edits: NestedEdits, writing: Writing) -> None:
        for properties in part.tree.root.iter("tblPr"):
            if writing.is_rtl:
                edits.set_attribute(properties, "rtl", "1")
            elif properties.attributes.get("rtl") in {"1", "true"}:
                edits.set_attribute(properties, "rtl", "0")

    return prepare
