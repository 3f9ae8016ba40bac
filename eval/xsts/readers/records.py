"""Records: JSON arrays, JSONL and Parquet."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nllb.errors import DataError
from nllb.io.parquet import read_records

from .raw_table import RawTable, is_blank

MAX_RECORDS = 5_000_000
"""Maximum number of rows of a Parquet file."""


def read_json_text(text: str, name: str) -> list[Any]:
    """Return the records of a JSON array or object, or of JSON lines.

    Raises:
        DataError: X01 with the line, if it is not JSON.
    """
    stripped = text.lstrip()
    if stripped.startswith("["):
        try:
            value = json.loads(stripped)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"X01 {name}: not JSON: {error}") from None
        return list(value)
    try:
        whole = json.loads(stripped)
    except (json.JSONDecodeError, RecursionError):
        return _json_lines(text, name)
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        if len(lists) == 1 and all(isinstance(one, dict) for one in lists[0]):
            return list(lists[0])
    return [whole]


def _json_lines(text: str, name: str) -> list[Any]:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"X01 {name}:{number}: not JSON: {error}") from None
    return records


def record_table(name: str, records: Sequence[Any]) -> RawTable:
    """Return records as a table, numbered from 1.

    Raises:
        DataError: X01 if a record is not an object.
    """
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise DataError(
                f"X01 {name}:{number}: one object per line expected, got {record!r:.40}"
            )
    header = list(dict.fromkeys(column for record in records for column in record))
    rows = [
        (number, dict.fromkeys(header) | record)
        for number, record in enumerate(records, 1)
        if not all(map(is_blank, record.values()))
    ]
    return RawTable(name=name, header=header, rows=rows)


def read_parquet(path: Path) -> list[Any]:
    """Return the records of a Parquet file.

    Raises:
        DataError: X01 if it is not readable or too large.
        ResourceError: if pyarrow is not installed.
    """
    return list(read_records(path, max_records=MAX_RECORDS, prefix="X01 "))
