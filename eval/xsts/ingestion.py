"""Ratings files of any form, as rows of named cells: CSV, TSV, XLSX, JSONL, Parquet.

Columns are found by name: a preset of `columns.yaml` that fits the header, with overrides on top.
Never by position. A fault of form (X01) refuses the file and names the line.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from eval.xsts.result import SourceFile
from nllb.errors import ConfigError, DataError, ResourceError, did_you_mean
from nllb.io.compression import open_binary
from nllb.io.text import read_json_lines

KEY_NAME = "key.jsonl"
SUFFIXES = (".csv", ".tsv", ".xlsx", ".jsonl", ".parquet")
_REQUIRED = ("rater", "score", "source", "target")
_CONSTANT = "="
# Columns of our sheets that say nothing the key does not.
_OWN_COLUMNS = ("language 1", "language 2", "comment")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One rating as the file has it."""

    file: str
    """Name of the file."""
    line: int
    """Line or spreadsheet row, from 1 with the header."""
    cells: dict[str, Any]
    """By field name; absent where the file has no such column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatingsFile:
    """A file that was read."""

    source: SourceFile
    """What the result says of it."""
    preset: str
    """Name of the preset that fitted, or `given` where all columns were named."""
    rows: tuple[Row, ...]
    """Its rows; a wide file has one for each of its scores."""
    unused: tuple[str, ...] = field(default=())
    """Columns that no field was read from."""


def read_ratings(
    path: Path, *, columns: Mapping[str, str] | None = None, preset: str | None = None
) -> RatingsFile:
    """Read one file of ratings.

    Args:
        path: .csv, .tsv, .xlsx, .jsonl or .parquet; text also compressed.
        columns: field -> column name, or `=value`, on top of the preset.
        preset: name of a preset; found by the header where None.

    Raises:
        DataError: code X01 with the line, where the form is not readable.
        ConfigError: where `columns` or `preset` names what does not exist.
    """
    found = read_rows(path, columns=columns, preset=preset, required=_REQUIRED)
    if found.preset == "sheet":
        return replace(found, rows=_with_key(found.rows, path))
    return found


def read_rows(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    preset: str | None = None,
    required: Sequence[str],
) -> RatingsFile:
    """Read one file of any rows with named fields; a wide file gives a row for each score."""
    header, table = _read_table(path)
    chosen = _preset(preset, header, path, given=columns or {}, required=required)
    mapping = _mapping(chosen, header, columns or {}, path)
    scores = _score_columns(header) if chosen == "wide" and "score" not in mapping else []
    known = {"sheet": {"source", "target"}, "wide": {"rater", "score"} if scores else set()}
    missing = [
        name for name in required if name not in mapping.keys() | known.get(chosen or "", set())
    ]
    if missing:
        raise DataError(
            f"X01 {path.name}:1: no column for {', '.join(missing)}; the header has "
            f"{', '.join(header)}; name them with --columns {missing[0]}=COLUMN"
        )
    rows = []
    for line, values in table:
        cells = {name: _value(column, values) for name, column in mapping.items()}
        cells.setdefault("item", f"{path.name}:{line}")
        for number, column in enumerate(scores, 1):
            slot = {"rater": _slot(number, cells), "score": values[column]}
            rows.append(Row(file=path.name, line=line, cells=cells | slot))
        if not scores:
            rows.append(Row(file=path.name, line=line, cells=cells))
    if not rows:
        raise DataError(f"X01 {path.name}: no rows under the header")
    used = {column for column in mapping.values() if not column.startswith(_CONSTANT)} | {*scores}
    digest = sha256(path.read_bytes()).hexdigest()
    return RatingsFile(
        source=SourceFile(name=path.name, sha256=digest, rows=len(rows)),
        preset=chosen or "given",
        rows=tuple(rows),
        unused=tuple(name for name in header if name not in used and name not in _OWN_COLUMNS),
    )


def parse_columns(options: Iterable[str]) -> dict[str, str]:
    """Read `field=Column` options; `field==value` gives all rows one value."""
    columns = {}
    for option in options:
        name, separator, column = option.partition("=")
        if not separator or not column or name not in _presets()["fields"]:
            fields = ", ".join(_presets()["fields"])
            raise ConfigError(
                f"--columns {option!r} is not FIELD=COLUMN"
                f"{did_you_mean(name, _presets()['fields']) or ';'} fields: {fields}"
            )
        columns[name] = column
    return columns


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """Return the header and (line, cells by column) of each row."""
    if not path.is_file():
        raise DataError(f"no file {path}")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() in SUFFIXES]
    if not suffixes:
        raise DataError(f"{path.name}: a ratings file ends in {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise DataError(f"X01 {path.name}: the file is empty")
    match suffixes[-1]:
        case ".csv" | ".tsv":
            return _read_delimited(path, delimiter="," if suffixes[-1] == ".csv" else "\t")
        case ".xlsx":
            return _read_spreadsheet(path)
        case ".jsonl":
            return _from_records(
                path, [(number, record) for number, record in enumerate(read_json_lines(path), 1)]
            )
        case _:
            return _read_parquet(path)


def _read_delimited(
    path: Path, *, delimiter: str
) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    with open_binary(path) as stream:
        raw = stream.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        kind = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8"
        raise DataError(f"X01 {path.name}:{line}: {kind}; save as UTF-8") from None
    if "\ufeff" in text or "\0" in text:
        line = text.count("\n", 0, max(text.find("\ufeff"), text.find("\0"))) + 1
        raise DataError(
            f"X01 {path.name}:{line}: a byte order mark or NUL inside the file; "
            "files were joined or are UTF-16; save each as UTF-8 without BOM"
        )
    header_line = text.partition("\n")[0]
    if delimiter == "," and "," not in header_line and ";" in header_line:
        delimiter = ";"  # spreadsheets write it so where the comma is the decimal sign
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if cells:
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"X01 {path.name}:{line}: {error}; look at the quotes") from None
    if not rows:
        raise DataError(f"X01 {path.name}: no header")
    header = _header(rows[0][1], path)
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"X01 {path.name}:{line}: {len(cells)} cells where the header has {len(header)}; "
                "quote cells that hold the separator or a line break"
            )
    return header, [(line, dict(zip(header, cells, strict=True))) for line, cells in rows[1:]]


def _read_spreadsheet(path: Path) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise ResourceError(
            f"{path.name}: spreadsheets need openpyxl: pip install 'nllb[data]', or save as CSV"
        ) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl lets whatever zip and XML raise through
        raise DataError(f"X01 {path.name}: no readable spreadsheet: {error}") from None
    try:
        rows = [
            (number, list(cells))
            for number, cells in enumerate(book.worksheets[0].iter_rows(values_only=True), 1)
            if any(cell is not None for cell in cells)
        ]
    finally:
        book.close()
    if not rows:
        raise DataError(f"X01 {path.name}: the first sheet is empty")
    width = max(index for index, cell in enumerate(rows[0][1], 1) if cell is not None)
    header = _header([str(cell or "") for cell in rows[0][1][:width]], path)
    for line, cells in rows[1:]:
        if any(cell is not None for cell in cells[width:]):
            raise DataError(f"X01 {path.name}:{line}: cells right of the last header column")
    return header, [
        (line, dict(zip(header, [*cells, *[None] * width][:width], strict=True)))
        for line, cells in rows[1:]
    ]


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ResourceError(
            f"{path.name}: Parquet needs pyarrow: pip install 'nllb[data]', or save as JSONL"
        ) from None
    try:
        records = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(f"X01 {path.name}: no readable Parquet file: {error}") from None
    return _from_records(path, list(enumerate(records, 1)))


def _from_records(
    path: Path, records: list[tuple[int, Any]]
) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    for number, record in records:
        if not isinstance(record, dict):
            raise DataError(f"X01 {path.name}:{number}: one object a line, got {record!r:.40}")
    header = list(dict.fromkeys(name for _, record in records for name in record))
    return header, [(number, dict.fromkeys(header) | record) for number, record in records]


def _header(cells: list[str], path: Path) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice or "" in header:
        wrong = f"columns {', '.join(twice)} stand twice" if any(twice) else "a column has no name"
        raise DataError(f"X01 {path.name}:1: {wrong}; give each column a name of its own")
    return header


@cache
def _presets() -> dict[str, Any]:
    text = Path(__file__).with_name("columns.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def _preset(
    name: str | None,
    header: list[str],
    path: Path,
    *,
    given: Mapping[str, str],
    required: Sequence[str],
) -> str | None:
    presets = _presets()["presets"]
    if name is not None:
        if name not in presets:
            raise ConfigError(
                f"no preset {name!r}{did_you_mean(name, presets)} Presets: {', '.join(presets)}"
            )
        return name
    have = {_plain(column) for column in header}
    for candidate, preset in presets.items():
        if {_plain(column) for column in preset["needs"]} <= have:
            return str(candidate)
    if set(required) <= given.keys():
        return None
    nearest = max(presets, key=lambda one: len({*map(_plain, presets[one]["needs"])} & have))
    lacking = [c for c in presets[nearest]["needs"] if _plain(c) not in have]
    raise DataError(
        f"X01 {path.name}:1: no preset fits the header {', '.join(header)}; nearest is "
        f"{nearest!r}, which also needs {', '.join(lacking)}; "
        "name columns with --columns FIELD=COLUMN"
    )


def _mapping(
    preset: str | None, header: list[str], given: Mapping[str, str], path: Path
) -> dict[str, str]:
    """Return field -> column as the header spells it, or =value."""
    spelled = {_plain(column): column for column in header}
    mapping = {}
    for name, column in (_presets()["presets"][preset]["columns"] if preset else {}).items():
        if column.startswith(_CONSTANT):
            mapping[name] = column
        elif _plain(column) in spelled:
            mapping[name] = spelled[_plain(column)]
    for name, column in given.items():
        if column.startswith(_CONSTANT):
            mapping[name] = column
        elif _plain(column) in spelled:
            mapping[name] = spelled[_plain(column)]
        else:
            raise DataError(
                f"X01 {path.name}:1: no column {column!r} for {name}"
                f"{did_you_mean(column, header) or ';'} the header has {', '.join(header)}"
            )
    return mapping


def _score_columns(header: list[str]) -> list[str]:
    return [name for name in header if _plain(name).removeprefix("score").isdigit()]


def _slot(number: int, cells: Mapping[str, Any]) -> str:
    """A name for the unknown rater of a wide file: never the same one in two directions."""
    return f"slot{number} of {cells.get('source')}-{cells.get('target')}"


def _value(column: str, values: Mapping[str, Any]) -> Any:
    return column[1:] if column.startswith(_CONSTANT) else values[column]


def _with_key(rows: Sequence[Row], path: Path) -> tuple[Row, ...]:
    """Give the rows of our own sheet what key.jsonl in the same folder says they stand for."""
    key_path = path.parent / KEY_NAME
    if not key_path.is_file():
        raise DataError(f"X01 {path.name}: {KEY_NAME} is missing beside it; put it there")
    key = {str(record["row"]): record for record in read_json_lines(key_path)}
    joined = []
    for row in rows:
        name = str(row.cells["item"])
        if name not in key:
            raise DataError(f"X01 {path.name}:{row.line}: row {name!r} is not in {KEY_NAME}")
        meaning = {field: value for field, value in key[name].items() if field != "row"}
        joined.append(replace(row, cells=row.cells | meaning))
    return tuple(joined)


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
