"""Score a folder of outputs `SRC-TGT.txt` against a line-aligned test set, by target language.

All directions into a language share its reference. A target language is therefore the unit of work:
one process scores it, one file stores it, and a restart can skip it.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval.metrics.hypothesis_checks import (
    Detect,
    check_hypothesis,
    check_language,
    read_hypothesis,
)
from eval.metrics.neural import neural_score
from eval.metrics.neural_metric import NeuralMetric
from eval.metrics.registry import Measurement, Metric, MetricChoice, Reference, StoredMetric
from eval.metrics.significance import RESAMPLES, SEED, bootstrap_weights, intervals, replicates
from nllb.errors import DataError, NllbError, ResourceError
from nllb.io.benchmarks import LineAlignedSet, sentences_sha256
from nllb.io.progress import Progress
from nllb.io.text import write_lines

from .aggregation import summarise
from .directions import CELLS, Direction
from .index import (
    CellSums,
    Index,
    TargetTotals,
    add_up,
    files_hash,
    load_index,
    stored_state,
    total_up,
)
from .results import SCORES_FILE, Evaluation
from .target_files import (
    SUM_SCALE,
    MetricScore,
    Row,
    Summary,
    TargetResult,
    load_summary,
    load_target,
    table_head,
    target_path,
)

FORMAT: Final = 4
"""Incremented when stored integers change their meaning: older results are computed again."""
_FEW_DIRECTIONS: Final = 16
"""Number of directions up to which no worker processes are started."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Everything that scoring one target language needs; sent to worker processes."""

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
        out: folder for the results; valid results in it are kept.
        choice: metrics.
        system: name for reports.
        outputs: folder that the files came from, for the record.
        wanted: directions to report on; those without a file are listed as missing.
        workers: processes.
        detect: identifies the language of texts, to count lines in a wrong language.
        made_by: how the hypotheses were made, for the record: model, search.
        unmade: directions that could not be translated, with the reasons.
        quiet: no progress on stderr.
    """
    failed = dict(unmade or {})
    absent = [str(direction) for direction in wanted if direction not in files]
    if len(absent) == len(wanted):
        why = f": {next(iter(failed.values()))}" if failed else ""
        raise DataError(f"{outputs} has none of the {len(wanted):,} requested directions{why}")
    by_target: dict[str, dict[Direction, Path]] = {}
    for direction in wanted:
        if (path := files.get(direction)) is not None:
            by_target.setdefault(direction.target, {})[direction] = path
    works = []
    for target, members in by_target.items():
        work = Work(
            out=out, target=target, files=members, benchmark=benchmark, choice=choice,
            settings=_settings(benchmark, target, choice, detect), detect=detect,
        )  # fmt: skip
        works.append(work)
    index = load_index(out)
    kept = {
        work.target: totals
        for work in works
        if (totals := index.targets.get(work.target)) is not None and _fits(totals, work)
    }
    cell_sums = _kept_sums(index, kept, out)
    others = [work for work in works if work.target not in kept]
    done = {work.target for work in others if _is_done(work)}
    stale = [work for work in others if work.target not in done]
    targets = list(kept.values())
    changed = sum(len(work.files) for work in stale)
    with Progress("scoring", total=changed, unit="directions", quiet=quiet) as progress:
        finished = ((work, dict[str, str]()) for work in others if work.target in done)
        for work, failures in chain(
            finished, _run(stale, 1 if changed <= _FEW_DIRECTIONS else workers)
        ):
            summary = load_summary(out, work.target)
            targets.append(_total_up(work, summary, failures))
            cell_sums = add_up([summary.cell_sums] if summary else [], cell_sums)
            if work.target not in done:
                progress.advance(len(work.files), work.target)
    evaluation = summarise(
        targets, cell_sums, missing=[name for name in absent if name not in failed],
        unmade=failed, benchmark=benchmark, choice=choice, system=system, outputs=outputs, out=out,
        made_by=made_by or {},
    )  # fmt: skip
    lines = sorted(line for one in targets for line in one.lines)
    write_lines(out / SCORES_FILE, [table_head(choice.all_names), *lines])
    evaluation.save()
    if others or len(kept) < len(index.targets):
        Index(targets={one.target: one for one in targets}, cell_sums=cell_sums).save(out)
    return evaluation


def _fits(totals: TargetTotals, work: Work) -> bool:
    return (
        totals.settings == work.settings
        and totals.stored == stored_state(work.out, work.target)
        and totals.files == files_hash(work.files)
    )


def _kept_sums(index: Index, kept: Mapping[str, TargetTotals], out: Path) -> CellSums:
    """Return the sums over the kept targets: those of the index without the other targets."""
    others = [one for target, one in index.targets.items() if target not in kept]
    if len(others) < len(kept) and all(
        one.stored == stored_state(out, one.target) for one in others
    ):
        gone = (load_summary(out, one.target) for one in others)
        return add_up((one.cell_sums for one in gone if one), index.cell_sums, sign=-1)
    return add_up(one.cell_sums for target in kept if (one := load_summary(out, target)))


def _is_done(work: Work) -> bool:
    """Return whether an interrupted run has scored this target."""
    summary = load_summary(work.out, work.target)
    if summary is None or summary.settings != work.settings:
        return False
    known = {row.direction: row for row in summary.rows}
    return known.keys() == work.files.keys() and all(
        _is_same(known[direction], path) for direction, path in work.files.items()
    )


def _is_same(row: Row, path: Path) -> bool:
    status = path.stat()
    return (row.size, row.mtime_ns) == (status.st_size, status.st_mtime_ns)


def _total_up(work: Work, summary: Summary | None, failed: Mapping[str, str]) -> TargetTotals:
    return total_up(
        summary,
        out=work.out,
        target=work.target,
        settings=work.settings,
        files=work.files,
        failed=failed,
        names=work.choice.all_names,
    )


def score_target(work: Work) -> dict[str, str]:
    """Score all directions into one language, reusing what has not changed.

    Returns: directions that failed, with the reason; everything else is in the target's file.
    """
    reference = Reference(work.benchmark.sentences(work.target), work.target)
    metrics = _metrics(work)
    old = _reusable(work)
    places = {row.direction: number for number, row in enumerate(old.rows)} if old else {}
    share = None
    if work.detect is not None:
        share = (
            old.rows[0].reference_share
            if old
            else check_language(reference.sentences, work.target, work.detect)[0].share
        )
    rows: list[Row] = []
    fresh: list[int] = []
    packed: dict[str, list[NDArray[Any]]] = {metric.name: [] for metric in metrics}
    reference_columns = dict(old.reference_columns) if old else {}
    failed: dict[str, str] = {}
    for direction, path in work.files.items():
        place = places.get(direction)
        if old and place is not None and _is_same(old.rows[place], path):
            rows.append(old.rows[place])
            for name, columns in old.packed.items():
                packed[name].append(columns[place])
            del places[direction]
            continue
        try:
            row, measured = _measure(
                work, direction, path, reference=reference, metrics=metrics, reference_share=share
            )
        except NllbError as error:
            failed[str(direction)] = str(error)
            continue
        for metric in metrics:
            statistics = measured[metric.name].statistics
            packed[metric.name].append(metric.pack(statistics))
            reference_columns[metric.name] = metric.reference_columns(statistics)
        fresh.append(len(rows))
        rows.append(replace(row, reference_share=share))
    if not rows:
        target_path(work.out, work.target).unlink(missing_ok=True)
        return failed
    stacked = {name: np.stack(parts) for name, parts in packed.items()}
    cell_sums: dict[str, NDArray[np.int64]] = {}
    for metric in metrics:
        columns = reference_columns[metric.name]
        samples = _samples(metric, stacked[metric.name][fresh], columns)
        for number, (low, high) in zip(fresh, intervals(samples).tolist(), strict=True):
            score = replace(rows[number].scores[metric.name], low=low, high=high)
            rows[number] = replace(rows[number], scores={**rows[number].scores, metric.name: score})
        sums = _by_cell(samples, [rows[number] for number in fresh])
        if old:
            # The remaining directions in `places` were changed or are no longer requested.
            gone = sorted(places.values())
            samples = _samples(metric, old.packed[metric.name][gone], columns)
            sums += old.cell_sums[metric.name] - _by_cell(samples, [old.rows[n] for n in gone])
        cell_sums[metric.name] = sums
    TargetResult(
        settings=work.settings,
        reference_sha256=reference.sha256,
        num_sentences=len(reference.sentences),
        rows=rows,
        packed=stacked,
        reference_columns=reference_columns,
        cell_sums=cell_sums,
    ).save(work.out, work.target)
    return failed


def _measure(
    work: Work,
    direction: Direction,
    path: Path,
    *,
    reference: Reference,
    metrics: Sequence[Metric | NeuralMetric],
    reference_share: float | None,
) -> tuple[Row, dict[str, Measurement]]:
    status = path.stat()
    sentences, findings = read_hypothesis(path, expected=len(reference.sentences))
    source = work.benchmark.sentences(direction.source)
    findings += check_hypothesis(sentences, reference.sentences, source=source)
    language = None
    if work.detect is not None:
        language, wrong = check_language(
            sentences, direction.target, work.detect, expected_share=reference_share
        )
        findings += wrong
    measured = {
        metric.name: _neural(work, metric, direction, sentences, reference)
        if isinstance(metric, NeuralMetric)
        else reference.measure(metric, sentences)
        for metric in metrics
    }
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


def _neural(
    work: Work,
    metric: NeuralMetric,
    direction: Direction,
    sentences: Sequence[str],
    reference: Reference,
) -> Measurement:
    choice = work.choice.neural
    assert choice is not None
    source = work.benchmark.sentences(direction.source)
    found = neural_score(
        choice.command,
        list(zip(source, sentences, reference.sentences, strict=True)),
        source=direction.source,
        target=direction.target,
        model=choice.model,
        cache_dir=choice.cache_dir,
    )
    statistics = metric.from_scores(found.scores)
    score = float(metric.score(statistics.sum(axis=0, dtype=np.int64)))
    return Measurement(score=score, nfc_score=score, statistics=statistics)


def _samples(
    metric: StoredMetric, packed: NDArray[Any], reference_columns: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the resampled scores of directions, directions x resamples."""
    statistics = metric.unpack(packed, reference_columns)
    return replicates(metric, statistics, bootstrap_weights(statistics.shape[1]))


def _by_cell(samples: NDArray[np.float64], rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the sums of resampled scores over the directions of each cell."""
    whole = np.rint(SUM_SCALE * samples).astype(np.int64)
    cells = np.array([row.direction.cell for row in rows], dtype=np.int64)
    return np.stack([whole[cells == cell].sum(axis=0) for cell in range(len(CELLS))])


def _metrics(work: Work) -> list[Metric | NeuralMetric]:
    found: list[Metric | NeuralMetric] = []
    for name in work.choice.names:
        try:
            found.append(work.choice.metric(name, work.target))
        except ResourceError:
            continue  # the evaluation's warnings name it
    if work.choice.neural is not None:
        found.append(NeuralMetric(work.choice.neural.metric_name))
    return found


def _reusable(work: Work) -> TargetResult | None:
    try:
        old = load_target(work.out, work.target)
    except DataError:
        return None
    return old if old.settings == work.settings else None


def _settings(
    benchmark: LineAlignedSet, target: str, choice: MetricChoice, detect: Detect | None
) -> str:
    """Return a hash of everything except the hypotheses that a target's numbers depend on."""
    path = benchmark.path(target)
    value = {
        "format": FORMAT,
        "reference": [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns],
        "limit": benchmark.limit,
        "signatures": choice.signatures(target),
        "resamples": [RESAMPLES, SEED],
        "detector": "" if detect is None else getattr(detect, "identity", repr(type(detect))),
    }
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _run(works: Sequence[Work], workers: int) -> Iterator[tuple[Work, dict[str, str]]]:
    if min(workers, len(works)) <= 1:
        for work in works:
            yield work, score_target(work)
        return
    # The largest come first, so that the processes end at about the same time.
    works = sorted(works, key=lambda work: -len(work.files))
    with (
        _one_thread_each(),
        ProcessPoolExecutor(min(workers, len(works)), mp_context=get_context("spawn")) as pool,
    ):
        pending = {pool.submit(score_target, work): work for work in works}
        try:
            for future in as_completed(pending):
                yield pending[future], future.result()
        except BrokenProcessPool as error:
            raise ResourceError(
                "scoring: a worker process was killed, probably because memory ran out; finished "
                "targets are kept: run the command again with fewer --workers"
            ) from error
        finally:  # an interrupted run does not score the remaining targets first
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limit the matrix products of started processes to one thread: they share the processors."""
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
