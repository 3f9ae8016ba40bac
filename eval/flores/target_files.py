"""The file of one target language in the folder of an evaluation: rows and stored integers.

The file of a target is written when all its directions are scored, so that finished work is kept.
"""

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from eval.metrics.hypothesis_checks import CODES, Finding, LanguageCount
from eval.metrics.registry import StoredMetric
from nllb.errors import DataError
from nllb.io.arrays import open_arrays
from nllb.io.atomic import atomic_binary
from nllb.io.paths import is_plain_name
from nllb.io.records import to_record
from nllb.io.text import parse_json

from .directions import CELLS, Direction

TARGETS_DIR: Final = "targets"
SUM_SCALE: Final = 1_000_000
"""Sums of resampled scores are stored in millionths of a point."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricScore:
    """Scores of a direction under one metric."""

    score: float
    """Raw corpus score."""
    nfc_score: float
    """Score with both sides in NFC."""
    low: float
    """Lower end of the 95 % bootstrap interval of the raw score."""
    high: float
    """Upper end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One scored direction."""

    direction: Direction
    """The direction."""
    file: str
    """Name of the hypothesis file."""
    size: int
    """Its size in bytes."""
    mtime_ns: int
    """Its modification time, which together with the size reveals changed files."""
    sha256: str
    """Hash of its sentences."""
    scores: Mapping[str, MetricScore]
    """Metric name -> scores, without metrics that could not be computed."""
    findings: tuple[Finding, ...]
    """Problems of the file."""
    language: LanguageCount | None = None
    """Lines in the target language, if a detector was given."""
    reference_share: float | None = None
    """Fraction of the reference's lines that the detector identifies as the target
    language: the value of a perfect translation."""

    def as_json(self) -> dict[str, Any]:
        """Return the row as values for JSON."""
        return {
            **asdict(self),
            "direction": str(self.direction),
            "scores": {name: asdict(score) for name, score in self.scores.items()},
        }


def table_head(names: Sequence[str]) -> str:
    """Return the first line of scores.tsv."""
    head = ["source", "target", "kind", "level"]
    for name in names:
        head += [name, f"{name}.nfc", f"{name}.low", f"{name}.high"]
    return "\t".join([*head, *CODES, "judged", "in_target", "unsure", "reference_share", "sha256"])


def row_line(row: Row, names: Sequence[str]) -> str:
    """Return a row as a line of scores.tsv."""
    kind, level = CELLS[row.direction.cell]
    cells = [row.direction.source, row.direction.target, kind, level]
    for name in names:
        score = row.scores.get(name)
        if score is None:
            cells += [""] * 4
        else:
            numbers = (score.score, score.nfc_score, score.low, score.high)
            cells += [f"{number:.6f}" for number in numbers]
    flags = {finding.code: str(finding.count) for finding in row.findings}
    cells += [flags.get(code, "0") for code in CODES]
    if row.language is None:
        cells += [""] * 4
    else:
        share = "" if row.reference_share is None else f"{row.reference_share:.4f}"
        cells += [str(count) for count in astuple(row.language)] + [share]
    return "\t".join([*cells, row.sha256])


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetResult:
    """All directions into one language."""

    settings: str
    """Hash of everything except the hypotheses that the numbers depend on."""
    reference_sha256: str
    """Hash of the reference sentences."""
    num_sentences: int
    """Number of reference sentences."""
    rows: list[Row]
    """The directions, by source."""
    packed: Mapping[str, NDArray[Any]]
    """Metric -> directions x sentences x stored columns."""
    reference_columns: Mapping[str, NDArray[Any]]
    """Metric -> sentences x columns that depend on the reference alone."""
    cell_sums: Mapping[str, NDArray[np.int64]]
    """Metric -> cells x resamples: sums of resampled scores, for the intervals of groups, in
    millionths of a point. They are integers, so that sums can be subtracted exactly."""

    def statistics(self, metric: StoredMetric, number: int) -> NDArray[Any]:
        """Return the integers of all sentences of the direction `rows[number]`."""
        return metric.unpack(self.packed[metric.name][number], self.reference_columns[metric.name])

    def save(self, out: Path, target: str) -> None:
        """Write the target's file."""
        arrays: dict[str, Any] = {
            "head": np.array([self.settings, self.reference_sha256, str(self.num_sentences)]),
            "rows": np.frombuffer(
                json.dumps([row.as_json() for row in self.rows], ensure_ascii=False).encode(),
                np.uint8,
            ),
        }
        for name, packed in self.packed.items():
            arrays[f"packed:{name}"] = packed.astype(_smallest_type(packed))
            arrays[f"reference:{name}"] = self.reference_columns[name]
            arrays[f"cells:{name}"] = self.cell_sums[name]
        with atomic_binary(target_path(out, target)) as stream:
            np.savez(cast(Any, stream), **arrays)


def _smallest_type(values: NDArray[Any]) -> np.dtype[Any]:
    """Return the smallest integer type that has room for all values."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    return np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))


@contextmanager
def without_collection() -> Iterator[None]:
    """Pause the garbage collector, which would traverse 40,602 rows again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def target_path(out: Path, target: str) -> Path:
    """Return the path of a target's file.

    Raises:
        DataError: the target is not a language code.
    """
    if not is_plain_name(target):
        raise DataError(
            f"{out} names a target language {target[:80]!r}, which is not a language code"
        )
    return out / TARGETS_DIR / f"{target}.npz"


def load_target(out: Path, target: str) -> TargetResult:
    """Read a target's file completely.

    Raises:
        DataError: if it is missing or damaged.
    """
    path = target_path(out, target)
    with open_arrays(path) as arrays:
        names = [key.removeprefix("packed:") for key in arrays.files if key.startswith("packed:")]
        result = TargetResult(
            **_head(arrays),
            rows=_rows(arrays, path, target),
            packed={name: arrays[f"packed:{name}"] for name in names},
            reference_columns={name: arrays[f"reference:{name}"] for name in names},
            cell_sums={name: arrays[f"cells:{name}"] for name in names},
        )
    for packed, columns in zip(
        result.packed.values(), result.reference_columns.values(), strict=True
    ):
        sizes = (len(result.rows), result.num_sentences)
        if packed.ndim != 3 or packed.shape[:2] != sizes or len(columns) != result.num_sentences:
            raise DataError(
                f"{path} is damaged: its arrays have the shapes {packed.shape} and "
                f"{columns.shape} for {sizes[0]:,} directions of {sizes[1]:,} sentences; run "
                "'nllb eval flores' again"
            )
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A target's file without the integers of sentences."""

    settings: str
    """As in `TargetResult`."""
    reference_sha256: str
    """As in `TargetResult`."""
    num_sentences: int
    """As in `TargetResult`."""
    rows: list[Row]
    """As in `TargetResult`."""
    cell_sums: Mapping[str, NDArray[np.int64]]
    """As in `TargetResult`."""


def load_summary(out: Path, target: str) -> Summary | None:
    """Return the summary of a target's file, or None if it is missing or damaged."""
    try:
        path = target_path(out, target)
        with open_arrays(path) as arrays:
            sums = {
                key.removeprefix("cells:"): arrays[key]
                for key in arrays.files
                if key.startswith("cells:")
            }
            return Summary(**_head(arrays), rows=_rows(arrays, path, target), cell_sums=sums)
    except DataError:
        return None


def _head(arrays: Any) -> dict[str, Any]:
    settings, reference_sha256, num_sentences = arrays["head"].tolist()
    return {
        "settings": settings,
        "reference_sha256": reference_sha256,
        "num_sentences": int(num_sentences),
    }


def _rows(arrays: Any, path: Path, target: str) -> list[Row]:
    values = parse_json(arrays["rows"].tobytes(), path)
    rows = to_record(list[Row], [_row_fields(value) for value in values], path)
    for row in rows:
        if row.direction.target != target or not is_plain_name(row.direction.source):
            raise DataError(
                f"{path} has a direction {str(row.direction)[:80]!r}, which belongs to another "
                f"target"
            )
        if not is_plain_name(row.file):
            raise DataError(f"{path}: {row.file[:80]!r} is not the name of a file of outputs")
    return rows


def _row_fields(value: dict[str, Any]) -> dict[str, Any]:
    source, _, target = value["direction"].partition("-")
    return {**value, "direction": {"source": source, "target": target}}
