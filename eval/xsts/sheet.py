"""Annotation sheets: assigns items to raters, in random order and without the system names.

Every rater gets the same number of items (plus or minus one), all systems of an item, the complete
calibration set in even distribution, and some items twice if requested. `key.jsonl` identifies each
row; `eval xsts score` reads filled sheets that lie beside it.
"""

import csv
import json
import logging
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nllb.errors import ConfigError, DataError, LanguageError
from nllb.io.atomic import atomic_path, atomic_text
from nllb.io.paths import is_plain_name
from nllb.io.text import write_json, write_lines
from nllb.languages import parse_language

from .cells import cell_text, is_personal
from .guidelines import PROTOCOL, guidelines_page
from .ingestion import KEY_NAME, Row, read_rows

COLUMNS = ("row", "rater", "language 1", "sentence 1", "language 2", "sentence 2",
           "sentence 1 incoherent", "sentence 2 incoherent", "score", "comment")  # fmt: skip
_WIDTHS = (11, 8, 14, 60, 14, 60, 12, 12, 8, 24)
_NEEDED = ("item", "source", "target", "source_text", "target_text")
MAX_ERRORS_SHOWN = 10
_LOG = logging.getLogger(__name__)
# Text that a spreadsheet program would run as a formula: a sign, perhaps of full width, at the
# start of a cell, behind blanks of any kind. In a program that separates cells by semicolons, or
# that breaks cells at line ends or tabs, a cell also starts behind these.
_BLANKS = r"[\s\u00ad\u180e\u200b-\u200f\u2060-\u2064\ufeff]*"
_FORMULA = re.compile(
    rf"(^|[;\t\r\n\v\f\x85\u2028\u2029])({_BLANKS}[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetSettings:
    """How items are assigned to raters."""

    raters: tuple[str, ...]
    """Neutral ids."""
    per_item: int = 3
    """Raters per item."""
    num_items: int | None = None
    """Items per direction, sampled at random; None takes all."""
    repeat: float = 0.0
    """Fraction of a rater's items that are rated twice, for the self-agreement."""
    seed: int = 0
    """Seed of sampling, assignment and order."""

    def __post_init__(self) -> None:
        wrong = []
        personal = sum(map(is_personal, self.raters))
        if personal:
            wrong.append(
                f"{personal} rater ids look like e-mail addresses, numbers or names (X16); use "
                f"neutral ones such as r01"
            )
        if odd := [one for one in self.raters if not is_plain_name(one.replace(" ", "_"))]:
            wrong.append(
                f"rater {odd[0]!r} is used as a file name: only letters, digits, blanks, '.', '_' "
                f"and '-' are allowed"
            )
        if len(set(self.raters)) != len(self.raters):
            wrong.append("a rater is named twice")
        if not 1 <= self.per_item <= len(self.raters):
            wrong.append(f"{self.per_item} raters per item, of {len(self.raters)} raters")
        if not 0 <= self.repeat <= 1:
            wrong.append(f"repeat {self.repeat} is not a share from 0 to 1")
        if any(not rater or set(rater) & set('/\\:*?"<>| ') for rater in self.raters):
            wrong.append("rater ids name files: use letters, digits and hyphens only")
        if wrong:
            raise ConfigError("sheet: " + "; ".join(wrong))


def read_items(path: Path, *, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Read items to rate, or calibration items, in any format of ratings.

    Raises:
        DataError: if a language is unknown, an item has no text, or an item occurs twice in one
            system.
    """
    rows = read_rows(path, columns=columns, preset=None, required=_NEEDED).rows
    items = []
    errors: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        item = {
            name: cell_text(row.cells.get(name))
            for name in ("study", "item", "system", "stratum", *_NEEDED[1:3])
        }
        item |= {name: _as_text(row.cells.get(name)) for name in _NEEDED[3:]}
        for side in ("source", "target"):
            try:
                item[side] = parse_language(item[side]).code
            except LanguageError as error:
                errors.append(f"X09 {_at(row)}: {error}")
            if not item[f"{side}_text"].strip():
                errors.append(f"X11 {_at(row)}: no {side} text; empty pairs cannot be rated")
        if not item["item"]:
            errors.append(f"X01 {_at(row)}: no item id")
        identity = tuple(item[name] for name in ("study", "item", "system", "source", "target"))
        if identity in seen:
            errors.append(
                f"X04 {_at(row)}: item {item['item']!r} of system {item['system']!r} occurs twice; "
                f"give each item its own item_id"
            )
        seen.add(identity)
        items.append(item)
    if errors:
        more = (
            [f"and {len(errors) - MAX_ERRORS_SHOWN:,} more"]
            if len(errors) > MAX_ERRORS_SHOWN
            else []
        )
        raise DataError("\n  ".join(["items cannot be rated:", *errors[:MAX_ERRORS_SHOWN], *more]))
    return items


def write_sheets(
    items: Sequence[dict[str, Any]],
    calibration: Sequence[dict[str, Any]],
    directory: Path,
    *,
    settings: SheetSettings,
) -> list[Path]:
    """Write a sheet for each rater (CSV, and XLSX if openpyxl is installed), guidelines and key.

    Texts are shown without control characters, and with an apostrophe if a spreadsheet program
    would run them as a formula; the key has them unchanged.

    Raises:
        DataError: if the folder already contains sheets, or a direction has too few items.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / KEY_NAME).exists():
        raise DataError(
            f"{directory / KEY_NAME} exists: this folder already contains sheets; use a new folder"
        )
    chosen = _sample(items, settings)
    assigned = assign(chosen, settings)
    draw = random.Random(f"order {settings.seed}")
    names = _row_names(draw)
    key: list[dict[str, Any]] = []
    written: list[Path] = []
    for rater in settings.raters:
        rows = []
        for role, item in _order(assigned[rater], calibration, draw, repeat=settings.repeat):
            name = next(names)
            key.append({"row": name, "set": role, "protocol": PROTOCOL, **item})
            rows.append(_cells(name, rater, item))
        written.append(_write_csv(directory / f"{rater}.csv", rows))
        spreadsheet = _write_spreadsheet(directory / f"{rater}.xlsx", rows)
        written += [spreadsheet] if spreadsheet else []
    guidelines_page().save(directory / "guidelines.html")
    write_json(
        directory / "assignment.json",
        {
            "protocol": PROTOCOL, "seed": settings.seed, "per_item": settings.per_item,
            "items": len({_identity(item) for item in chosen}), "pairs": len(chosen),
            "calibration_items": len(calibration), "repeat": settings.repeat,
            "pairs_by_rater": {rater: len(assigned[rater]) for rater in settings.raters},
        },
    )  # fmt: skip
    changed = sum(bool(_UNPRINTABLE.search(one[f"{side}_text"]))
                  for one in key for side in ("source", "target"))  # fmt: skip
    if changed:
        _LOG.warning(
            "%d texts have control characters or lone surrogates, shown as U+FFFD", changed
        )
    # ASCII, because lone surrogates cannot be written in any other way.
    write_lines(directory / KEY_NAME, map(json.dumps, key))
    return [*written, directory / "guidelines.html", directory / KEY_NAME]


def assign(
    items: Sequence[dict[str, Any]], settings: SheetSettings
) -> dict[str, list[dict[str, Any]]]:
    """Assign each item, with all its systems, to the raters with the fewest items so far."""
    draw = random.Random(f"assign {settings.seed}")
    together: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        together[_identity(item)].append(item)
    order = sorted(together)
    draw.shuffle(order)
    load: Counter[str] = Counter(dict.fromkeys(settings.raters, 0))
    met: Counter[frozenset[str]] = Counter()
    assigned: dict[str, list[dict[str, Any]]] = {rater: [] for rater in settings.raters}
    for identity in order:
        team: list[str] = []
        for _ in range(settings.per_item):
            free = [rater for rater in settings.raters if rater not in team]
            # Among raters with equal load, prefer the one with the fewest items in common with the
            # others.
            team.append(
                min(
                    free,
                    key=lambda rater: (
                        load[rater],
                        sum(met[frozenset((rater, other))] for other in team),
                        draw.random(),
                    ),
                )
            )
        for rater in team:
            load[rater] += len(together[identity])
            assigned[rater] += together[identity]
            met.update(frozenset((rater, other)) for other in team if other != rater)
    return assigned


def _sample(items: Sequence[dict[str, Any]], settings: SheetSettings) -> list[dict[str, Any]]:
    """Return a random sample of items, the same for all systems of a direction."""
    if settings.num_items is None:
        return list(items)
    draw = random.Random(f"sample {settings.seed}")
    of_direction: defaultdict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for item in items:
        of_direction[item["study"], item["source"], item["target"]].add(_identity(item))
    kept: set[tuple[str, ...]] = set()
    for direction, identities in sorted(of_direction.items()):
        if len(identities) < settings.num_items:
            raise DataError(
                f"{'-'.join(direction[1:])} has {len(identities)} items, {settings.num_items} were "
                f"requested"
            )
        kept.update(draw.sample(sorted(identities), settings.num_items))
    return [item for item in items if _identity(item) in kept]


def _order(
    items: Sequence[dict[str, Any]],
    calibration: Sequence[dict[str, Any]],
    draw: random.Random,
    *,
    repeat: float,
) -> list[tuple[str, dict[str, Any]]]:
    """Return one rater's rows: random order, calibration items spread evenly, repeats late."""
    placed: list[tuple[float, str, dict[str, Any]]] = []
    for role, rows in (("eval", list(items)), ("calibration", list(calibration))):
        draw.shuffle(rows)
        placed += [((index + draw.random()) / len(rows), role, item)
                   for index, item in enumerate(rows)]  # fmt: skip
    first = [one for one in placed if one[1] == "eval"]
    for place, _, item in draw.sample(first, round(repeat * len(first))):
        placed.append((0.5 + place / 2 + 0.25, "attention", item))
    placed.sort(key=lambda one: one[0])
    return [(role, item) for _, role, item in placed]


def _cells(name: str, rater: str, item: dict[str, Any]) -> tuple[str, ...]:
    languages = [parse_language(item[side]).name for side in ("source", "target")]
    texts = [_UNPRINTABLE.sub("\ufffd", item[f"{side}_text"]) for side in ("source", "target")]
    return (name, rater, languages[0], texts[0], languages[1], texts[1], "", "", "", "")


def _write_csv(path: Path, rows: Sequence[tuple[str, ...]]) -> Path:
    with atomic_text(path) as stream:
        # All cells are quoted: a bare carriage return would end the row.
        writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(COLUMNS)
        writer.writerows([[_harmless(cell) for cell in row] for row in rows])
    return path


def _write_spreadsheet(path: Path, rows: Sequence[tuple[str, ...]]) -> Path | None:
    try:
        from openpyxl import Workbook
        from openpyxl.styles import Alignment, Font
        from openpyxl.worksheet.datavalidation import DataValidation
    except ImportError:
        return None
    book = Workbook()
    sheet = book.active
    sheet.title = "rate"
    sheet.append(COLUMNS)
    for row in rows:
        sheet.append(row)
    for cells in sheet.iter_rows():
        for cell in cells:
            cell.alignment = Alignment(wrap_text=True, vertical="top")
            if isinstance(cell.value, str):
                cell.data_type = "s"  # text, even if it begins like a formula
    for cell, width in zip(sheet[1], _WIDTHS, strict=True):
        cell.font = Font(bold=True)
        sheet.column_dimensions[cell.column_letter].width = width
    sheet.freeze_panes = "A2"
    last = len(rows) + 1
    for column, allowed in (("I", '"1,2,3,4,5"'), ("G", '"y,n"'), ("H", '"y,n"')):
        if not rows:  # more raters than items
            break
        rule = DataValidation(type="list", formula1=allowed, allow_blank=True)
        rule.error = "Choose one of " + allowed.strip('"').replace(",", ", ")
        sheet.add_data_validation(rule)
        rule.add(f"{column}2:{column}{last}")
    with atomic_path(path) as beside:
        book.save(beside)
    return path


def _harmless(cell: str) -> str:
    """Return a text that spreadsheet programs do not run as a formula."""
    return _FORMULA.sub(r"\1'\2", cell)


def _row_names(draw: random.Random) -> Any:
    """Yield row names that do not reveal the system."""
    given: set[str] = set()
    while True:
        name = f"{draw.getrandbits(40):010x}"
        # A spreadsheet program would read 12e45678 as a number.
        if name not in given and not name.isdigit() and name[0].isalpha():
            given.add(name)
            yield name


def _as_text(value: object) -> str:
    """Return a sentence unchanged; a number in its place as text."""
    return value if isinstance(value, str) else cell_text(value)


def _identity(item: dict[str, Any]) -> tuple[str, ...]:
    return (item["study"], item["source"], item["target"], item["item"])


def _at(row: Row) -> str:
    return f"{row.file}:{row.line}"
