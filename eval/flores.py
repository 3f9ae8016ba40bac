"""Score a folder of outputs `SRC-TGT.txt` against a line-aligned test set, by target language.

All directions into a language share its reference, so a target is the unit of work: of a process,
of the result file, and of what a restart can skip.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval.aggregation import summarise
from eval.checks import (
    Detect,
    check_hypothesis,
    check_language,
    read_hypothesis,
)
from eval.directions import CELLS, Direction
from eval.metrics import Measurement, Metric, MetricChoice, Reference
from eval.results import (
    Evaluation,
    MetricScore,
    Row,
    Summary,
    TargetResult,
    load_summary,
    load_target,
    target_path,
    without_collection,
)
from eval.significance import RESAMPLES, SEED, bootstrap_weights, intervals, replicates
from nllb.benchmarks import LineAlignedSet, sentences_sha256
from nllb.errors import DataError, NllbError, ResourceError
from nllb.progress import Progress

FORMAT: Final = 2
"""Raised when stored integers change their meaning: older results are then computed again."""
_FEW: Final = 16
"""Directions that are not worth starting processes for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What scoring one target language needs; travels to worker processes."""

    out: Path
    target: str
    files: Mapping[Direction, Path]
    benchmark: LineAlignedSet
    choice: MetricChoice
    settings: str
    detect: Detect | None


def score_outputs(
    files: Mapping[Direction, Path],
    *,
    benchmark: LineAlignedSet,
    out: Path,
    choice: MetricChoice,
    system: str,
    outputs: Path,
    wanted: Sequence[Direction],
    workers: int = 2,
    detect: Detect | None = None,
    made_by: Mapping[str, str] | None = None,
    unmade: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Score the files of the wanted directions and write the folder `out`; resumes.

    Args:
        files: hypothesis file of each direction that has one.
        benchmark: references and sources.
        out: folder for the results; what it holds already and is still valid is kept.
        choice: metrics.
        system: name for reports.
        outputs: folder that the files came from, for the record.
        wanted: directions to report on; those without a file are listed as missing.
        workers: processes.
        detect: names the language of texts, to count lines in the wrong one.
        made_by: how the hypotheses came about, for the record: model, search.
        unmade: directions that could not be translated, and why.
        quiet: no progress on stderr.
    """
    failed = dict(unmade or {})
    absent = [str(direction) for direction in wanted if direction not in files]
    if len(absent) == len(wanted):
        why = f": {next(iter(failed.values()))}" if failed else ""
        raise DataError(
            f"{outputs} has none of the {len(wanted):,} directions that were asked for{why}"
        )
    by_target: dict[str, dict[Direction, Path]] = {}
    for direction in wanted:
        if direction in files:
            by_target.setdefault(direction.target, {})[direction] = files[direction]
    works = []
    for target, members in by_target.items():
        work = Work(
            out=out, target=target, files=members, benchmark=benchmark, choice=choice,
            settings=_settings(benchmark, target, choice, detect), detect=detect,
        )  # fmt: skip
        works.append(work)
    with without_collection():
        summaries = {work.target: load_summary(out, work.target) for work in works}
    stale = [work for work in works if not _is_fresh(work, summaries[work.target])]
    changed = sum(len(work.files) for work in stale)
    with Progress("scoring", total=changed, unit="directions", quiet=quiet) as progress:
        for work, faults in _run(stale, 1 if changed <= _FEW else workers):
            failed.update(faults)
            summaries[work.target] = load_summary(out, work.target)
            progress.advance(len(work.files), work.target)
    found = [summary for work in works if (summary := summaries[work.target]) is not None]
    evaluation = summarise(
        found, failed=failed,
        missing=[name for name in absent if name not in failed], benchmark=benchmark, choice=choice,
        system=system, outputs=outputs, out=out, made_by=made_by or {},
    )  # fmt: skip
    evaluation.save()
    return evaluation


def score_target(work: Work) -> dict[str, str]:
    """Score all directions into one language, reusing what has not changed.

    Returns: directions that failed, with the reason; everything else is in the target's file.
    """
    reference = Reference(work.benchmark.sentences(work.target), work.target)
    metrics = _metrics(work)
    share = None
    if work.detect is not None:
        share = check_language(reference.sentences, work.target, work.detect)[0].share
    old = _reusable(work)
    rows: list[Row] = []
    packed: dict[str, list[NDArray[Any]]] = {metric.name: [] for metric in metrics}
    reference_columns: dict[str, NDArray[Any]] = {}
    failed: dict[str, str] = {}
    for direction, path in work.files.items():
        status = path.stat()
        kept = old.get(direction)
        if kept is not None and (kept[0].size, kept[0].mtime_ns) == (
            status.st_size,
            status.st_mtime_ns,
        ):
            rows.append(kept[0])
            for name, columns in kept[1].items():
                packed[name].append(columns)
            reference_columns |= kept[2]
            continue
        try:
            row, measured = _measure(work, direction, path, reference, metrics)
        except NllbError as error:
            failed[str(direction)] = str(error)
            continue
        for metric in metrics:
            statistics = measured[metric.name].statistics
            packed[metric.name].append(metric.pack(statistics))
            reference_columns[metric.name] = metric.reference_columns(statistics)
        rows.append(replace(row, reference_share=share))
    if rows:
        stacked = {name: np.stack(parts) for name, parts in packed.items()}
        rows, cell_sums = _resample(rows, metrics, stacked, reference_columns)
        TargetResult(
            settings=work.settings,
            reference_sha256=reference.sha256,
            num_sentences=len(reference.sentences),
            rows=rows,
            packed=stacked,
            reference_columns=reference_columns,
            cell_sums=cell_sums,
        ).save(work.out, work.target)
    else:
        target_path(work.out, work.target).unlink(missing_ok=True)
    return failed


def _measure(
    work: Work,
    direction: Direction,
    path: Path,
    reference: Reference,
    metrics: Sequence[Metric],
) -> tuple[Row, dict[str, Measurement]]:
    status = path.stat()
    sentences, findings = read_hypothesis(path, expected=len(reference.sentences))
    source = work.benchmark.sentences(direction.source)
    findings += check_hypothesis(sentences, reference.sentences, source=source)
    language = None
    if work.detect is not None:
        language, wrong = check_language(sentences, direction.target, work.detect)
        findings += wrong
    measured = {metric.name: reference.measure(metric, sentences) for metric in metrics}
    row = Row(
        direction=direction,
        file=path.name,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=sentences_sha256(sentences),
        scores={
            name: MetricScore(score=m.score, nfc_score=m.nfc_score, low=0.0, high=0.0)
            for name, m in measured.items()
        },
        findings=tuple(findings),
        language=language,
    )
    return row, measured


def _resample(
    rows: Sequence[Row],
    metrics: Sequence[Metric],
    packed: Mapping[str, NDArray[Any]],
    reference_columns: Mapping[str, NDArray[Any]],
) -> tuple[list[Row], dict[str, NDArray[np.float64]]]:
    """Add bootstrap intervals to the rows, and sum the resampled scores by cell."""
    cells = np.array([row.direction.cell for row in rows])
    sums: dict[str, NDArray[np.float64]] = {}
    found: list[dict[str, MetricScore]] = [{} for _ in rows]
    for metric in metrics:
        statistics = metric.unpack(packed[metric.name], reference_columns[metric.name])
        samples = replicates(metric, statistics, bootstrap_weights(statistics.shape[1]))
        sums[metric.name] = np.stack([samples[cells == c].sum(axis=0) for c in range(len(CELLS))])
        for row, scores, (low, high) in zip(rows, found, intervals(samples).tolist(), strict=True):
            old = row.scores[metric.name]
            scores[metric.name] = MetricScore(
                score=old.score, nfc_score=old.nfc_score, low=low, high=high
            )
    rows = [replace(row, scores=scores) for row, scores in zip(rows, found, strict=True)]
    return rows, sums


def _metrics(work: Work) -> list[Metric]:
    found = []
    for name in work.choice.names:
        try:
            found.append(work.choice.metric(name, work.target))
        except ResourceError:
            continue  # named in the evaluation's notes
    return found


def _reusable(work: Work) -> dict[Direction, tuple[Row, dict[str, Any], dict[str, Any]]]:
    try:
        old = load_target(work.out, work.target)
    except DataError:
        return {}
    if old.settings != work.settings:
        return {}
    return {
        row.direction: (
            row,
            {name: packed[number] for name, packed in old.packed.items()},
            dict(old.reference_columns),
        )
        for number, row in enumerate(old.rows)
    }


def _is_fresh(work: Work, summary: Summary | None) -> bool:
    if summary is None or summary.settings != work.settings:
        return False
    known = {row.direction: row for row in summary.rows}
    if known.keys() != work.files.keys():
        return False
    for direction, path in work.files.items():
        status, row = path.stat(), known[direction]
        if (row.size, row.mtime_ns) != (status.st_size, status.st_mtime_ns):
            return False
    return True


def _settings(
    benchmark: LineAlignedSet, target: str, choice: MetricChoice, detect: Detect | None
) -> str:
    """Return a hash of all that a target's numbers depend on but its hypotheses."""
    path = benchmark.path(target)
    value = {
        "format": FORMAT,
        "reference": [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns],
        "signatures": choice.signatures(target),
        "resamples": [RESAMPLES, SEED],
        "detector": detect is not None,
    }
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _run(works: Sequence[Work], workers: int) -> Iterator[tuple[Work, dict[str, str]]]:
    if min(workers, len(works)) <= 1:
        for work in works:
            yield work, score_target(work)
        return
    # Largest first, so that the processes end together.
    works = sorted(works, key=lambda work: -len(work.files))
    with (
        _one_thread_each(),
        ProcessPoolExecutor(min(workers, len(works)), mp_context=get_context("spawn")) as pool,
    ):
        pending = {pool.submit(score_target, work): work for work in works}
        for future in as_completed(pending):
            yield pending[future], future.result()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let matrix products of started processes use one thread: they share the processors."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
