"""xlsx: workbooks of Excel."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import unescape
from itertools import pairwise
from typing import Final

from nllb.documents.archive import Archive
from nllb.documents.office_package import OfficePackage, is_office_package
from nllb.documents.sheet_text import SheetText, compared_texts, shown_text
from nllb.documents.streamed_parts import StreamedPart
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment
from nllb.documents.xml_parts import NestedEdits, Writing, XmlPart, changed_units
from nllb.documents.xml_spans import XmlElement, parse_xml, xml_encoding
from nllb.errors import DocumentError
from nllb.languages import Language

_FORMULA: Final = re.compile(
    r"<(?:\w+:)?(?:f|formula|formula1|formula2|definedName|calculatedColumnFormula)"
    r"(?:\s[^<>]*)?>([^<]*)<"
)
_FILTER: Final = re.compile(r'<(?:\w+:)?(?:filter|customFilter)\s[^<>]*?\bval="([^"]*)"')
_FIELD: Final = re.compile(r'<(?:\w+:)?cacheField\s[^<>]*?\bname="([^"]*)"')
_SHEET_VIEW: Final = re.compile(rb"<(?:\w+:)?sheetView\b[^<>]*>")
_RIGHT_TO_LEFT: Final = re.compile(rb'\srightToLeft\s*=\s*(?:"[^"]*"|\'[^\']*\')')


_MESSAGES: Final = ("promptTitle", "prompt", "errorTitle", "error")
_MARGINS: Final = frozenset(
    "oddHeader oddFooter evenHeader evenFooter firstHeader firstFooter".split()
)
_HAS_TEXT: Final = re.compile(
    rb"inlineStr|\s(?:prompt|error)(?:Title)?=|<(?:\w+:)?(?:odd|even|first)(?:Header|Footer)"
)
_SECTION: Final = re.compile(r"&amp;[LCR]")
_MARGIN_CODE: Final = re.compile(r'&(?:"[^"]*"|K[0-9A-Fa-f]{6}|K\d\d[+-]\d{3}|\d+|[A-Z&])')


class XlsxFormat(DocumentFormat):
    """Workbooks and templates of Excel."""

    name = "xlsx"
    suffixes = (".xlsx", ".xlsm", ".xltx", ".xltm")
    keeps = (
        "Text of cells, comments, shapes and charts is translated; formulas, sheet names, numbers "
        "and texts that formulas, filters or pivot tables compare are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is a workbook."""
        return is_office_package(head, suffix, members, folder="xl/", suffixes=cls.suffixes)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a workbook."""
        return XlsxDocument(Archive(data))


class XlsxDocument(OfficePackage):
    """A parsed workbook."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(archive)
        if not self.named("sheet.main+xml", "template.main+xml", "macroEnabled.main+xml"):
            raise DocumentError("the file is damaged: it has no workbook part")
        self._sheets = self.named("spreadsheetml.worksheet+xml")
        self._tables = self.named("spreadsheetml.table+xml")
        self._kept_texts: set[str] = set()
        self._has_text_results = False
        self._find_compared()
        self._num_kept = 0
        text = SheetText()

        def collect(part: XmlPart, element: XmlElement) -> None:
            if element.local == "dataValidation":
                for name in _MESSAGES:
                    part.add_attribute(element, name, note="message for an entry")
                return
            if element.local in _MARGINS:
                _add_margin(part, element)
                return
            plain = "".join(map(shown_text, _texts(element))).strip()
            if plain in self._kept_texts:
                self._num_kept += 1
            else:
                part.add_paragraph(element, text, preserve_layout="\n" in plain)

        for name in self.named("spreadsheetml.sharedStrings+xml"):
            data = archive.read(name)
            self.parts.append(StreamedPart(name, data, lambda each: each.local == "si", collect))
        for name in self._sheets:
            data = archive.read(name)
            if _HAS_TEXT.search(data):
                self.parts.append(StreamedPart(name, data, _is_sheet_text, collect))
        if self._num_kept:
            self.warnings.append(
                f"{self._num_kept} texts are kept, because formulas, filters or pivot tables "
                "compare them"
            )
        self._add_comments(text)
        for name in self.named("officedocument.drawing+xml"):
            self.add_paragraphs(name)
        self.add_drawings()
        self.add_metadata()

    def _add_comments(self, text: SheetText) -> None:
        for name in self.named("spreadsheetml.comments+xml", "threadedcomments+xml"):
            part = XmlPart.parse(name, self.archive.read(name))
            for element in part.tree.root.iter("text"):
                if any(True for _ in element.elements):
                    part.add_paragraph(element, text, note="comment")
                else:
                    part.add_text(element, note="comment")
            self.parts.append(part)

    def _find_compared(self) -> None:
        """Find the texts that formulas, validations, filters and pivot tables compare."""
        pivots = self.named("pivotCacheDefinition+xml")
        for name in [*self._sheets, *self._tables, *pivots, *self.named("main+xml")]:
            data = self.archive.read(name)
            source = data.decode(xml_encoding(data), "replace")
            self._has_text_results |= 't="str"' in source
            for match in _FORMULA.finditer(source):
                if '"' in match[1] or "[" in match[1] or "&quot;" in match[1]:
                    self._kept_texts.update(compared_texts(unescape(match[1])))
            for pattern in (_FILTER, _FIELD):
                self._kept_texts.update(unescape(match[1]) for match in pattern.finditer(source))
        self._kept_texts.discard("")

    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return the workbook with translated units."""
        changed = changed_units(self.units, translations)
        columns = self._column_names(changed)
        if not changed:
            return self.archive.data
        self._renamed = columns
        return super().render(changed, source=source, target=target)

    def _column_names(self, changed: dict[str, Sequence[Fragment]]) -> dict[str, str]:
        """Return the new names of table columns, and omit header cells that would clash.

        A table is damaged if the name of a column differs from the text of its header cell, or if
        two columns have the same name.
        """
        tables = [self._columns(name) for name in self._tables]
        names = {name for table in tables for name in table}
        keys: dict[str, list[str]] = {}
        for unit in self.units:
            if unit.key in changed and unit.text in names:
                keys.setdefault(unit.text, []).append(unit.key)
        new = {name: {_plain(changed[key]) for key in found} for name, found in keys.items()}
        clashing = {name for name, texts in new.items() if len(texts) > 1 or "\n" in min(texts)}
        renamed = {name: min(texts) for name, texts in new.items()}
        while True:
            for table in tables:
                current = {n: n if n in clashing else renamed.get(n, n) for n in table}
                count = Counter(text.casefold() for text in current.values())
                again = {n for n, text in current.items() if count[text.casefold()] > 1}
                if not again <= clashing:
                    clashing |= again
                    break
            else:
                break
        for name in clashing & keys.keys():
            for key in keys[name]:
                del changed[key]
        return {name: text for name, text in renamed.items() if name not in clashing}

    def _columns(self, name: str) -> list[str]:
        root = parse_xml(self.archive.read(name), name=name).root
        return [column.attributes.get("name", "") for column in root.iter("tableColumn")]

    def finish(self, contents: dict[str, bytes], writing: Writing) -> None:
        """Rename table columns, and set the direction of sheets."""
        super().finish(contents, writing)

        def rename(edits: NestedEdits, root: XmlElement) -> None:
            for column in root.iter("tableColumn"):
                new = self._renamed.get(column.attributes.get("name", ""))
                if new is not None:
                    edits.set_attribute(column, "name", new)

        def recalculate(edits: NestedEdits, root: XmlElement) -> None:
            calculation = root.find("calcPr")
            if calculation is not None:
                edits.set_attribute(calculation, "fullCalcOnLoad", "1")

        for name in self._tables:
            self.edit_member(contents, name, rename)
        if self._has_text_results:
            for name in self.named("main+xml"):
                self.edit_member(contents, name, recalculate)
        for name in self._sheets:
            data = contents.get(name) or self.archive.read(name)
            contents[name] = _with_direction(data, is_rtl=writing.is_rtl)


def _is_sheet_text(element: XmlElement) -> bool:
    return element.local in {"is", "dataValidation"} or element.local in _MARGINS


def _add_margin(part: XmlPart, element: XmlElement) -> None:
    """Add the left, the middle and the right text of a header or footer of printed pages."""
    source = part.tree.source(element.open_end, element.close_start)
    borders = [0, *(match.start() for match in _SECTION.finditer(source)), len(source)]
    for border, end in pairwise(borders):
        section = _SECTION.match(source, border)
        begin = border if section is None else section.end()
        first, last = (
            element.open_end + len(source[:place].encode(part.tree.encoding))
            for place in (begin, end)
        )
        part.add_source(first, last, codes=_MARGIN_CODE, note="header or footer of pages")


def _texts(element: XmlElement) -> Iterator[XmlElement]:
    for child in element.elements:
        if child.local == "t":
            yield child
        elif child.local == "r":
            yield from (each for each in child.elements if each.local == "t")


def _plain(fragments: Sequence[Fragment]) -> str:
    return "".join(part for part in fragments if isinstance(part, str))


def _with_direction(data: bytes, *, is_rtl: bool) -> bytes:
    """Return a sheet with the given direction of columns; its views precede its cells."""
    if xml_encoding(data) != "utf-8":
        return data
    head, cells, rest = data.partition(b"sheetData")

    def change(match: re.Match[bytes]) -> bytes:
        tag = _RIGHT_TO_LEFT.sub(b"", match[0])
        if not is_rtl:
            return tag
        body = tag.removesuffix(b">").removesuffix(b"/")
        return body.rstrip() + b' rightToLeft="1"' + tag[len(body) :]

    return _SHEET_VIEW.sub(change, head) + cells + rest
