"""Maps columns to fields: the presets of `columns.yaml`, and overrides."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from nllb.errors import ConfigError, DataError, did_you_mean

from .raw_table import RawTable

CONSTANT = "="
"""Prefix of a column that is a value for all rows."""


@cache
def _table() -> dict[str, Any]:
    path = Path(__file__).parents[1] / "columns.yaml"
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def parse_columns(options: Iterable[str]) -> dict[str, str]:
    """Read `field=Column` options; `field==value` gives all rows one value.

    Raises:
        ConfigError: if an option has another form or an unknown field.
    """
    columns = {}
    for option in options:
        name, separator, column = option.partition("=")
        if not separator or not column or name not in _table()["fields"]:
            fields = ", ".join(_table()["fields"])
            raise ConfigError(
                f"--columns {option!r} is not FIELD=COLUMN"
                f"{did_you_mean(name, _table()['fields']) or ';'} fields: {fields}"
            )
        columns[name] = column
    return columns


def fits_a_preset(header: Sequence[str]) -> bool:
    """Return whether a row of names contains all columns that some preset needs."""
    have = {plain_name(column) for column in header}
    return any(
        {plain_name(column) for column in preset["needs"]} <= have
        for preset in _table()["presets"].values()
    )


def choose_preset(
    name: str | None, table: RawTable, *, given: Mapping[str, str], required: Sequence[str]
) -> str | None:
    """Return the named preset or the one that fits the header; None if all fields are given.

    Raises:
        ConfigError: if no preset has the name.
        DataError: X01 if no preset fits; the message names the nearest one.
    """
    presets = _table()["presets"]
    if name is not None:
        if name not in presets:
            raise ConfigError(
                f"no preset {name!r}{did_you_mean(name, presets)} Presets: {', '.join(presets)}"
            )
        return name
    have = {plain_name(column) for column in table.header}
    for candidate, preset in presets.items():
        if {plain_name(column) for column in preset["needs"]} <= have:
            return str(candidate)
    if set(required) <= given.keys():
        return None
    nearest = max(presets, key=lambda one: len({*map(plain_name, presets[one]["needs"])} & have))
    lacking = [c for c in presets[nearest]["needs"] if plain_name(c) not in have]
    raise DataError(
        f"X01 {table.name}:{table.header_line}: no preset fits the header "
        f"{', '.join(table.header)}; nearest is {nearest!r}, which also needs "
        f"{', '.join(lacking)}; name columns with --columns FIELD=COLUMN"
    )


def map_fields(preset: str | None, table: RawTable, given: Mapping[str, str]) -> dict[str, str]:
    """Return field -> column as spelled in the header, or =value.

    Raises:
        DataError: X01 if a given column does not exist.
    """
    spelled = {plain_name(column): column for column in table.header}
    mapping = {}
    for name, column in (_table()["presets"][preset]["columns"] if preset else {}).items():
        if column.startswith(CONSTANT):
            mapping[name] = column
        elif plain_name(column) in spelled:
            mapping[name] = spelled[plain_name(column)]
    for name, column in given.items():
        if column.startswith(CONSTANT):
            mapping[name] = column
        elif plain_name(column) in spelled:
            mapping[name] = spelled[plain_name(column)]
        else:
            raise DataError(
                f"X01 {table.name}:{table.header_line}: no column {column!r} for {name}"
                f"{did_you_mean(column, table.header) or ';'} the header has "
                f"{', '.join(table.header)}"
            )
    return mapping


def score_columns(header: Sequence[str]) -> list[str]:
    """Return the columns `score_1`, `score_2`, ... of a wide file."""
    return [name for name in header if plain_name(name).removeprefix("score").isdigit()]


def plain_name(name: str) -> str:
    """Return the form in which column names are compared: letters and digits without case."""
    return "".join(character for character in name.casefold() if character.isalnum())
