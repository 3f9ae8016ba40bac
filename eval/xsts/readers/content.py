"""Reads a file as raw tables; its format is detected from the content or given by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.xsts.findings import form_finding
from eval.xsts.result import FindingRecord
from nllb.errors import ConfigError, DataError, did_you_mean
from nllb.io.compression import COMPRESSIONS

from .annotation_tools import (
    appraise_table,
    find_appraise,
    is_label_studio,
    is_label_studio_min,
    is_mqm,
    is_pearmut,
    label_studio_min_table,
    label_studio_table,
    mqm_table,
    pearmut_table,
)
from .columns import fits_a_preset
from .delimited import decode, read_delimited, read_limited
from .raw_table import (
    HEADER_SEARCH_ROWS,
    NumberedRow,
    RawTable,
    build_table,
    is_blank,
    with_name,
)
from .records import read_json_text, read_parquet, record_table
from .spreadsheets import Sheet, check_archive, read_ods, read_xlsx, refuse_ole

SUFFIXES = (".csv", ".tsv", ".xlsx", ".ods", ".json", ".jsonl", ".parquet")
FORMATS = ("csv", "tsv", "xlsx", "ods", "json", "jsonl", "parquet", "labelstudio",
           "labelstudio-min", "appraise", "pearmut", "mqm")  # fmt: skip
"""Names for `--format`."""
_HEAD_BYTES = 1 << 12
_BEFORE_JSON = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"
"""Byte order marks and white space, also of UTF-16."""


def read_tables(
    path: Path, *, format_name: str | None = None, sheet: str | None = None
) -> list[RawTable]:
    """Return the tables of a file; of a workbook, all visible sheets with the columns of ratings.

    Args:
        path: the file; text also compressed.
        format_name: one of `FORMATS` to skip the detection by content.
        sheet: name of the one sheet of a workbook to read, hidden or not.

    Raises:
        DataError: X01 with the reason, if the file cannot be read.
        ConfigError: if `format_name` is unknown, or `sheet` is not in the workbook.
    """
    if format_name is not None and format_name not in FORMATS:
        raise ConfigError(
            f"unknown format {format_name!r}{did_you_mean(format_name, FORMATS) or '.'} "
            f"Formats: {', '.join(FORMATS)}"
        )
    if not path.is_file():
        raise DataError(f"no file {path}")
    head = b""
    if path.suffix not in COMPRESSIONS:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    refuse_ole(head, path)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() in SUFFIXES]
    if not suffixes and format_name is None:
        raise DataError(
            f"{path.name}: a ratings file ends in {', '.join(SUFFIXES)}; give --format for others"
        )
    if path.stat().st_size == 0:
        raise DataError(f"X01 {path.name}: the file is empty")
    form = format_name or _form(head, path, suffixes[-1])
    if form in ("xlsx", "ods"):
        return _from_sheets(path, read_xlsx(path) if form == "xlsx" else read_ods(path), sheet)
    if sheet is not None:
        raise ConfigError(f"--sheet {sheet!r}: {path.name} is not a workbook")
    if form == "parquet":
        return [_from_records(path.name, read_parquet(path), forced=None)]
    text, encoding = decode(read_limited(path), path.name)
    if not text.strip():
        raise DataError(f"X01 {path.name}: the file is empty")
    if form in ("json", "jsonl", "labelstudio", "labelstudio-min", "pearmut"):
        table = _from_records(path.name, read_json_text(text, path.name), forced=format_name)
    else:
        delimiter = "\t" if form in ("tsv", "mqm") and suffixes[-1:] != [".csv"] else ","
        table = _from_rows(path.name, text, delimiter=delimiter, forced=format_name)
    remarks = (
        [] if encoding.casefold().startswith("utf") else [_guessed_encoding(path.name, encoding)]
    )
    return [replace(table, findings=(*remarks, *table.findings))]


def _guessed_encoding(name: str, encoding: str) -> FindingRecord:
    return form_finding(
        name,
        None,
        f"the text is not UTF-8; it was read as {encoding}, which is a guess",
        mend="Check names and comments with accents; if they look wrong, save the file as UTF-8.",
    )


def _form(head: bytes, path: Path, suffix: str) -> str:
    """Return the format by the first bytes; the file name does not matter."""
    if head.startswith(b"PK\x03\x04"):
        names = check_archive(path)
        if "xl/workbook.xml" in names:
            return "xlsx"
        if "content.xml" in names:
            return "ods"
    if head.startswith(b"PAR1"):
        return "parquet"
    if suffix in (".csv", ".tsv") and head.lstrip(_BEFORE_JSON)[:1] in (b"{", b"["):
        return "json"
    return suffix.removeprefix(".")


def _from_rows(name: str, text: str, *, delimiter: str, forced: str | None) -> RawTable:
    rows = _rows(text, name, delimiter=delimiter)
    if forced in (None, "appraise"):
        place = find_appraise(rows)
        if place is not None and not fits_a_preset(list(map(str, rows[0][1]))):
            return appraise_table(name, rows, place)
        if forced == "appraise":
            raise DataError(
                f"X01 {name}: not an Appraise export: no column of TGT, BAD, REF or CHK with two "
                "languages and a score behind it"
            )
    table = build_table(name, rows, fits=_fits)
    if forced == "mqm" or (forced is None and is_mqm(table.header)):
        if not is_mqm(table.header):
            raise DataError(
                f"X01 {name}: not an MQM table; the header is {', '.join(table.header)}"
            )
        return mqm_table(name, table)
    if forced == "labelstudio-min" or (forced is None and is_label_studio_min(table.header)):
        return label_studio_min_table(name, table.rows)
    return table


def _rows(text: str, name: str, *, delimiter: str) -> list[NumberedRow]:
    """Return the rows of a text, by another separator if only that one gives a known header.

    A title above the header may contain a comma although the table is separated by semicolons.
    """
    rows = read_delimited(text, name, delimiter=delimiter)
    if delimiter != "," or _has_header(rows):
        return rows
    for other in (";", "\t"):
        try:
            found = read_delimited(text, name, delimiter=other)
        except DataError:
            continue
        if _has_header(found):
            return found
    return rows


def _has_header(rows: Sequence[NumberedRow]) -> bool:
    return any(
        _fits(["" if cell is None else str(cell).strip() for cell in cells])
        for _, cells in rows[: 2 * HEADER_SEARCH_ROWS]
    )


def _from_records(name: str, records: Sequence[Any], *, forced: str | None) -> RawTable:
    first = records[0] if records else None
    if forced == "labelstudio" or (forced is None and is_label_studio(first)):
        return label_studio_table(name, records)
    if forced == "pearmut" or (forced is None and is_pearmut(first)):
        return pearmut_table(name, records)
    table = record_table(name, records)
    if forced == "labelstudio-min" or (forced is None and is_label_studio_min(table.header)):
        return label_studio_min_table(name, table.rows)
    return table


def _fits(header: Sequence[str]) -> bool:
    return fits_a_preset(header) or is_label_studio_min(header) or is_mqm(header)


def _from_sheets(path: Path, sheets: Sequence[Sheet], wanted: str | None) -> list[RawTable]:
    """Return the sheets with ratings; the others are named in a finding of the first table."""
    if wanted is not None:
        chosen = [one for one in sheets if one.title == wanted]
        if not chosen:
            titles = [one.title for one in sheets]
            raise ConfigError(
                f"--sheet {wanted!r}{did_you_mean(wanted, titles) or ':'} {path.name} has "
                f"{', '.join(map(repr, titles))}"
            )
        return [_from_sheet(path.name, chosen[0], single=True)]
    filled = [one for one in sheets if any(not all(map(is_blank, row)) for _, row in one.rows)]
    if not filled:
        raise DataError(f"X01 {path.name}: no sheet has any text")
    usable = [one for one in filled if _has_header(one.rows)]
    visible = [one for one in usable if not one.hidden]
    chosen = visible or usable or filled[:1]
    tables = [_from_sheet(path.name, one, single=len(chosen) == 1) for one in chosen]
    skipped = []
    for one in filled:
        if one not in chosen:
            why = "hidden" if one in usable else "no columns of ratings"
            skipped.append(f"{one.title!r} ({why}, {len(one.rows)} rows)")
    if not skipped and not (chosen[0].hidden and not visible):
        return tables
    remarks: list[FindingRecord] = []
    if skipped:
        remarks.append(
            form_finding(path.name, None, f"sheets not read: {', '.join(skipped)}",
                         mend="Give --sheet NAME to read one of them.")
        )  # fmt: skip
    if chosen[0].hidden:
        remarks.append(
            form_finding(path.name, None, f"the sheet {chosen[0].title!r} that was read is hidden",
                         mend="Show it in a spreadsheet program and check it.")
        )  # fmt: skip
    return [replace(tables[0], findings=(*remarks, *tables[0].findings)), *tables[1:]]


def _from_sheet(name: str, sheet: Sheet, *, single: bool) -> RawTable:
    full_name = name if single else f"{name}[{sheet.title}]"
    table = build_table(full_name, sheet.rows, fits=_fits, ragged=True)
    lines = range(table.header_line + 1, (sheet.rows[-1][0] if sheet.rows else 0) + 1)
    findings = (*table.findings, *sheet.findings(full_name, lines))
    if is_mqm(table.header):
        table = mqm_table(full_name, table)
        findings = (*findings, *table.findings)
    elif is_label_studio_min(table.header):
        table = label_studio_min_table(full_name, table.rows)
    return with_name(replace(table, findings=findings), full_name)
