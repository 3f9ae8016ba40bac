"""Exports of annotation tools: Label Studio, Appraise and WMT ESA, pearmut, WMT MQM.

Each is converted to a table with the column names of the preset `canonical`, so that all further
steps are the same for all formats. Rows that such an export marks as unusable are set aside and
counted. Languages that an export does not name come from `--columns source==L target==L`.

Source: the export formats of Label Studio (JSON, JSON-MIN), Appraise (`ExportSystemScores`),
pearmut
and the WMT general translation task.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.xsts.findings import form_finding, listed_lines, plural
from nllb.errors import DataError, LanguageError
from nllb.languages import parse_language

from .raw_table import NumberedRow, RawTable, Scale

RATING_KEYS = ("rating", "number", "choices", "text")
"""Keys under which Label Studio stores the value of a control."""
SCORE_NAMES = ("xsts", "score", "rating")
"""Names of the score control, in case several controls have numbers."""
ITEM_TYPES = {"TGT", "BAD", "REF", "CHK"}
"""Kinds of items in Appraise: translations, and three kinds of quality checks."""
SEVERITY_POINTS = {"neutral": 0.0, "no-error": 0.0, "minor": 1.0, "major": 5.0, "critical": 10.0}
"""MQM penalty by severity, with the WMT exceptions in `_mqm_points`."""
_MQM_COLUMNS = {"system", "seg_id", "rater", "category", "severity"}
_LANGUAGE_PAIR = re.compile(
    r"([A-Za-z]{2,3}(?:_[A-Za-z]{4})?)-([A-Za-z]{2,3}(?:_[A-Za-z]{2,4})?)\b"
)
_SPAN_MARK = re.compile(r"</?v>")


def is_label_studio(record: Any) -> bool:
    """Return whether a record is a task of Label Studio's JSON export."""
    return isinstance(record, dict) and "data" in record and (
        "annotations" in record or "completions" in record
    )  # fmt: skip


def is_label_studio_min(header: Iterable[str]) -> bool:
    """Return whether columns are those of Label Studio's JSON-MIN or CSV export."""
    return {"annotator", "annotation_id"} <= set(header)


def is_pearmut(record: Any) -> bool:
    """Return whether a record is a line of pearmut's output."""
    return isinstance(record, dict) and {"annotation", "item"} <= record.keys()


def is_mqm(header: Iterable[str]) -> bool:
    """Return whether columns are those of a WMT MQM table."""
    return {str(name).strip().casefold() for name in header} >= _MQM_COLUMNS


def label_studio_table(name: str, tasks: Sequence[Any]) -> RawTable:
    """Return a row for each annotation of Label Studio's JSON export.

    Cancelled annotations are set aside; an annotation without a result is a blank score.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    cancelled: list[int] = []
    for number, task in enumerate(tasks, 1):
        if not is_label_studio(task):
            raise DataError(f"X01 {name}:{number}: not a task with 'data' and 'annotations'")
        data = dict(task["data"] or {})
        data.setdefault("item_id", task.get("id", number))
        for annotation in task.get("annotations") or task.get("completions") or ():
            if annotation.get("was_cancelled"):
                cancelled.append(number)
                continue
            controls = {
                one.get("from_name", one.get("type", "")): _value(one.get("value"))
                for one in annotation.get("result") or ()
            }
            rows.append(
                (number, {
                    **data, **controls, "rater_id": _annotator(annotation.get("completed_by")),
                    "timestamp": annotation.get("created_at"),
                    "duration_s": annotation.get("lead_time"),
                })
            )  # fmt: skip
    return _label_studio(name, rows, cancelled)


def label_studio_min_table(name: str, records: Iterable[tuple[int, Mapping[str, Any]]]) -> RawTable:
    """Return a row for each record of Label Studio's JSON-MIN or CSV export."""
    rows = []
    for number, record in records:
        cells = {key: _value(_from_json(value)) for key, value in record.items()}
        cells["rater_id"] = _annotator(record.get("annotator"))
        cells["duration_s"] = record.get("lead_time")
        cells["timestamp"] = record.get("created_at")
        cells.setdefault("item_id", record.get("id"))
        for key in ("annotator", "annotation_id", "lead_time", "created_at", "updated_at", "id"):
            cells.pop(key, None)
        rows.append((number, cells))
    return _label_studio(name, rows, [])


def _label_studio(
    name: str, rows: list[tuple[int, dict[str, Any]]], cancelled: list[int]
) -> RawTable:
    header = list(dict.fromkeys(column for _, cells in rows for column in cells))
    if "score" not in header:
        named = next((one for one in SCORE_NAMES if one in header), None)
        for _, cells in rows:
            cells["score"] = cells.pop(named, None) if named else None
        if named:
            header = ["score" if one == named else one for one in header]
    findings = []
    if cancelled:
        findings.append(
            form_finding(
                name, cancelled[0],
                f"{len(cancelled)} cancelled annotations are set aside "
                f"({listed_lines(cancelled)})",
                mend="Submit them in Label Studio if they should count.", severity="quarantine",
            )
        )  # fmt: skip
    return RawTable(
        name=name, header=header, preset="canonical", findings=tuple(findings),
        rows=[(line, dict.fromkeys(header) | cells) for line, cells in rows],
        set_aside=len(cancelled),
    )  # fmt: skip


def _annotator(value: Any) -> Any:
    """Return the id of an annotator, who may be a number, a mail address or an object."""
    if isinstance(value, dict):
        return value.get("id", value.get("email"))
    return value


def _from_json(value: Any) -> Any:
    """Return the value of a CSV cell that contains JSON."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _value(value: Any) -> Any:
    """Return the value of a control, or None."""
    if isinstance(value, list):
        return _value(value[0]) if len(value) == 1 else None if not value else str(value)
    if isinstance(value, dict):
        return next((_value(value[key]) for key in RATING_KEYS if key in value), None)
    return value


def find_appraise(rows: Sequence[NumberedRow]) -> int | None:
    """Return the column of the item type in an Appraise or WMT ESA export, or None.

    Such files have various headers or none. They share a column of item types, with the system two
    columns before it, and two languages and a score from 0 to 100 after it.
    """
    body = [cells for _, cells in rows[1:50] if any(cells)] or [cells for _, cells in rows[:1]]
    if not body:
        return None
    for place in range(3, min(map(len, body)) - 3):
        if all(str(cells[place]).strip().upper() in ITEM_TYPES for cells in body):
            languages = {str(cells[place + side]) for cells in body for side in (1, 2)}
            if all(map(_is_language, languages)):
                return place
    return None


def appraise_table(name: str, rows: Sequence[NumberedRow], place: int) -> RawTable:
    """Return a row for each line of an Appraise or WMT ESA export.

    Items that test the rater (BAD, REF, CHK) become attention items, which no score includes.
    """
    header = ["item_id", "set", "system", "src_lang", "tgt_lang", "rater_id", "score",
              "timestamp", "duration_s"]  # fmt: skip
    found: list[tuple[int, dict[str, Any]]] = []
    checks: list[int] = []
    for line, cells in rows:
        if not any(cells):
            continue
        if len(cells) <= place + 3 or str(cells[place]).strip().upper() not in ITEM_TYPES:
            if found:
                raise DataError(
                    f"X01 {name}:{line}: the column of item types has {cells[place : place + 1]}"
                )
            continue  # the header
        kind = str(cells[place]).strip().upper()
        checks += [line] if kind != "TGT" else []
        document = cells[1] if place > 3 else (cells[place + 4] if len(cells) > place + 4 else "")
        item = f"{document}" if place > 3 else f"{document}#{cells[place - 1]}"
        times = [float(cell) for cell in cells[place + 4 :] if _is_timestamp(cell)]
        values = (
            item if kind == "TGT" else f"{item} ({kind})", "eval" if kind == "TGT" else "attention",
            cells[place - 2], cells[place + 1], cells[place + 2], cells[0], cells[place + 3],
            times[0] if times else None, times[1] - times[0] if len(times) > 1 else None,
        )  # fmt: skip
        found.append((line, dict(zip(header, values, strict=True))))
    findings = [
        form_finding(
            name, rows[0][0],
            f"read as an Appraise or WMT export with scores from 0 to 100 (ESA); {len(checks)} "
            f"quality-control items (BAD, REF, CHK) are in no score",
            mend="Give --scale if the scores are of another scale.",
        )
    ]  # fmt: skip
    return RawTable(
        name=name, header=header, rows=found, preset="canonical", scale="esa",
        findings=tuple(findings),
    )  # fmt: skip


def pearmut_table(name: str, records: Sequence[Any]) -> RawTable:
    """Return a row for each system, segment and rater of pearmut's output.

    The scale is ESA unless all scores are whole numbers from 1 to 5 and no error span is marked.
    """
    header = ["item_id", "system", "src_lang", "tgt_lang", "src_text", "tgt_text", "rater_id",
              "score", "duration_s"]  # fmt: skip
    rows: list[tuple[int, dict[str, Any]]] = []
    spans = 0
    for number, record in enumerate(records, 1):
        if not is_pearmut(record):
            raise DataError(f"X01 {name}:{number}: not a line with 'item' and 'annotation'")
        items = _as_list(record["item"])
        for place, (item, answers) in enumerate(
            zip(items, _as_list(record["annotation"]), strict=True)
        ):
            identity = str(item.get("item_id") or f"{record.get('item_i', number)}.{place}")
            pair = _LANGUAGE_PAIR.match(identity)
            for system, answer in (answers or {}).items():
                spans += len(answer.get("error_spans") or ())
                texts = item.get("tgt") or {}
                values = (
                    identity, system,
                    item.get("src_lang") or record.get("src_lang") or (pair[1] if pair else None),
                    item.get("tgt_lang") or record.get("tgt_lang") or (pair[2] if pair else None),
                    item.get("src"), texts.get(system) if isinstance(texts, dict) else texts,
                    record.get("user_id"), answer.get("score"), record.get("time"),
                )  # fmt: skip
                rows.append((number, dict(zip(header, values, strict=True))))
    scores = [cells["score"] for _, cells in rows if cells["score"] is not None]
    small = not spans and all(score in (1, 2, 3, 4, 5) for score in scores)
    scale: Scale = "xsts" if small else "esa"
    told = "1 to 5 (XSTS)" if small else "0 to 100 (ESA)"
    findings = [
        form_finding(name, 1, f"read as an export of pearmut with scores from {told}",
                     mend="Give --scale if the scores are of another scale.")
    ]  # fmt: skip
    return RawTable(name=name, header=header, rows=rows, preset="canonical", scale=scale,
                    findings=tuple(findings))  # fmt: skip


def mqm_table(name: str, table: RawTable) -> RawTable:
    """Return a row for each segment, system and rater of a WMT MQM table: its penalty points."""
    spelled = {column.strip().casefold(): column for column in table.header}
    points: defaultdict[tuple[str, ...], float] = defaultdict(float)
    first: dict[tuple[str, ...], tuple[int, dict[str, Any]]] = {}
    unknown: list[int] = []
    for line, cells in table.rows:
        one = {key: cells[column] for key, column in spelled.items()}
        key = tuple(str(one.get(part) or "") for part in ("system", "doc", "seg_id", "rater"))
        worth = _mqm_points(str(one["category"] or ""), str(one["severity"] or ""))
        if worth is None:
            unknown.append(line)
            continue
        points[key] += worth
        first.setdefault(key, (line, one))
    header = ["item_id", "system", "src_lang", "tgt_lang", "src_text", "tgt_text", "rater_id",
              "score"]  # fmt: skip
    rows = []
    for key, (line, one) in first.items():
        values = (
            f"{key[1]}#{key[2]}", key[0], one.get("src_lang"), one.get("tgt_lang"),
            _unmarked(one.get("source")), _unmarked(one.get("target")), one["rater"], points[key],
        )  # fmt: skip
        rows.append((line, dict(zip(header, values, strict=True))))
    form = "a table of MQM annotations, one error per row"
    read_as = (
        f"read as {form}; {plural(len(table.rows), 'row')} give the penalty points of "
        f"{plural(len(rows), 'rated segment')}"
    )
    findings = [
        *table.findings,
        form_finding(name, table.header_line, read_as,
                     mend="Give --scale and --columns if the columns have another meaning."),
    ]  # fmt: skip
    if unknown:
        findings.append(
            form_finding(
                name, unknown[0],
                f"{len(unknown)} errors have a severity that is not Neutral, Minor, Major, "
                f"Critical or No-error and are set aside ({listed_lines(unknown)})",
                mend="Correct the column 'severity'.", severity="quarantine",
            )
        )  # fmt: skip
    return RawTable(
        name=name, header=header, rows=rows, preset="canonical", scale="mqm", form=form,
        findings=tuple(findings), set_aside=len(unknown),
    )  # fmt: skip


def _mqm_points(category: str, severity: str) -> float | None:
    """Return the penalty of one error, with the exceptions of the WMT guidelines.

    Source: Freitag et al. 2021: a non-translation costs 25 points, minor punctuation 0.1.
    """
    kind, grade = category.strip().casefold(), severity.strip().casefold().replace(" ", "-")
    if grade not in SEVERITY_POINTS:
        return None
    if "non-translation" in kind and grade != "neutral":
        return 25.0
    if "punctuation" in kind and grade == "minor":
        return 0.1
    return SEVERITY_POINTS[grade]


def _unmarked(text: Any) -> str:
    return _SPAN_MARK.sub("", str(text or ""))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_language(text: str) -> bool:
    try:
        parse_language(text.strip())
    except LanguageError:
        return False
    return True


def _is_timestamp(cell: Any) -> bool:
    try:
        return float(cell) > 1e9
    except (TypeError, ValueError):
        return False
