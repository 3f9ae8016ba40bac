"""The table of checks (`codes.tsv`) and the findings that the checks report."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from nllb.io.text import read_table

from .result import FindingRecord


class Located(Protocol):
    """An object with a file and a line."""

    @property
    def file(self) -> str:
        """Name of the file; of a workbook with several sheets, with the sheet."""
        ...

    @property
    def line(self) -> int:
        """Line or spreadsheet row, counted from 1."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """One row of the table of checks."""

    severity: str
    """Default severity of the findings."""
    title: str
    """Subject of the check."""
    mend: str
    """Advice to the reader."""


@cache
def codes() -> dict[str, Code]:
    """Return the checks by code."""
    table = read_table(Path(__file__).with_name("codes.tsv"))
    return {
        row["code"]: Code(severity=row["severity"], title=row["title"], mend=row["mend"])
        for row in table
    }


def finding(
    code: str,
    message: str,
    *,
    at: Located | None = None,
    rater: str | None = None,
    severity: str | None = None,
) -> FindingRecord:
    """Return a finding with the severity and the advice of the table."""
    return FindingRecord(
        code=code,
        severity=severity or codes()[code].severity,
        file=at.file if at else "",
        line=at.line if at else None,
        rater=rater,
        message=message,
        mend=codes()[code].mend,
    )


def form_finding(
    file: str, line: int | None, message: str, *, mend: str, severity: str = "warn"
) -> FindingRecord:
    """Return a finding about the format of a file (X01) with specific advice."""
    return FindingRecord(
        code="X01", severity=severity, file=file, line=line, rater=None, message=message, mend=mend
    )


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 row`, `20 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed_lines(lines: list[int], *, shown: int = 8) -> str:
    """Return line numbers for a message, runs joined: `rows 100-109, 120`."""
    runs: list[list[int]] = []
    for line in sorted(set(lines)):
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    named = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    more = f" and {len(named) - shown} more places" if len(named) > shown else ""
    word = "row" if len(set(lines)) == 1 else "rows"
    return f"{word} {', '.join(named[:shown])}{more}"
