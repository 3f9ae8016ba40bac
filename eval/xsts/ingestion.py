"""Reads ratings files of any format as rows of named cells.

CSV, TSV, XLSX, ODS, JSON, JSONL, Parquet and the exports of annotation tools are distinguished by
content (`eval.xsts.readers`). Columns are found by name, not by position: a preset of
`columns.yaml` that fits the header, with overrides. Every row becomes a rating or is reported; a
format error (X01) rejects the file and names the line.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from nllb.errors import DataError
from nllb.io.text import read_json_lines

from .findings import form_finding, listed_lines, plural
from .readers.columns import (
    CONSTANT,
    choose_preset,
    map_fields,
    parse_columns,
    score_columns,
)
from .readers.content import read_tables
from .readers.raw_table import RawTable, Scale, is_blank
from .result import FindingRecord, SourceFile

__all__ = ["RatingsFile", "Row", "parse_columns", "read_ratings", "read_rows"]

KEY_NAME = "key.jsonl"
_REQUIRED = ("rater", "score", "source", "target")
_IDENTITY = ("item", "rater", "source", "target")
_FIELD_WORDS = {"source": "source language", "target": "target language"}
# Columns of our sheets whose content is also in the key.
_OWN_COLUMNS = ("language 1", "language 2", "comment")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One rating as it is in the file."""

    file: str
    """Name of the file; of a workbook with several tables, with the sheet in brackets."""
    line: int
    """Line or spreadsheet row, counted from 1 with the header."""
    cells: dict[str, Any]
    """Cells by field name; a field without a column is absent."""
    content: tuple[str, ...] = ()
    """All cells of the row, also of unused columns: they distinguish copies from repeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatingsFile:
    """A ratings file."""

    source: SourceFile
    """Record of the file in the result."""
    preset: str
    """Name of the matching preset, or `given` if all columns were named."""
    rows: tuple[Row, ...]
    """Its rows; a wide file has one for each of its scores."""
    scale: Scale = "xsts"
    """Scale of the scores."""
    form: str = ""
    """What the file was recognised as, in words for messages; empty for a plain table."""
    findings: tuple[FindingRecord, ...] = ()
    """Findings of the reader (X01): skipped sheets, hidden rows, unused columns."""
    set_aside: int = 0
    """Rows that cannot be ratings, each named in a finding."""
    unused: tuple[str, ...] = ()
    """Unused columns."""


def read_ratings(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    preset: str | None = None,
    format_name: str | None = None,
    sheet: str | None = None,
    scale: Scale | None = None,
) -> RatingsFile:
    """Read one file of ratings.

    Args:
        path: .csv, .tsv, .xlsx, .ods, .json, .jsonl or .parquet; text also compressed.
        columns: field -> column name, or `=value`, on top of the preset.
        preset: name of a preset; None detects it from the header.
        format_name: format of the file; None detects it from the content.
        sheet: the sheet of a workbook to read; None reads all visible sheets with ratings.
        scale: scale of the scores; None takes that of the format.

    Raises:
        DataError: code X01 with the line, if the format is not readable.
        ConfigError: if an argument names something that does not exist.
    """
    found = read_rows(
        path, columns=columns, preset=preset, required=_REQUIRED, format_name=format_name,
        sheet=sheet,
    )  # fmt: skip
    if scale is not None:
        found = replace(found, scale=scale)
    if found.preset == "sheet":
        found = replace(found, rows=_with_key(found.rows, path))
    return _without_incomplete(found)


def read_rows(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    preset: str | None = None,
    required: Sequence[str],
    format_name: str | None = None,
    sheet: str | None = None,
) -> RatingsFile:
    """Read one file of any rows with named fields; a wide file gives a row for each score."""
    tables = read_tables(path, format_name=format_name, sheet=sheet)
    rows: list[Row] = []
    findings: list[FindingRecord] = []
    unused: list[str] = []
    presets: list[str] = []
    for table in tables:
        chosen = choose_preset(
            preset or table.preset, table, given=columns or {}, required=required
        )
        mapping = map_fields(chosen, table, columns or {})
        scores = score_columns(table.header) if chosen == "wide" and "score" not in mapping else []
        _require(table, mapping, chosen, required, has_scores=bool(scores))
        rows += _rows(table, mapping, scores)
        used = {one for one in mapping.values() if not one.startswith(CONSTANT)} | {*scores}
        left = [
            one
            for one in table.header
            if one not in used
            and one not in _OWN_COLUMNS
            and not all(is_blank(cells[one]) for _, cells in table.rows)
        ]
        unused += left
        presets.append(chosen or "given")
        findings += table.findings
        if left:
            findings.append(
                form_finding(
                    table.name, table.header_line, f"columns not read: {', '.join(left)}",
                    mend="Name them with --columns FIELD=COLUMN if they are needed.",
                )
            )  # fmt: skip
    if not rows:
        raise DataError(f"X01 {path.name}: no rows under the header")
    digest = sha256(path.read_bytes()).hexdigest()
    return RatingsFile(
        source=SourceFile(name=path.name, sha256=digest, rows=len(rows)),
        preset=presets[0],
        rows=tuple(rows),
        scale=tables[0].scale,
        form=tables[0].form,
        findings=tuple(findings),
        set_aside=sum(table.set_aside for table in tables),
        unused=tuple(dict.fromkeys(unused)),
    )


def _require(
    table: RawTable,
    mapping: Mapping[str, str],
    preset: str | None,
    required: Sequence[str],
    *,
    has_scores: bool,
) -> None:
    known = {"sheet": {"source", "target"}, "wide": {"rater", "score"} if has_scores else set()}
    missing = [
        name for name in required if name not in mapping.keys() | known.get(preset or "", set())
    ]
    if missing:
        raise DataError(
            f"X01 {table.name}:{table.header_line}: no column for {', '.join(missing)}; the header "
            f"has {', '.join(table.header)}; name them with --columns {missing[0]}=COLUMN"
        )


def _rows(table: RawTable, mapping: Mapping[str, str], scores: Sequence[str]) -> Iterator[Row]:
    for line, values in table.rows:
        cells = {
            name: column[1:] if column.startswith(CONSTANT) else values[column]
            for name, column in mapping.items()
        }
        cells.setdefault("item", f"{table.name}:{line}")
        content = tuple(map(str, values.values()))
        for number, column in enumerate(scores, 1):
            slot = {"rater": _slot(number, cells), "score": values[column]}
            yield Row(
                file=table.name, line=line, cells=cells | slot, content=(*content, slot["rater"])
            )
        if not scores:
            yield Row(file=table.name, line=line, cells=cells, content=content)


def _slot(number: int, cells: Mapping[str, Any]) -> str:
    """Return a name for the unknown rater of a wide file, different in each direction."""
    return f"slot{number} of {cells.get('source')}-{cells.get('target')}"


def _without_incomplete(found: RatingsFile) -> RatingsFile:
    """Set aside rows without item, rater or language and report them.

    Totals below a table are such rows. They would otherwise become one item '' or one rater "None".
    """
    kept: list[Row] = []
    incomplete: dict[tuple[str, str], list[int]] = {}
    for row in found.rows:
        missing = [name for name in _IDENTITY if name in row.cells and is_blank(row.cells[name])]
        if row.cells.get("set") == "training":
            missing = [name for name in missing if name == "item"]
        if not missing:
            kept.append(row)
            continue
        words = ", no ".join(_FIELD_WORDS.get(name, name) for name in missing)
        incomplete.setdefault((row.file, words), []).append(row.line)
    findings = [
        form_finding(
            file,
            lines[0],
            f"{plural(len(lines), 'row')} set aside: no {words} ({listed_lines(lines)})",
            mend="Fill in the cells, or delete the rows if they are not ratings.",
            severity="quarantine",
        )
        for (file, words), lines in incomplete.items()
    ]
    if not kept:
        raise _nothing_usable(found, findings[0])
    return replace(
        found,
        rows=tuple(kept),
        findings=(*found.findings, *findings),
        set_aside=found.set_aside + len(found.rows) - len(kept),
    )


def _nothing_usable(found: RatingsFile, first: FindingRecord) -> DataError:
    """Return the error of a file in which every row lacks a field, with the flags that give it."""
    cells = [row.cells for row in found.rows]
    lacking = [name for name in _IDENTITY if any(is_blank(one.get(name, "")) for one in cells)]
    example = {"source": "=eng_Latn", "target": "=fra_Latn"}
    flags = " ".join(f"--columns {name}={example.get(name, 'COLUMN')}" for name in lacking)
    read_as = f"this is {found.form}; " if found.form else ""
    return DataError(
        f"X01 {first.file}:{first.line}: {read_as}{first.message}, and no other row is usable. "
        f"Name the columns, or after '==' the value of all rows, for example: {flags}"
    )


def _with_key(rows: Sequence[Row], path: Path) -> tuple[Row, ...]:
    """Add the information of key.jsonl in the same folder to the rows of our own sheet."""
    key_path = path.parent / KEY_NAME
    if not key_path.is_file():
        raise DataError(f"X01 {path.name}: {KEY_NAME} is missing beside it; copy it there")
    key = {str(record["row"]): record for record in read_json_lines(key_path)}
    joined = []
    for row in rows:
        name = str(row.cells["item"])
        if name not in key:
            raise DataError(f"X01 {row.file}:{row.line}: row {name!r} is not in {KEY_NAME}")
        meaning = {field: value for field, value in key[name].items() if field != "row"}
        joined.append(replace(row, cells=row.cells | meaning))
    return tuple(joined)
