"""From rows to ratings: the checks that look at one row, or at one file (X02, X03, X09, X16)."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import regex

from eval.xsts.cells import ScoreCell, is_personal, number_in, parse_flag, parse_score
from eval.xsts.ingestion import Row
from eval.xsts.ratings import SETS, Rating, Set
from eval.xsts.result import FindingRecord
from nllb.errors import LanguageError, did_you_mean
from nllb.io.text import read_table
from nllb.languages import parse_language

MOST_BAD_SCORES = 0.01
"""Share of rows with unusable scores above which the file is refused."""
_LEAST_FOR_SCALE = 5
_MOST_FOR_SCRIPT = 200
_UNDETERMINED = "und"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """What the rows gave."""

    ratings: list[Rating]
    """Usable ratings in their order."""
    findings: list[FindingRecord]
    """What was found."""
    quarantined: Counter[str]
    """Rows set aside, by code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """One row of the table of checks."""

    severity: str
    """What a finding does unless said otherwise."""
    title: str
    """What is checked."""
    mend: str
    """What to do."""


@cache
def codes() -> dict[str, Code]:
    """Return the checks X01 to X16."""
    table = read_table(Path(__file__).with_name("codes.tsv"))
    return {
        row["code"]: Code(severity=row["severity"], title=row["title"], mend=row["mend"])
        for row in table
    }


def finding(
    code: str,
    message: str,
    *,
    at: Row | Rating | None = None,
    rater: str | None = None,
    severity: str | None = None,
) -> FindingRecord:
    """Return a finding with the table's severity and mend."""
    return FindingRecord(
        code=code,
        severity=severity or codes()[code].severity,
        file=at.file if at else "",
        line=at.line if at else None,
        rater=rater,
        message=message,
        mend=codes()[code].mend,
    )


def parse_rows(rows: Sequence[Row]) -> Parsed:
    """Make ratings of rows; what cannot be one is set aside and counted."""
    findings: list[FindingRecord] = []
    quarantined: Counter[str] = Counter()
    names = _pseudonyms(rows, findings)
    bad_codes = _language_faults(rows, findings)
    other_scale = _scale_faults(rows, names, findings)
    bad_scores: Counter[str] = Counter()
    ratings: list[Rating] = []
    for row in rows:
        cells = row.cells
        rater = names[str(cells["rater"]).strip()]
        if rater in other_scale:
            quarantined["X03"] += 1
            continue
        try:
            score = parse_score(cells["score"])
            flags = [parse_flag(cells.get(f"{side}_incoherent")) for side in ("source", "target")]
            role = _role(cells)
            stratum = _stratum(cells.get("stratum"))
        except ValueError as error:
            quarantined["X02"] += 1
            bad_scores[row.file] += 1
            findings.append(finding("X02", str(error), at=row, rater=rater))
            continue
        if role != "training" and {str(cells["source"]), str(cells["target"])} & bad_codes:
            quarantined["X09"] += 1
            continue
        ratings.append(
            _rating(row, rater=rater, score=score, flags=flags, role=role, stratum=stratum)
        )
    totals = Counter(row.file for row in rows)
    for name, count in bad_scores.items():
        if count > MOST_BAD_SCORES * totals[name]:
            first = next(one for one in findings if one.code == "X02" and one.file == name)
            findings.append(
                FindingRecord(
                    code="X02", severity="refuse", file=name, line=first.line, rater=None,
                    message=f"{count} of {totals[name]} rows have no usable score, the first here",
                    mend=first.mend,
                )
            )  # fmt: skip
    findings += _swapped(ratings)
    return Parsed(ratings=ratings, findings=findings, quarantined=quarantined)


def _rating(
    row: Row, *, rater: str, score: ScoreCell, flags: list[bool], role: Set, stratum: int | None
) -> Rating:
    cells = row.cells
    codes_of = [
        str(cells[side]) if str(cells[side]) == _UNDETERMINED else parse_language(cells[side]).code
        for side in ("source", "target")
    ]
    return Rating(
        file=row.file,
        line=row.line,
        study=_text(cells.get("study")),
        item=_text(cells["item"]),
        set=role,
        system=_text(cells.get("system")),
        source=codes_of[0],
        target=codes_of[1],
        source_text=_text(cells.get("source_text"), strip=False),
        target_text=_text(cells.get("target_text"), strip=False),
        rater=rater,
        score=score.score,
        source_incoherent=score.source_incoherent or flags[0],
        target_incoherent=score.target_incoherent or flags[1],
        stratum=stratum,
        timestamp=_text(cells.get("timestamp")),
        duration_s=number_in(cells.get("duration_s")),
        protocol=_text(cells.get("protocol")),
    )


def _pseudonyms(rows: Iterable[Row], findings: list[FindingRecord]) -> dict[str, str]:
    """Return for each rater id the name used from here on (X16)."""
    names: dict[str, str] = {}
    hidden: list[Row] = []
    first = {str(row.cells["rater"]).strip(): row for row in reversed(list(rows))}
    for rater in sorted(first):
        names[rater] = rater
        if is_personal(rater):
            hidden.append(first[rater])
            names[rater] = f"person-{len(hidden)}"
    if hidden:
        findings.append(
            finding(
                "X16",
                f"{len(hidden)} rater ids look like mails, numbers or names (the first here); "
                f"shown as person-1 to person-{len(hidden)}",
                at=min(hidden, key=lambda row: (row.file, row.line)),
            )
        )
    return names


def _language_faults(rows: Iterable[Row], findings: list[FindingRecord]) -> set[str]:
    """Return the values that are no code of the table (X09), each reported once."""
    first: dict[str, Row] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        if str(row.cells.get("set") or "").strip().casefold() == "training":
            continue
        for side in ("source", "target"):
            value = str(row.cells[side])
            counts[value] += 1
            first.setdefault(value, row)
    bad = set()
    for value, row in first.items():
        try:
            code = parse_language(value).code
        except LanguageError as error:
            bad.add(value)
            findings.append(finding("X09", f"{error} ({counts[value]} cells)", at=row))
            continue
        if code != value:
            bad.add(value)
            findings.append(
                finding("X09", f"{value!r} is {code} here ({counts[value]} cells)", at=row)
            )
    return bad


def _scale_faults(
    rows: Iterable[Row], names: dict[str, str], findings: list[FindingRecord]
) -> set[str]:
    """Return raters whose numbers are of another scale (X03)."""
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    first: dict[str, Row] = {}
    for row in rows:
        number = number_in(row.cells["score"])
        if number is not None:
            rater = names[str(row.cells["rater"]).strip()]
            numbers[rater].append(number)
            first.setdefault(rater, row)
    others = set()
    for rater, values in numbers.items():
        outside = sum(not 1 <= value <= 5 for value in values)
        zero_based = 0 in values and max(values) <= 4 and values.count(0) > 1
        if len(values) < _LEAST_FOR_SCALE or not (outside > 0.2 * len(values) or zero_based):
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


def _swapped(ratings: Sequence[Rating]) -> list[FindingRecord]:
    """Directions whose texts are in each other's script (X09): the sides were exchanged."""
    votes: defaultdict[tuple[str, str], list[Rating]] = defaultdict(list)
    totals: Counter[tuple[str, str]] = Counter()
    for rating in ratings:
        pair = (rating.source, rating.target)
        scripts = [_script_of(code) for code in pair]
        if rating.set != "eval" or None in scripts or scripts[0] == scripts[1]:
            continue
        if totals[pair] == _MOST_FOR_SCRIPT:
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
    """The script that most letters of a text are in, or None for a text of few letters."""
    letters = "".join(c for c in text if unicodedata.category(c)[0] in "LM")
    if len(letters) < 4:
        return None
    counts = {script: len(_script_pattern(script).findall(letters)) for script in _SCRIPTS}
    best = max(counts, key=lambda script: counts[script])
    return best if counts[best] > len(letters) / 2 else None


def _role(cells: dict[str, Any]) -> Set:
    value = _text(cells.get("set")).casefold() or "eval"
    if value not in SETS:
        raise ValueError(f"set {value!r} is none of {', '.join(SETS)}{did_you_mean(value, SETS)}")
    return cast(Set, value)


def _stratum(value: object) -> int | None:
    if value is None or str(value).strip() == "":
        return None
    number = number_in(value)
    if number is None or number != int(number):
        raise ValueError(f"stratum {str(value)!r} is no whole number")
    return int(number)


def _text(value: object, *, strip: bool = True) -> str:
    if value is None:
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.strip() if strip else text
