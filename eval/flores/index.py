"""Index of an evaluation folder: one small file in place of 40,602 rows.

From it, a run learns which target languages are unchanged and what they contribute to every mean.
The files of the targets are authoritative: the index is built from them, and rebuilt if it is
missing or does not match.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from eval.metrics.registry import UNICODE_WARNING
from nllb.errors import DataError
from nllb.io.arrays import open_arrays
from nllb.io.atomic import atomic_binary
from nllb.io.records import to_record
from nllb.io.text import parse_json

from .directions import Direction
from .target_files import Row, Summary, row_line, target_path

INDEX_FILE: Final = "index.npz"
FLAGGED_SHARE: Final = 0.02
"""Fraction of a file's lines above which a problem is reported beside the scores."""
_VERSION: Final = "4"

CellSums = Mapping[str, NDArray[np.int64]]
"""Metric -> cells x resamples: sums of resampled scores in millionths of a point."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellTotals:
    """Totals of the directions of one target in one cell."""

    rows: int
    """Directions."""
    scores: Mapping[str, tuple[int, float, float]]
    """Metric -> number of directions, sum of raw scores, sum of NFC scores."""
    flags: Mapping[str, int]
    """Code of a problem -> lines."""
    judged: int
    """Lines whose language was detected."""
    right: int
    """Number of these lines that are in the target language."""
    reference_shares: tuple[int, float]
    """Number of directions with a reference share, and the sum of the shares."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetTotals:
    """Totals of one target language."""

    target: str
    """Its code."""
    settings: str
    """Hash of everything except the hypotheses that its numbers depend on."""
    files: str
    """Hash of names, sizes and times of its hypothesis files."""
    stored: tuple[int, int] | None
    """Size and time of the target's own file; None where no direction could be scored."""
    reference_sha256: str
    """Hash of the reference sentences."""
    num_sentences: int
    """Number of reference sentences."""
    failed: Mapping[str, str]
    """Direction that could not be scored -> reason."""
    cells: Mapping[int, CellTotals]
    """Cell -> totals of its directions."""
    unicode_matters: Mapping[str, tuple[str, ...]]
    """Metric -> directions whose raw and NFC score differ by more than `UNICODE_WARNING`."""
    flagged: tuple[tuple[int, str], ...]
    """Flagged files: number of lines, and what is wrong with them."""
    lines: tuple[str, ...]
    """Its lines of scores.tsv."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """Totals of all targets of a folder."""

    targets: Mapping[str, TargetTotals]
    """Target -> totals."""
    cell_sums: CellSums
    """Over all of them."""

    def save(self, out: Path) -> None:
        """Write the index."""
        arrays: dict[str, Any] = {f"cells:{name}": sums for name, sums in self.cell_sums.items()}
        # `asdict` of everything would copy 40,602 lines.
        values = [
            {**{name: getattr(one, name) for name in one.__slots__},
             "cells": {cell: asdict(totals) for cell, totals in one.cells.items()}}
            for one in self.targets.values()
        ]  # fmt: skip
        text = json.dumps(values, ensure_ascii=False)
        arrays["targets"] = np.frombuffer(text.encode(), np.uint8)
        arrays["version"] = np.array(_VERSION)
        with atomic_binary(out / INDEX_FILE) as stream:
            np.savez(cast(Any, stream), **arrays)


def load_index(out: Path) -> Index:
    """Read the index; it is empty if the file is missing or damaged."""
    path = out / INDEX_FILE
    try:
        with open_arrays(path) as arrays:
            if str(arrays["version"]) != _VERSION:
                return Index(targets={}, cell_sums={})
            values = parse_json(arrays["targets"].tobytes(), path)
            sums = {
                key.removeprefix("cells:"): arrays[key]
                for key in arrays.files
                if key.startswith("cells:")
            }
        totals = to_record(list[TargetTotals], values, path)
    except DataError:
        return Index(targets={}, cell_sums={})
    return Index(targets={one.target: one for one in totals}, cell_sums=sums)


def total_up(
    summary: Summary | None,
    *,
    out: Path,
    target: str,
    settings: str,
    files: Mapping[Direction, Path],
    failed: Mapping[str, str],
    names: Sequence[str],
) -> TargetTotals:
    """Return the totals of a target; a `summary` of None has no scored direction."""
    rows = summary.rows if summary else []
    cells: dict[int, list[Row]] = {}
    matters: dict[str, list[str]] = {}
    flagged: list[tuple[int, str]] = []
    for row in rows:
        cells.setdefault(row.direction.cell, []).append(row)
        for name, score in row.scores.items():
            if abs(score.score - score.nfc_score) > UNICODE_WARNING:
                matters.setdefault(name, []).append(str(row.direction))
        # Another warning covers the effect of the Unicode form on the scores.
        bad = [
            found
            for found in row.findings
            if found.count > FLAGGED_SHARE * found.total and found.code != "mixed_unicode"
        ]
        if bad:
            what = "; ".join(f"{found.count:,} lines {found.words}" for found in bad)
            flagged.append((max(found.count for found in bad), f"{row.direction} ({what})"))
    return TargetTotals(
        target=target,
        settings=settings,
        files=files_hash(files),
        stored=stored_state(out, target),
        reference_sha256=summary.reference_sha256 if summary else "",
        num_sentences=summary.num_sentences if summary else 0,
        failed=failed,
        cells={cell: _cell_totals(inside) for cell, inside in cells.items()},
        unicode_matters={name: tuple(found) for name, found in matters.items()},
        flagged=tuple(flagged),
        lines=tuple(row_line(row, names) for row in rows),
    )


def _cell_totals(rows: Sequence[Row]) -> CellTotals:
    scores: dict[str, tuple[int, float, float]] = {}
    flags: Counter[str] = Counter()
    for row in rows:
        for name, score in row.scores.items():
            count, raw, nfc = scores.get(name, (0, 0.0, 0.0))
            scores[name] = (count + 1, raw + score.score, nfc + score.nfc_score)
        for finding in row.findings:
            flags[finding.code] += finding.count
    languages = [row.language for row in rows if row.language is not None]
    shares = [row.reference_share for row in rows if row.reference_share is not None]
    return CellTotals(
        rows=len(rows),
        scores=scores,
        flags=dict(flags),
        judged=sum(count.judged for count in languages),
        right=sum(count.right for count in languages),
        reference_shares=(len(shares), sum(shares)),
    )


def files_hash(files: Mapping[Direction, Path]) -> str:
    """Return a hash over names, sizes and times of files."""
    states = []
    for path in files.values():
        status = os.stat(path)
        states.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return sha256("\n".join(sorted(states)).encode()).hexdigest()


def stored_state(out: Path, target: str) -> tuple[int, int] | None:
    """Return size and time of a target's own file."""
    try:
        status = target_path(out, target).stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def add_up(sums: Iterable[CellSums], start: CellSums | None = None, sign: int = 1) -> CellSums:
    """Return `start` and all sums together (minus them where `sign` is -1)."""
    total = dict(start or {})
    for one in sums:
        for name, values in one.items():
            total[name] = total.get(name, 0) + sign * values
    return total
