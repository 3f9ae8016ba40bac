"""Reads workbooks: .xlsx with openpyxl, .ods with odfpy, within limits that are checked first."""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

from eval.xsts.findings import form_finding, listed_lines, plural
from eval.xsts.result import FindingRecord
from nllb.errors import DataError, ResourceError

from .raw_table import NumberedRow, is_blank

MAX_MEMBERS = 5_000
MAX_UNPACKED_BYTES = 1 << 28
MAX_RATIO = 300
"""Maximum ratio of unpacked to packed bytes of one member; checked from 1 MiB."""
MAX_CELLS = 2_000_000
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_RATIO_FROM_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
# Addresses of cells and rows in the XML of a sheet, and the far corners of merged ranges.
_REFERENCE = re.compile(
    rb'<(?:c [^>]*?r="|mergeCell [^>]*?ref="[A-Z]+\d+:)(?P<column>[A-Z]+)(?P<row>\d+)"'
    rb'|<row [^>]*?r="(?P<number>\d+)"'
)
_SEE_ALSO = "check the file, or save the sheet with the ratings as CSV"


@dataclass(kw_only=True, slots=True)
class Sheet:
    """One sheet of a workbook with its cells filled in."""

    title: str
    """Name of the sheet."""
    rows: list[NumberedRow]
    """Numbered rows; merged cells all have the value of their top-left cell."""
    hidden: bool = False
    """Whether the workbook hides the sheet."""
    hidden_rows: list[int] = field(default_factory=list)
    """Rows that the sheet hides."""
    struck_rows: list[int] = field(default_factory=list)
    """Rows with a struck-through cell."""
    no_value_rows: list[int] = field(default_factory=list)
    """Rows with a formula whose value the file does not contain."""

    def findings(self, name: str, ratings: range) -> tuple[FindingRecord, ...]:
        """Return findings about the rows with ratings."""
        remarks = (
            (self.hidden_rows, "hidden; they were read",
             "Delete the rows if they should not count."),
            (self.struck_rows, "with struck-through cells; they were read",
             "Delete the rows if they should not count."),
            (self.no_value_rows, "with formulas without a stored value; their cells were read as "
            "empty",
             "Open the file in a spreadsheet program, save it, and read it again."),
        )  # fmt: skip
        found = []
        for lines, message, mend in remarks:
            inside = [line for line in lines if line in ratings]
            if inside:
                text = f"{plural(len(inside), 'row')} {message} ({listed_lines(inside)})"
                found.append(form_finding(name, inside[0], text, mend=mend))
        return tuple(found)


def refuse_ole(head: bytes, path: Path) -> None:
    """Reject the container of old and of password-protected workbooks; the error names the kind.

    Raises:
        DataError: X01 if the file is such a container.
    """
    if not head.startswith(_OLE_MAGIC):
        return
    if path.suffix.lower() == ".xls":
        what = "an old Excel workbook (.xls, 1997-2003)"
    else:
        what = "a password-protected workbook (or an old .xls under another name)"
    raise DataError(
        f"X01 {path.name}: {what}, which cannot be read; open it in a spreadsheet program and save "
        "it as .xlsx without a password, or as CSV"
    )


def check_archive(path: Path) -> list[str]:
    """Return the names in a zip archive after checking its size against the limits.

    Raises:
        DataError: X01 if it is not an archive or is larger than any file of ratings.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"X01 {path.name}: no readable spreadsheet: {error}") from None
    if len(members) > MAX_MEMBERS:
        raise DataError(
            f"X01 {path.name}: {len(members):,} files in the archive, more than the "
            f"{MAX_MEMBERS:,} of any workbook; {_SEE_ALSO}"
        )
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES:
        raise DataError(
            f"X01 {path.name}: unpacks to {unpacked >> 20:,} MiB; the limit is "
            f"{MAX_UNPACKED_BYTES >> 20} MiB; {_SEE_ALSO}"
        )
    for member in members:
        ratio = member.file_size / max(1, member.compress_size)
        if member.file_size > _RATIO_FROM_BYTES and ratio > MAX_RATIO:
            raise DataError(
                f"X01 {path.name}: {member.filename} is compressed {ratio:,.0f} times; the limit "
                f"is {MAX_RATIO} times; {_SEE_ALSO}"
            )
    return [member.filename for member in members]


def read_xlsx(path: Path) -> list[Sheet]:
    """Return the sheets of an .xlsx workbook.

    Raises:
        DataError: X01 where it is not readable or beyond the limits.
        ResourceError: if openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise ResourceError(
            f"{path.name}: spreadsheets need openpyxl: pip install 'nllb[eval]', or save as CSV"
        ) from None
    names = check_archive(path)
    has_formulas = _check_xlsx_cells(path, names)
    try:
        with catch_warnings():  # about parts that are not used, such as conditional formats
            simplefilter("ignore")
            book = load_workbook(path, data_only=True)
            formulas = load_workbook(path) if has_formulas else None
    except Exception as error:  # openpyxl passes on all exceptions of zip and XML
        raise DataError(f"X01 {path.name}: no readable spreadsheet: {error}") from None
    try:
        return [
            _xlsx_sheet(sheet, formulas[sheet.title] if formulas else None)
            for sheet in book.worksheets
        ]
    finally:
        book.close()


def _xlsx_sheet(sheet: Any, formulas: Any) -> Sheet:
    filled = {
        (row, column): sheet.cell(merged.min_row, merged.min_col).value
        for merged in sheet.merged_cells.ranges
        for row in range(merged.min_row, merged.max_row + 1)
        for column in range(merged.min_col, merged.max_col + 1)
    }
    found = Sheet(title=sheet.title, rows=[], hidden=sheet.sheet_state != "visible")
    for number, cells in enumerate(sheet.iter_rows(), 1):
        values = [filled.get((number, place), cell.value) for place, cell in enumerate(cells, 1)]
        if all(map(is_blank, values)) and formulas is None:
            continue
        found.rows.append((number, values))
        if sheet.row_dimensions[number].hidden:
            found.hidden_rows.append(number)
        if any(cell.value is not None and cell.font is not None and cell.font.strike
               for cell in cells):  # fmt: skip
            found.struck_rows.append(number)
        if formulas is not None and any(
            cell.value is None and isinstance(formulas.cell(number, place).value, str)
            for place, cell in enumerate(cells, 1)
        ):
            found.no_value_rows.append(number)
    return found


def read_ods(path: Path) -> list[Sheet]:
    """Return the sheets of an OpenDocument workbook.

    Raises:
        DataError: X01 where it is not readable or beyond the limits.
        ResourceError: if odfpy is not installed.
    """
    try:
        from odf.opendocument import load
        from odf.table import Table
    except ImportError:
        raise ResourceError(
            f"{path.name}: .ods needs odfpy: pip install 'nllb[eval]', or save as CSV"
        ) from None
    names = check_archive(path)
    _check_ods_cells(path, names)
    try:
        document = load(str(path))
        return [_ods_sheet(table) for table in document.spreadsheet.getElementsByType(Table)]
    except DataError:
        raise
    except Exception as error:  # odfpy passes on all exceptions of zip and XML
        raise DataError(f"X01 {path.name}: no readable spreadsheet: {error}") from None


def _ods_sheet(table: Any) -> Sheet:
    from odf.table import TableRow

    sheet = Sheet(title=table.getAttribute("name") or "", rows=[])
    number, cells_seen = 0, 0
    spans: dict[int, tuple[int, Any]] = {}  # column -> (rows still covered, value)
    for row in table.getElementsByType(TableRow):
        repeated = int(row.getAttribute("numberrowsrepeated") or 1)
        values = _ods_cells(row, spans)
        if all(map(is_blank, values)):
            number += repeated
            continue
        cells_seen += repeated * len(values)
        if cells_seen > MAX_CELLS:
            raise DataError(f"X01: sheet {sheet.title!r} has over {MAX_CELLS:,} cells; {_SEE_ALSO}")
        for _ in range(repeated):
            number += 1
            sheet.rows.append((number, values))
            if row.getAttribute("visibility") in ("collapse", "filter"):
                sheet.hidden_rows.append(number)
    return sheet


def _ods_cells(row: Any, spans: dict[int, tuple[int, Any]]) -> list[Any]:
    values: list[Any] = []
    for cell in row.childNodes:
        if cell.qname[1] not in ("table-cell", "covered-table-cell"):
            continue
        repeated = int(cell.getAttribute("numbercolumnsrepeated") or 1)
        value = _ods_value(cell)
        if is_blank(value) and repeated > 256:  # the empty rest of the row
            break
        for _ in range(min(repeated, 256)):
            place = len(values)
            rows_left, spanned = spans.get(place, (0, None))
            if cell.qname[1] == "covered-table-cell" and rows_left > 0:
                values.append(spanned)
                spans[place] = (rows_left - 1, spanned)
                continue
            covers = int(cell.getAttribute("numberrowsspanned") or 1)
            if covers > 1:
                spans[place] = (covers - 1, value)
            values.append(value)
    return values


def _ods_value(cell: Any) -> Any:
    from odf import teletype
    from odf.text import P

    kind = cell.getAttribute("valuetype")
    if kind in ("float", "percentage", "currency"):
        return float(cell.getAttribute("value"))
    paragraphs = [teletype.extractText(part) for part in cell.getElementsByType(P)]
    return "\n".join(paragraphs) if paragraphs else None


def _check_xlsx_cells(path: Path, names: list[str]) -> bool:
    """Check the number of cells of a workbook and their extent before building any.

    Returns: whether there are formulas.

    Raises:
        DataError: X01 if there are more cells than any study has.
    """
    cells, formulas = 0, False
    for name in names:
        if not name.endswith(".xml") or "worksheets/" not in name:
            continue
        rows, columns = 0, 0
        for part in _parts(path, name):
            cells += part.count(b"<c ") + part.count(b"<c>")
            formulas = formulas or b"<f>" in part or b"<f " in part
            for found in _REFERENCE.finditer(part):
                columns = max(columns, _column_number(found["column"] or b""))
                rows = max(rows, int(found["row"] or found["number"]))
        for size, what in ((cells, "cells"), (rows * columns, "cells between the outermost ones")):
            if size > MAX_CELLS:
                raise DataError(
                    f"X01 {path.name}: {size:,} {what}, the limit is {MAX_CELLS:,}; {_SEE_ALSO}"
                )
    return formulas


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters[:4]:
        number = 26 * number + letter - ord("A") + 1
    return number


def _check_ods_cells(path: Path, names: list[str]) -> None:
    """Reject an OpenDocument workbook with more cells than any study has."""
    for name in names:
        if name != "content.xml":
            continue
        cells = sum(part.count(b":table-cell") for part in _parts(path, name)) // 2
        if cells > MAX_CELLS:
            raise DataError(
                f"X01 {path.name}: {cells:,} cells, the limit is {MAX_CELLS:,}; {_SEE_ALSO}"
            )


def _parts(path: Path, name: str) -> Iterator[bytes]:
    """Yield a file of the archive in pieces that end with a tag."""
    rest = b""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            while part := stream.read(_CHUNK_BYTES):
                part = rest + part
                end = part.rfind(b">") + 1
                rest = part[end:][-_CHUNK_BYTES:]
                yield part[:end]
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"X01 {path.name}: {name} in it cannot be read: {error}") from None


def is_date(value: Any) -> bool:
    """Return whether a cell is a date, possibly converted from a text such as `1-4`."""
    return isinstance(value, date | datetime)
