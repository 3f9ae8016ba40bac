"""Converts rows to ratings, with the checks of one row or one file (X02, X03, X04, X09, X18)."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import regex

from nllb.errors import LanguageError, did_you_mean
from nllb.languages import parse_language

from .cells import (
    ScoreCell,
    cell_text,
    is_blank_score,
    number_in,
    parse_flag,
    parse_points,
    parse_score,
)
from .findings import finding, listed_lines, plural
from .ingestion import Row
from .raters import name_raters, rater_of
from .ratings import SETS, Rating, Set
from .readers.raw_table import Scale
from .readers.spreadsheets import is_date
from .result import FindingRecord

MAX_BAD_SCORES = 0.01
"""Fraction of rows with unusable scores above which a file is rejected; blanks do not count."""
SCALE_ENDS: dict[Scale, tuple[float, float]] = {
    "xsts": (1, 5),
    "esa": (0, 100),
    "mqm": (0, float("inf")),
}
"""Lowest and highest score of each scale."""
_MIN_RATINGS_FOR_SCALE = 5
_MAX_ROWS_FOR_SCRIPT = 200
_UNDETERMINED = "und"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """The ratings of the rows, and the findings."""

    ratings: list[Rating]
    """Usable ratings in their order."""
    findings: list[FindingRecord]
    """Findings of the checks."""
    quarantined: Counter[str]
    """Rows set aside, by code."""
    blank: int = 0
    """Number of rows with a blank score."""


def parse_rows(
    rows: Sequence[Row],
    *,
    scale: Scale = "xsts",
    keep_rater_ids: bool = False,
    merge_raters: bool = False,
) -> Parsed:
    """Convert rows to ratings; unusable rows are set aside, counted and reported.

    Args:
        rows: rows of one or several files.
        scale: scale of the scores.
        keep_rater_ids: use the rater ids of the files instead of pseudonyms.
        merge_raters: join rater ids that differ only in case or spacing.
    """
    findings: list[FindingRecord] = []
    quarantined: Counter[str] = Counter()
    rows = _without_copies(rows, findings, quarantined)
    names, found = name_raters(rows, keep_ids=keep_rater_ids, merge=merge_raters)
    findings += found
    unknown = _unknown_languages(rows, findings)
    other_scale = _raters_on_other_scale(rows, names, findings) if scale == "xsts" else set()
    _converted_items(rows, findings)
    bad_scores: Counter[str] = Counter()
    blank: defaultdict[str, list[Row]] = defaultdict(list)
    ratings: list[Rating] = []
    for row in rows:
        cells = row.cells
        rater = names[rater_of(row)]
        if is_blank_score(cells["score"]):
            blank[rater].append(row)
            quarantined["X18"] += 1
            continue
        if rater in other_scale:
            quarantined["X03"] += 1
            continue
        try:
            score = _score(cells["score"], scale)
            flags = [parse_flag(cells.get(f"{side}_incoherent")) for side in ("source", "target")]
            role = _role(cells)
            stratum = _stratum(cells.get("stratum"))
        except ValueError as error:
            quarantined["X02"] += 1
            bad_scores[row.file] += 1
            findings.append(finding("X02", str(error), at=row, rater=rater))
            continue
        if (
            role != "training"
            and {cell_text(cells["source"]), cell_text(cells["target"])} & unknown
        ):
            quarantined["X09"] += 1
            continue
        ratings.append(
            _rating(row, rater=rater, score=score, flags=flags, role=role, stratum=stratum)
        )
    findings += _too_many_bad(rows, bad_scores, findings)
    findings += _unfinished(blank, rows, names)
    findings += _exchanged_sides(ratings)
    return Parsed(
        ratings=ratings, findings=findings, quarantined=quarantined,
        blank=sum(map(len, blank.values())),
    )  # fmt: skip


def _score(value: object, scale: Scale) -> ScoreCell | float:
    if scale == "xsts":
        return parse_score(value)
    low, high = SCALE_ENDS[scale]
    return parse_points(value, low=low, high=high)


def _without_copies(
    rows: Sequence[Row], findings: list[FindingRecord], quarantined: Counter[str]
) -> list[Row]:
    """Drop exact copies of rows (X04): pasted twice, not rated twice."""
    seen: set[tuple[str, ...]] = set()
    kept, copies = [], []
    for row in rows:
        if row.content and row.content in seen and not is_blank_score(row.cells["score"]):
            copies.append(row)
        else:
            seen.add(row.content)
            kept.append(row)
    if copies:
        quarantined["X04"] += len(copies)
        text = (
            f"{plural(len(copies), 'row')} set aside as exact copies of other rows "
            f"({listed_lines([row.line for row in copies])})"
        )
        findings.append(finding("X04", text, at=copies[0]))
    return kept


def _too_many_bad(
    rows: Sequence[Row], bad_scores: Counter[str], findings: Sequence[FindingRecord]
) -> list[FindingRecord]:
    totals = Counter(row.file for row in rows)
    found = []
    for name, count in bad_scores.items():
        if count > MAX_BAD_SCORES * totals[name]:
            first = next(one for one in findings if one.code == "X02" and one.file == name)
            found.append(
                FindingRecord(
                    code="X02", severity="refuse", file=name, line=first.line, rater=None,
                    message=f"{count} of {totals[name]} rows have no usable score, the first here",
                    mend=first.mend,
                )
            )  # fmt: skip
    return found


def _unfinished(
    blank: dict[str, list[Row]], rows: Sequence[Row], names: dict[str, str]
) -> list[FindingRecord]:
    """Report raters who have not filled in all of their rows (X18)."""
    totals = Counter(names[rater_of(row)] for row in rows)
    return [
        finding(
            "X18",
            f"rater {rater} has not rated {len(lines)} of {totals[rater]} rows "
            f"({listed_lines([row.line for row in lines])})",
            at=lines[0],
            rater=rater,
        )
        for rater, lines in blank.items()
    ]


def _converted_items(rows: Sequence[Row], findings: list[FindingRecord]) -> None:
    """Report item ids that are dates (X14): a spreadsheet program may have made one of two ids."""
    dates = [row for row in rows if is_date(row.cells["item"])]
    if dates:
        text = (
            f"{plural(len(dates), 'row')} with a date as item id "
            f"({listed_lines([row.line for row in dates])}): a spreadsheet program may have "
            "converted ids such as 1-4"
        )
        findings.append(finding("X14", text, at=dates[0]))


def _rating(
    row: Row,
    *,
    rater: str,
    score: ScoreCell | float,
    flags: list[bool],
    role: Set,
    stratum: int | None,
) -> Rating:
    cells = row.cells
    codes_of = [
        _UNDETERMINED if cell_text(cells[side]) == _UNDETERMINED or role == "training"
        else parse_language(cell_text(cells[side])).code
        for side in ("source", "target")
    ]  # fmt: skip
    own = score if isinstance(score, ScoreCell) else None
    return Rating(
        file=row.file,
        line=row.line,
        study=cell_text(cells.get("study")),
        item=cell_text(cells["item"]),
        set=role,
        system=cell_text(cells.get("system")),
        source=codes_of[0],
        target=codes_of[1],
        source_text=_text(cells.get("source_text")),
        target_text=_text(cells.get("target_text")),
        rater=rater,
        score=own.score if own else cast(float, score),
        source_incoherent=(own.source_incoherent if own else False) or flags[0],
        target_incoherent=(own.target_incoherent if own else False) or flags[1],
        stratum=stratum,
        timestamp=cell_text(cells.get("timestamp")),
        duration_s=number_in(cells.get("duration_s")),
        protocol=cell_text(cells.get("protocol")),
    )


def _unknown_languages(rows: Iterable[Row], findings: list[FindingRecord]) -> set[str]:
    """Return the values that are not languages of the table (X09); each is reported once."""
    first: dict[str, Row] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        if cell_text(row.cells.get("set")).casefold() == "training":
            continue
        for side in ("source", "target"):
            value = cell_text(row.cells[side])
            counts[value] += 1
            first.setdefault(value, row)
    unknown = set()
    for value, row in first.items():
        if value == _UNDETERMINED:
            continue
        try:
            parse_language(value)
        except LanguageError as error:
            unknown.add(value)
            findings.append(finding("X09", f"{error} ({counts[value]} cells)", at=row))
    return unknown


def _raters_on_other_scale(
    rows: Iterable[Row], names: dict[str, str], findings: list[FindingRecord]
) -> set[str]:
    """Return the raters whose numbers are on another scale (X03)."""
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    first: dict[str, Row] = {}
    for row in rows:
        number = number_in(row.cells["score"])
        if number is not None:
            rater = names[rater_of(row)]
            numbers[rater].append(number)
            first.setdefault(rater, row)
    others = set()
    for rater, values in numbers.items():
        outside = sum(not 1 <= value <= 5 for value in values)
        zero_based = 0 in values and max(values) <= 4 and values.count(0) > 1
        if len(values) < _MIN_RATINGS_FOR_SCALE or not (outside > 0.2 * len(values) or zero_based):
            continue
        others.add(rater)
        scale = "0 to 4" if zero_based else f"{min(values):g} to {max(values):g}"
        findings.append(
            finding(
                "X03",
                f"rater {rater} has numbers {scale}: {outside} of {len(values)} outside 1 to 5",
                at=first[rater],
                rater=rater,
            )
        )
    return others


def _exchanged_sides(ratings: Sequence[Rating]) -> list[FindingRecord]:
    """Report directions whose texts are in each other's script (X09): the sides were exchanged."""
    votes: defaultdict[tuple[str, str], list[Rating]] = defaultdict(list)
    totals: Counter[tuple[str, str]] = Counter()
    for rating in ratings:
        pair = (rating.source, rating.target)
        scripts = [_script_of(code) for code in pair]
        if rating.set != "eval" or None in scripts or scripts[0] == scripts[1]:
            continue
        if totals[pair] == _MAX_ROWS_FOR_SCRIPT:
            continue
        found = [_main_script(text) for text in (rating.source_text, rating.target_text)]
        if None in found:
            continue
        totals[pair] += 1
        if found == scripts[::-1]:
            votes[pair].append(rating)
    return [
        finding(
            "X09",
            f"{pair[0]}-{pair[1]}: {len(swapped)} of {totals[pair]} rows have sentence 1 in the "
            f"script of {pair[1]} and sentence 2 in that of {pair[0]}: exchanged?",
            at=swapped[0],
        )
        for pair, swapped in votes.items()
        if len(swapped) > totals[pair] / 2
    ]


def _script_of(code: str) -> str | None:
    if code == _UNDETERMINED:
        return None
    script = parse_language(code).script
    return {"Hans": "Hani", "Hant": "Hani", "Jpan": "Hani"}.get(script, script)


@cache
def _script_pattern(script: str) -> "regex.Pattern[str]":
    inside = {"Hani": r"\p{Hani}\p{Hira}\p{Kana}"}.get(script, rf"\p{{{script}}}")
    return regex.compile(f"[{inside}]")


_SCRIPTS = (
    "Latn Arab Cyrl Deva Hani Beng Ethi Hebr Grek Thai Laoo Khmr Mymr Tibt Taml Telu Knda Mlym "
    "Gujr Guru Orya Sinh Hang Geor Armn Olck Tfng"
).split()


def _main_script(text: str) -> str | None:
    """Return the script of most letters of a text; None for a text of few letters."""
    letters = "".join(c for c in text if unicodedata.category(c)[0] in "LM")
    if len(letters) < 4:
        return None
    counts = {script: len(_script_pattern(script).findall(letters)) for script in _SCRIPTS}
    best = max(counts, key=lambda script: counts[script])
    return best if counts[best] > len(letters) / 2 else None


def _role(cells: dict[str, Any]) -> Set:
    value = cell_text(cells.get("set")).casefold() or "eval"
    if value not in SETS:
        raise ValueError(
            f"set {value!r} is not one of {', '.join(SETS)}{did_you_mean(value, SETS)}"
        )
    return cast(Set, value)


def _stratum(value: object) -> int | None:
    if value is None or str(value).strip() == "":
        return None
    number = number_in(value)
    if number is None or number != int(number):
        raise ValueError(f"stratum {str(value)!r} is not a whole number")
    return int(number)


def _text(value: object) -> str:
    return value if isinstance(value, str) else cell_text(value)
