"""EPUB: books of HTML pages with a table of contents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from posixpath import dirname, join, normpath
from typing import Final
from urllib.parse import unquote

from nllb.documents.archive import Archive
from nllb.documents.office_package import ZipDocument
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment, Unit
from nllb.documents.xml_parts import NestedEdits, Writing, XmlPart
from nllb.documents.xml_spans import XmlElement, parse_xml
from nllb.errors import DocumentError

from .html import HtmlFormat

_CONTAINER: Final = "META-INF/container.xml"
_ENCRYPTION: Final = "META-INF/encryption.xml"
_FONT_ALGORITHMS: Final = frozenset(
    {"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"}
)
_PAGES: Final = frozenset({"application/xhtml+xml", "text/html", "text/x-oeb1-document"})
_METADATA: Final = frozenset({"title", "description", "subject"})


class EpubFormat(DocumentFormat):
    """Books in EPUB 2 and 3."""

    name = "epub"
    suffixes = (".epub",)
    keeps = (
        "Text of chapters, contents and titles is translated; markup, styles, pictures and fonts "
        "are kept, and dc:language and lang are set."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is a book."""
        if _CONTAINER not in members:
            return False
        return b"application/epub+zip" in head or any(name.endswith(".opf") for name in members)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a book."""
        return EpubDocument(Archive(data), options)


class EpubDocument(ZipDocument):
    """A parsed book."""

    def __init__(self, archive: Archive, options: FormatOptions) -> None:
        super().__init__(archive)
        _refuse_encryption(archive)
        self._packages = list(_packages(archive))
        done: set[str] = set()
        for package in self._packages:
            part = XmlPart.parse(package, archive.read(package))
            for element in part.tree.root.iter():
                if element.local in _METADATA and element.name.startswith("dc:"):
                    part.add_text(element, note=element.local)
            self.parts.append(part)
            for name, kind in _items(package, part.tree.root):
                if name in done:
                    continue
                done.add(name)
                if name not in archive:
                    self.warnings.append(f"the book lacks {name}, which its contents refer to")
                elif kind in _PAGES:
                    self.parts.append(HtmlPart(name, archive.read(name), options))
                else:
                    self._add_contents(name)

    def _add_contents(self, name: str) -> None:
        part = XmlPart.parse(name, self.archive.read(name))
        for text in part.tree.root.iter("text"):
            part.add_text(text, note="table of contents")
        self.parts.append(part)

    def finish(self, contents: dict[str, bytes], writing: Writing) -> None:
        """Set the book's language and the direction of its pages."""

        def change(edits: NestedEdits, root: XmlElement) -> None:
            language = next(root.iter("language"), None)
            if language is not None and not language.is_empty_tag:
                edits.replace(language.open_end, language.close_start, writing.tag)
            spine = root.find("spine")
            if spine is not None and root.attributes.get("version", "").startswith("3"):
                direction = "page-progression-direction"
                if writing.is_rtl or direction in spine.attributes:
                    edits.set_attribute(spine, direction, writing.language.direction)

        for package in self._packages:
            self.edit_member(contents, package, change)


class HtmlPart:
    """A page of a book.

    Attributes:
        name: name of the member.
        units: its units.
    """

    def __init__(self, name: str, data: bytes, options: FormatOptions) -> None:
        self.name = name
        try:
            self._page = HtmlFormat.parse(data, options)
        except DocumentError as error:
            raise DocumentError(f"{name}: {error}") from error
        self.units: list[Unit] = [
            replace(unit, key=f"{name}#{unit.key}") for unit in self._page.units
        ]

    def edit(self, changed: Mapping[str, Sequence[Fragment]], writing: Writing) -> bytes | None:
        """Return the page with the changed units; None if nothing changed."""
        own = {
            page_unit.key: changed[unit.key]
            for unit, page_unit in zip(self.units, self._page.units, strict=True)
            if unit.key in changed
        }
        if not own:
            return None
        return self._page.render(own, source=None, target=writing.language)


def _refuse_encryption(archive: Archive) -> None:
    """Reject books with digital rights management; fonts may be obfuscated."""
    if _ENCRYPTION not in archive:
        return
    root = parse_xml(archive.read(_ENCRYPTION), name=_ENCRYPTION).root
    for method in root.iter("EncryptionMethod"):
        if method.attributes.get("Algorithm") not in _FONT_ALGORITHMS:
            raise DocumentError(
                "the book is encrypted (digital rights management): only books without it can be "
                "translated"
            )


def _packages(archive: Archive) -> Iterator[str]:
    root = parse_xml(archive.read(_CONTAINER), name=_CONTAINER).root
    found = False
    for file in root.iter("rootfile"):
        name = unquote(file.attributes.get("full-path", ""))
        if name.endswith(".opf") or "oebps-package" in file.attributes.get("media-type", ""):
            found = True
            yield name
    if not found:
        raise DocumentError(f"the file is damaged: {_CONTAINER} names no package")


def _items(package: str, root: XmlElement) -> Iterator[tuple[str, str]]:
    """Yield the pages in the order of the book, then other pages and the table of contents."""
    items: dict[str, tuple[str, str]] = {}
    for item in root.iter("item"):
        href = unquote(item.attributes.get("href", "").partition("#")[0])
        kind = item.attributes.get("media-type", "")
        if kind in _PAGES or kind == "application/x-dtbncx+xml":
            name = normpath(join(dirname(package), href))
            items[item.attributes.get("id", "")] = name, kind
    for reference in root.iter("itemref"):
        found = items.pop(reference.attributes.get("idref", ""), None)
        if found is not None:
            yield found
    yield from items.values()
