"""A table as it is in the file, without empty rows and columns without a name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from eval.xsts.findings import form_finding, listed_lines, plural
from eval.xsts.result import FindingRecord
from nllb.errors import DataError

Scale = Literal["xsts", "esa", "mqm"]
"""`xsts`: 1 to 5. `esa`: 0 to 100, higher is better. `mqm`: penalty points, 0 is best."""

HEADER_SEARCH_ROWS = 20
"""Number of rows at the top of a file that may be the header."""

NumberedRow = tuple[int, list[Any]]
"""Line (or spreadsheet row) and its cells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawTable:
    """One table of a file, before any column has a meaning."""

    name: str
    """Name of the file; with the sheet in brackets where a workbook has several tables."""
    header: list[str]
    """Names of the columns."""
    rows: list[tuple[int, dict[str, Any]]]
    """Line and cells by column, empty rows left out."""
    header_line: int = 1
    """Line of the header."""
    preset: str | None = None
    """Preset of tables that the reader of an export has built; the header is then ignored."""
    scale: Scale = "xsts"
    """Scale of the scores, where the form of the file fixes it."""
    form: str = ""
    """What the file was recognised as, in words for messages; empty for a plain table."""
    findings: tuple[FindingRecord, ...] = ()
    """Findings of the reader; `set_aside` has the rows that it set aside."""
    set_aside: int = 0
    """Number of ratings that the reader set aside; findings name them."""


def is_blank(cell: Any) -> bool:
    """Return whether a cell is empty or contains white space only."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def build_table(
    name: str,
    rows: Sequence[NumberedRow],
    *,
    fits: Callable[[Sequence[str]], bool],
    ragged: bool = False,
) -> RawTable:
    """Find the header among the first rows and return the table below it.

    Args:
        name: name of the file for messages.
        rows: numbered rows from the top of the file; empty ones may be among them.
        fits: whether a row of names is a header that a preset knows.
        ragged: whether cells outside the header are reported (spreadsheets) instead of rejected.

    Raises:
        DataError: X01 if no header was found, a name occurs twice, or rows have different lengths.
    """
    filled = [(line, cells) for line, cells in rows if not all(map(is_blank, cells))]
    if not filled:
        raise DataError(f"X01 {name}: no header: the file has no row with text")
    at = next(
        (number for number, (_, cells) in enumerate(filled[:HEADER_SEARCH_ROWS])
         if fits([_name(cell) for cell in cells])),
        0,
    )  # fmt: skip
    header_line, header_cells = filled[at]
    names = [_name(cell) for cell in header_cells]
    while names and not names[-1]:
        names.pop()
    twice = sorted({one for one in names if one and names.count(one) > 1})
    if twice:
        raise DataError(
            f"X01 {name}:{header_line}: columns {', '.join(twice)} occur twice; give each column "
            f"its own name"
        )
    body = filled[at + 1 :]
    findings = []
    if at:
        findings.append(
            form_finding(
                name, filled[0][0],
                f"the header is in row {header_line}; above it {plural(at, 'row')} were not read",
                mend="Check that these rows contain no ratings.",
            )
        )  # fmt: skip
    findings += _outside(name, names, body, ragged=ragged)
    columns = [(place, one) for place, one in enumerate(names) if one]
    return RawTable(
        name=name,
        header=[one for _, one in columns],
        rows=[
            (line, {one: cells[place] if place < len(cells) else None for place, one in columns})
            for line, cells in body
        ],
        header_line=header_line,
        findings=tuple(findings),
    )


def _outside(
    name: str, names: Sequence[str], body: Sequence[NumberedRow], *, ragged: bool
) -> list[FindingRecord]:
    """Report cells outside the named columns; reject rows of another length in text files."""
    nameless = {place for place, one in enumerate(names) if not one}
    outside: list[int] = []
    for line, cells in body:
        beyond = [place for place in range(len(names), len(cells)) if not is_blank(cells[place])]
        short = not ragged and len(cells) < len(names)
        if (beyond and not ragged) or short:
            used = len(cells) if short else beyond[-1] + 1
            raise DataError(
                f"X01 {name}:{line}: {used} cells where the header has {len(names)}; quote cells "
                f"that contain the separator or a line break"
            )
        if beyond or any(not is_blank(cells[place]) for place in nameless if place < len(cells)):
            outside.append(line)
    if not outside:
        return []
    return [
        form_finding(
            name, outside[0],
            f"cells in columns without a name were not read ({listed_lines(outside)})",
            mend="Give the column a name, or delete these cells.",
        )
    ]  # fmt: skip


def with_name(table: RawTable, name: str) -> RawTable:
    """Return a table under another name, in its findings as well."""
    findings = tuple(replace(one, file=name) for one in table.findings)
    return replace(table, name=name, findings=findings)


def _name(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()
