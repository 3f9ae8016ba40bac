"""External deduplication: sorted runs of hashes on disk, merged one hash range at a time.

The stage has three phases of independent tasks. `runs` writes a file of (hash, row), sorted by
hash, for every block of lines. `merge` reads one range of the hash space from all runs, sorts it,
and writes the duplicates of each group of equal hashes, by block. `apply` writes the decisions of
every block. Which line is kept depends only on the order of blocks and rows, and not on the number
of ranges, workers, shards or restarts.

Lines are compared within their language pair, in either direction: the hash of the pair is combined
with that of the text, so that one pass serves all pairs. Source: NLLB Team 2022, section 5.3, which
uses the same hash, XXH3-64 of the normalized text with source and target joined by a tab.

Two optional passes use the same phases. The first one drops all copies of text that is repeated
very often (boilerplate). The last one drops near-duplicates: a line has one hash per band of its
MinHash signature, and is dropped if an earlier line has one of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy
import polars
from numpy.typing import NDArray

from data_pipeline.blocks import (
    DecidedBlock,
    read_columns,
    read_first_rows,
    reasons,
    write_decisions,
)
from data_pipeline.data_config import DataConfig, DedupConfig
from data_pipeline.stages import (
    Block,
    BlockTask,
    Machine,
    Phase,
    require_phase,
    run_tasks,
)
from nllb.config.fingerprints import fingerprint
from nllb.errors import DataError

from .hash_files import (
    ROW,
    SCORE,
    WORD,
    Duplicates,
    HashRun,
    duplicates,
    write_hash_run,
)
from .hashing import hash_texts, joined_sides, pair_salt
from .minhash import band_hashes
from .passes import DedupPass, dedup_passes

VERSION = 1
STAGE = "dedup"
PHASES: Final[tuple[Phase, ...]] = ("runs", "merge", "apply")
BYTES_PER_ROW = 96
"""Peak memory of a merge per row of its range: hash, row, score, and the arrays of the sort."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTask:
    """Hash the rows of one block that earlier stages have kept.

    Attributes:
        decided: the block and the decisions of earlier stages.
        number: position of the block in the order of all blocks.
        step: the pass that the run belongs to.
        config: settings of hashing.
        merged: merged ranges of earlier passes; the duplicates that they list are skipped.
        directory: folder of the stage.
        key: hash of everything that the content depends on.
    """

    decided: DecidedBlock
    number: int
    step: DedupPass
    config: DedupConfig
    merged: tuple[Path, ...]
    directory: Path
    key: str

    @property
    def output(self) -> Path:
        """The file of the run."""
        name = f"{self.decided.block.name}.{self.key}.run"
        return self.directory / "runs" / self.step.name / name


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeTask:
    """Find the duplicates in one range of the hash space.

    Attributes:
        runs: all runs of the pass, in the order of the blocks.
        number: number of the range.
        num_ranges: number of ranges, a power of two.
        step: the pass that the range belongs to.
        config: settings that determine which row is kept.
        directory: folder of the stage.
        key: hash of everything that the content depends on.
    """

    runs: tuple[Path, ...]
    number: int
    num_ranges: int
    step: DedupPass
    config: DedupConfig
    directory: Path
    key: str

    @property
    def output(self) -> Path:
        """The file of duplicates, by block."""
        return (
            self.directory
            / "merge"
            / f"{self.key}.{self.number:05d}-of-{self.num_ranges:05d}.losers"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplyTask(BlockTask):
    """Write the decisions about one block.

    Attributes:
        decided: the block and the decisions of earlier stages.
        number: position of the block in the order of all blocks.
        passes: reason and merged ranges of every pass.
    """

    decided: DecidedBlock
    number: int
    passes: tuple[tuple[str, tuple[Path, ...]], ...]


def deduplicate(
    config: DataConfig,
    decided: Sequence[DecidedBlock],
    out: Path,
    machine: Machine,
    phase: Phase | None = None,
) -> list[Block]:
    """Run all phases, or the given one, and return the blocks of decisions.

    Raises:
        ConfigError: if one shard of several is asked to run all phases.
    """
    require_phase("dedup", PHASES, phase, machine)
    plan = _plan(config.dedup, decided, out / STAGE, machine.memory)
    many_passes = len(plan.passes) > 1
    for number, (name, runs, merges) in enumerate(plan.passes):
        label = f"dedup {name} " if many_passes else "dedup "
        if phase in (None, "runs"):
            if not _exist(merges for _, _, merges in plan.passes[:number]):
                break  # with --phase, the previous pass is not merged yet
            run_tasks(label + "runs", runs, write_run, machine)
        if phase in (None, "merge"):
            if number > 0 and not _exist([runs]):
                break
            _require(runs, "runs")
            run_tasks(label + "merge", merges, write_duplicates, machine)
    if phase in (None, "apply"):
        for _, _, merges in plan.passes:
            _require(merges, "merge")
        run_tasks("dedup apply", plan.apply, write_block, machine)
    return [task.block for task in plan.apply]


def deduplicated_blocks(
    config: DataConfig, decided: Sequence[DecidedBlock], out: Path
) -> list[Block]:
    """Return the blocks of decisions, finished or not."""
    directory = out / STAGE
    key = _pass_keys(config.dedup, decided)[-1]
    return [item.block.derive(directory / "blocks", STAGE, VERSION, key) for item in decided]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    passes: list[tuple[str, list[RunTask], list[MergeTask]]]
    apply: list[ApplyTask]


def _pass_keys(config: DedupConfig, decided: Sequence[DecidedBlock]) -> list[str]:
    """Return the key of each pass, a hash of everything that its result depends on."""
    key = fingerprint(
        VERSION,
        [config.normalization, config.bits, config.winner],
        [[item.block.name, *item.key] for item in decided],
    )
    keys = []
    for step in dedup_passes(config):
        key = fingerprint(key, step.by, step.max_copies, step.max_repetitions, step.near)
        keys.append(key)
    return keys


def _plan(
    config: DedupConfig, decided: Sequence[DecidedBlock], directory: Path, memory: int
) -> _Plan:
    num_rows = sum(item.block.num_rows for item in decided)
    passes: list[tuple[str, list[RunTask], list[MergeTask]]] = []
    before: tuple[Path, ...] = ()
    before_key = ""
    found = dedup_passes(config)
    for step, key in zip(found, _pass_keys(config, decided), strict=True):
        num_ranges = 1
        while num_rows * step.hashes_per_row * BYTES_PER_ROW / num_ranges > memory / 2:
            num_ranges *= 2
        runs = [
            RunTask(
                decided=item,
                number=number,
                step=step,
                config=config,
                merged=before,
                directory=directory,
                key=_run_key(config, step, item, before_key),
            )
            for number, item in enumerate(decided)
        ]
        merges = [
            MergeTask(
                runs=tuple(task.output for task in runs),
                number=number,
                num_ranges=num_ranges,
                step=step,
                config=config,
                directory=directory,
                key=key,
            )
            for number in range(num_ranges)
        ]
        passes.append((step.name, runs, merges))
        before, before_key = (*before, *(task.output for task in merges)), key
    reasons_and_merges = tuple(
        (step.reason, tuple(task.output for task in merges))
        for step, (_, _, merges) in zip(found, passes, strict=True)
    )
    apply = [
        ApplyTask(
            decided=item,
            number=number,
            passes=reasons_and_merges,
            block=item.block.derive(directory / "blocks", STAGE, VERSION, before_key),
        )
        for number, item in enumerate(decided)
    ]
    return _Plan(passes=passes, apply=apply)


def _run_key(config: DedupConfig, step: DedupPass, item: DecidedBlock, before_key: str) -> str:
    return fingerprint(
        VERSION,
        [step.by, step.near],
        [config.normalization, config.bits, config.winner, before_key],
        item.key,
    )


def _exist(tasks: Iterable[Sequence[RunTask] | Sequence[MergeTask]]) -> bool:
    return all(task.output.exists() for some in tasks for task in some)


def _require(tasks: Sequence[RunTask] | Sequence[MergeTask], phase: str) -> None:
    missing = [task.output for task in tasks if not task.output.exists()]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(tasks):,} files are missing, the first is {missing[0]}; "
            f"run all shards with --phase {phase} first, with the same --memory"
        )


def write_run(task: RunTask) -> None:
    """Write the sorted hashes of one block and their rows."""
    block = task.decided.block
    config = task.config
    alive = reasons(task.decided.decisions).is_null().to_numpy(writable=True)
    for merged in task.merged:
        alive[duplicates(merged).rows_of_block(task.number)] = False
    rows = numpy.flatnonzero(alive).astype(ROW)
    columns = ["source", "target"] + (["margin"] if config.winner == "best_margin" else [])
    text = read_columns(block.path, columns).filter(polars.Series(alive))
    salt = pair_salt(block, task.step.by)
    hashes = _hashes(text, task) ^ salt
    if task.step.near is not None:
        rows, text, hashes = _one_row_per_band(rows, text, hashes, task.step.by)
    order = _order(hashes)
    scores = numpy.zeros(0, dtype=SCORE)
    if config.winner == "best_margin":
        scores = text["margin"].fill_null(float("nan")).to_numpy().astype(SCORE)[order]
    write_hash_run(task.output, hashes[order], rows[order], scores)


def _hashes(text: polars.DataFrame, task: RunTask) -> NDArray[numpy.uint64]:
    """Return the hashes of the lines, shape (lines, words); for MinHash (lines, bands)."""
    near, block = task.step.near, task.decided.block
    if near is None:
        sides = joined_sides(text, block, task.step.by, task.config.normalization)
        return hash_texts(sides, task.config.bits)
    return band_hashes(joined_sides(text, block, task.step.by, "letters"), near)


def _one_row_per_band(
    rows: NDArray[Any], text: polars.DataFrame, hashes: NDArray[numpy.uint64], by: str
) -> tuple[NDArray[Any], polars.DataFrame, NDArray[numpy.uint64]]:
    """Repeat every row for each of its band hashes; lines without letters have none."""
    sides = ["source", "target"] if by == "pair" else [by]
    has_text = text.select(
        polars.any_horizontal(polars.col(sides).str.contains(r"[\p{L}\p{N}]"))
    ).to_series()
    chosen = has_text.arg_true().to_numpy()
    places = numpy.repeat(chosen, hashes.shape[1])
    return rows[places], text[places], hashes[chosen].reshape(-1, 1)


def write_duplicates(task: MergeTask) -> None:
    """Merge one range of all runs and write the duplicates, grouped by block."""
    best = task.config.winner == "best_margin"
    hashes, blocks, rows, scores = [], [], [], []
    for number, path in enumerate(task.runs):
        run = HashRun(path)
        part = run.range(task.number, task.num_ranges)
        if part.stop > part.start:
            hashes.append(run.hashes[part])
            rows.append(run.rows[part])
            blocks.append(numpy.full(part.stop - part.start, number, dtype=ROW))
            if best:
                scores.append(run.scores[part])
    block = numpy.concatenate(blocks) if blocks else numpy.zeros(0, dtype=ROW)
    row = numpy.concatenate(rows) if rows else numpy.zeros(0, dtype=ROW)
    if not len(row):
        Duplicates.write(task.output, block, row, len(task.runs))
        return
    words = numpy.concatenate(hashes)
    order = _order(words, -numpy.nan_to_num(numpy.concatenate(scores), nan=-9e9) if best else None)
    words = words[order]
    # Rank within the group of equal hashes: position minus the position where the group begins.
    starts = numpy.ones(len(words), dtype=bool)
    starts[1:] = (words[1:] != words[:-1]).any(axis=1)
    positions = numpy.arange(len(words))
    first = numpy.maximum.accumulate(numpy.where(starts, positions, 0))
    rank = positions - first
    drops = rank >= task.step.max_copies
    if task.step.max_repetitions is not None:
        sizes = numpy.diff(numpy.append(numpy.flatnonzero(starts), len(words)))
        drops = numpy.repeat(sizes, sizes) > task.step.max_repetitions
    dropped = order[drops]
    if task.step.near is not None:
        # A row can be dropped for several of its bands.
        places = numpy.unique(block[dropped].astype(WORD) << numpy.uint64(32) | row[dropped])
        block = (places >> numpy.uint64(32)).astype(ROW)
        row = (places & numpy.uint64(0xFFFFFFFF)).astype(ROW)
        dropped = numpy.arange(len(places))
    Duplicates.write(task.output, block[dropped], row[dropped], len(task.runs))


def write_block(task: ApplyTask) -> None:
    """Write the decisions about one block."""
    before = reasons(task.decided.decisions)
    reason = numpy.full(len(before), None, dtype=object)
    for name, merges in task.passes:
        for merged in merges:
            reason[duplicates(merged).rows_of_block(task.number)] = name
    text = read_first_rows(task.decided.block.path, ["source", "target", "line"])
    series = polars.Series("reason", reason.tolist(), dtype=polars.String)
    write_decisions(task.block.path, text, before.is_null(), series)


def _order(words: NDArray[numpy.uint64], scores: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the stable order by hash, then best score, then position."""
    if scores is None and words.shape[1] == 1:
        return numpy.argsort(words[:, 0], kind="stable")
    keys = [words[:, column] for column in range(words.shape[1] - 1, -1, -1)]
    return numpy.lexsort(keys if scores is None else [scores, *keys])
