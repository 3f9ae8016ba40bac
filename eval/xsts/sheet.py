"""Annotation sheets: who rates what, in which order, blind to the systems.

Every rater gets the same number of items (plus or minus one), all systems of an item, the whole
calibration set spread evenly among them, and some items twice if asked. `key.jsonl` says what each
row stands for; filled sheets beside it are read by `eval xsts score` as they are.
"""

import csv
import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.xsts.cells import is_personal
from eval.xsts.guidelines import PROTOCOL, guidelines_page
from eval.xsts.ingestion import KEY_NAME, Row, read_rows
from nllb.errors import ConfigError, DataError, LanguageError
from nllb.io.atomic import atomic_path, atomic_text
from nllb.io.paths import is_plain_name
from nllb.io.text import write_json, write_lines
from nllb.languages import parse_language

COLUMNS = ("row", "rater", "language 1", "sentence 1", "language 2", "sentence 2",
           "sentence 1 incoherent", "sentence 2 incoherent", "score", "comment")  # fmt: skip
_WIDTHS = (11, 8, 14, 60, 14, 60, 12, 12, 8, 24)
_NEEDED = ("item", "source", "target", "source_text", "target_text")
MOST_FAULTS = 10
# What a spreadsheet program would run as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetSettings:
    """How items are given to raters."""

    raters: tuple[str, ...]
    """Neutral ids."""
    per_item: int = 3
    """Raters of each item."""
    num_items: int | None = None
    """Random sample of so many items a direction; None takes all."""
    repeat: float = 0.0
    """Share of a rater's items that come a second time, for the self-agreement."""
    seed: int = 0
    """Of sampling, assignment and order."""

    def __post_init__(self) -> None:
        wrong = []
        personal = sum(map(is_personal, self.raters))
        if personal:
            wrong.append(
                f"{personal} rater ids look like mails or names (X16); use neutral ones such as r01"
            )
        if odd := [one for one in self.raters if not is_plain_name(one.replace(" ", "_"))]:
            wrong.append(
                f"rater {odd[0]!r} becomes the name of a file: letters, digits, blanks, '.', '_' "
                "and '-' only"
            )
        if len(set(self.raters)) != len(self.raters):
            wrong.append("a rater stands twice")
        if not 1 <= self.per_item <= len(self.raters):
            wrong.append(f"{self.per_item} raters an item, of {len(self.raters)} raters")
        if not 0 <= self.repeat <= 1:
            wrong.append(f"repeat {self.repeat} is no share from 0 to 1")
        if any(not rater or set(rater) & set('/\\:*?"<>| ') for rater in self.raters):
            wrong.append("rater ids name files: letters, digits, hyphens only")
        if wrong:
            raise ConfigError("sheet: " + "; ".join(wrong))


def read_items(path: Path, *, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Read items to rate, or calibration items, from any form that ratings are read from.

    Raises:
        DataError: a language that is none, an item without text, or an item twice in a system.
    """
    rows = read_rows(path, columns=columns, preset=None, required=_NEEDED).rows
    items = []
    faults: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        item = {
            name: "" if row.cells.get(name) is None else str(row.cells[name])
            for name in ("study", "item", "system", "stratum", *_NEEDED[1:])
        }
        for side in ("source", "target"):
            try:
                code = parse_language(item[side]).code
            except LanguageError as error:
                faults.append(f"X09 {_at(row)}: {error}")
            else:
                if code != item[side]:
                    faults.append(f"X09 {_at(row)}: {item[side]!r} is {code} here: write {code}")
            if not item[f"{side}_text"].strip():
                faults.append(f"X11 {_at(row)}: no {side} text; empty pairs cannot be rated")
        identity = tuple(item[name] for name in ("study", "item", "system", "source", "target"))
        if identity in seen:
            faults.append(
                f"X04 {_at(row)}: item {item['item']!r} of system {item['system']!r} stands twice; "
                "give each its own item_id"
            )
        seen.add(identity)
        items.append(item)
    if faults:
        more = [f"and {len(faults) - MOST_FAULTS:,} more"] if len(faults) > MOST_FAULTS else []
        raise DataError("\n  ".join(["items cannot be rated:", *faults[:MOST_FAULTS], *more]))
    return items


def write_sheets(
    items: Sequence[dict[str, Any]],
    calibration: Sequence[dict[str, Any]],
    directory: Path,
    *,
    settings: SheetSettings,
) -> list[Path]:
    """Write a sheet for each rater (CSV, and XLSX where openpyxl is there), guidelines and key."""
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / KEY_NAME).exists():
        raise DataError(f"{directory / KEY_NAME} exists: sheets are out already; use a new folder")
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
    write_lines(directory / KEY_NAME, (json.dumps(one, ensure_ascii=False) for one in key))
    return [*written, directory / "guidelines.html", directory / KEY_NAME]


def assign(
    items: Sequence[dict[str, Any]], settings: SheetSettings
) -> dict[str, list[dict[str, Any]]]:
    """Give each item, with all its systems, to the raters who have least so far."""
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
            # Least loaded first; among these whoever met the team least, so that pairs balance.
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
    """The same random items of a direction for all its systems."""
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
                f"{'-'.join(direction[1:])} has {len(identities)} items, "
                f"{settings.num_items} are wanted"
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
    """One rater's rows: items in random order, calibration evenly among them, repeats late."""
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
    return (name, rater, languages[0], item["source_text"], languages[1], item["target_text"],
            "", "", "", "")  # fmt: skip


def _write_csv(path: Path, rows: Sequence[tuple[str, ...]]) -> Path:
    with atomic_text(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
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
                cell.data_type = "s"  # never a formula, whatever it begins with
    for cell, width in zip(sheet[1], _WIDTHS, strict=True):
        cell.font = Font(bold=True)
        sheet.column_dimensions[cell.column_letter].width = width
    sheet.freeze_panes = "A2"
    last = len(rows) + 1
    for column, allowed in (("I", '"1,2,3,4,5"'), ("G", '"y,n"'), ("H", '"y,n"')):
        rule = DataValidation(type="list", formula1=allowed, allow_blank=True)
        rule.error = "Choose one of " + allowed.strip('"').replace(",", ", ")
        sheet.add_data_validation(rule)
        rule.add(f"{column}2:{column}{last}")
    with atomic_path(path) as beside:
        book.save(beside)
    return path


def _harmless(cell: str) -> str:
    """Keep a spreadsheet program from running a sentence as a formula."""
    return "'" + cell if cell.startswith(_FORMULA) else cell


def _row_names(draw: random.Random) -> Any:
    """Names that tell a rater nothing."""
    given: set[str] = set()
    while True:
        name = f"{draw.getrandbits(40):010x}"
        # A spreadsheet program would read 12e45678 as a number.
        if name not in given and not name.isdigit() and name[0].isalpha():
            given.add(name)
            yield name


def _identity(item: dict[str, Any]) -> tuple[str, ...]:
    return (item["study"], item["source"], item["target"], item["item"])


def _at(row: Row) -> str:
    return f"{row.file}:{row.line}"
