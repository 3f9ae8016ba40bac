"""Raters' ids: pseudonyms for all of them, and ids that differ only in case or spacing."""

from collections import defaultdict
from collections.abc import Sequence

from .cells import cell_text, is_personal, rater_key
from .findings import Located, finding, listed_lines
from .ingestion import Row
from .result import FindingRecord


def rater_of(row: Row) -> str:
    """Return the rater of a row as it is in the file."""
    return cell_text(row.cells["rater"])


def name_raters(
    rows: Sequence[Row], *, keep_ids: bool, merge: bool
) -> tuple[dict[str, str], list[FindingRecord]]:
    """Return the name that is used for each rater id, and the findings.

    Args:
        rows: all rows of a study.
        keep_ids: show the ids of the files; otherwise every rater gets a pseudonym `person-1`, ...
            in the order of the ids.
        merge: join ids that differ only in case, width or spacing.
    """
    lines: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        lines[rater_of(row)].append(row)
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for rater in sorted(lines, key=lambda one: (rater_key(one), one)):
        alike[rater_key(rater)].append(rater)
    persons = [[one] for ids in alike.values() for one in ids]
    if merge:
        persons = list(alike.values())
    digits = len(str(len(persons)))
    names = {}
    for number, ids in enumerate(persons, 1):
        name = (
            max(ids, key=lambda one: len(lines[one])) if keep_ids else f"person-{number:0{digits}}"
        )
        names.update(dict.fromkeys(ids, name))
    found = list(_look_alikes(alike, lines, names, merged=merge))
    if keep_ids:
        found += _personal(lines)
    return names, found


def _look_alikes(
    alike: dict[str, list[str]],
    lines: dict[str, list[Row]],
    names: dict[str, str],
    *,
    merged: bool,
) -> list[FindingRecord]:
    found = []
    for spellings in alike.values():
        if len(spellings) < 2:
            continue
        # The rarer spellings are probably typing mistakes: their rows are named.
        ids = sorted(spellings, key=lambda one: -len(lines[one]))
        rows = [row for one in ids[1:] for row in lines[one]]
        places = listed_lines([row.line for row in rows])
        shown = ", ".join(dict.fromkeys(names[one] for one in ids))
        message = (
            f"{len(ids)} spellings of one rater id are joined under {shown} ({places})"
            if merged
            else f"the ids of raters {shown} differ only in case or spacing ({places})"
        )
        found.append(finding("X17", message, at=rows[0], rater=names[ids[0]]))
    return found


def _personal(lines: dict[str, list[Row]]) -> list[FindingRecord]:
    first: list[Located] = [rows[0] for rater, rows in lines.items() if is_personal(rater)]
    if not first:
        return []
    at = min(first, key=lambda row: (row.file, row.line))
    message = f"{len(first)} rater ids look like e-mail addresses, numbers or names (the first "
    "here)"
    return [finding("X16", message, at=at)]
