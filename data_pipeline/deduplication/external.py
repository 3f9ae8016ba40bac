"""External deduplication: sorted runs of hashes on disk, merged one hash range at a time.

Three phases, each of independent tasks. `runs`: every block of lines becomes a file of (hash, row),
sorted by hash. `merge`: every range of the hash space is read from all runs, sorted, and the losers
of each group of equal hashes are written down by block. `apply`: every block gets its decisions.
The winner follows from the order of the blocks and rows alone, so it does not depend on the number
of ranges, workers, shards or restarts.

Lines compete within their language pair, whichever way round a corpus has it: the hash of the pair
is added to that of the text, so that one pass serves all pairs. Source: NLLB Team 2022, 5.3; the
hash is theirs, XXH3-64 of the normalised text, source and target joined by a tab.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy
import polars
from numpy.typing import NDArray

from data_pipeline.blocks import Decided, read_columns, read_first_rows, reasons, write_decisions
from data_pipeline.data_config import DataConfig, DedupConfig, DedupPassConfig
from data_pipeline.deduplication.hashing import hash_texts, joined_sides, pair_salt
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
from nllb.io.atomic import atomic_path

VERSION = 1
STAGE = "dedup"
PHASES: Final[tuple[Phase, ...]] = ("runs", "merge", "apply")
BYTES_PER_ROW = 96
"""Peak of a merge for each row of its range: hash, place, score, and the sort's own arrays."""
_ROW = numpy.dtype("<u4")
_WORD = numpy.dtype("<u8")
_SCORE = numpy.dtype("<f4")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTask:
    """Hash the rows of one block that are alive."""

    decided: Decided
    """The block."""
    number: int
    """Place of the block in the order that decides."""
    by: Literal["pair", "source", "target"]
    """What is hashed."""
    config: DedupConfig
    """How it is hashed."""
    merged: tuple[Path, ...]
    """What the passes before have merged: their losers are no longer alive."""
    directory: Path
    """Folder of the stage."""
    key: str
    """Hash of all the content depends on."""

    @property
    def output(self) -> Path:
        """The run."""
        return self.directory / "runs" / self.by / f"{self.decided.block.name}.{self.key}.run"


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeTask:
    """Find the losers in one range of the hash space."""

    runs: tuple[Path, ...]
    """All runs of the pass, in the order that decides."""
    number: int
    """Which range."""
    of: int
    """How many ranges there are, a power of two."""
    at_most: int
    """How many of the equal rows stay."""
    config: DedupConfig
    """Which row wins."""
    directory: Path
    """Folder of the stage."""
    key: str
    """Hash of all the content depends on."""

    @property
    def output(self) -> Path:
        """The losers, by block."""
        return self.directory / "merge" / f"{self.key}.{self.number:05d}-of-{self.of:05d}.losers"


@dataclass(frozen=True, kw_only=True, slots=True)
class ApplyTask(BlockTask):
    """Write the decisions on one block."""

    decided: Decided
    """The block."""
    number: int
    """Its place in the order."""
    passes: tuple[tuple[str, tuple[Path, ...]], ...]
    """Reason and merged ranges of every pass."""


def deduplicate(
    config: DataConfig,
    decided: Sequence[Decided],
    out: Path,
    machine: Machine,
    phase: Phase | None = None,
) -> list[Block]:
    """Run the phases (one, for an array of machines) and return the blocks of decisions.

    Raises:
        ConfigError: where a shard is asked to do all phases: they must not overlap.
    """
    require_phase("dedup", PHASES, phase, machine)
    plan = _plan(config.dedup, decided, out / STAGE, machine.memory)
    many_passes = len(plan.passes) > 1
    for number, (name, runs, merges) in enumerate(plan.passes):
        label = f"dedup {name} " if many_passes else "dedup "
        if phase in (None, "runs"):
            if not _exist(merges for _, _, merges in plan.passes[:number]):
                break  # one phase alone: the pass before has still to be merged
            run_tasks(label + "runs", runs, write_run, machine)
        if phase in (None, "merge"):
            if number > 0 and not _exist([runs]):
                break
            _require(runs, "runs")
            run_tasks(label + "merge", merges, write_losers, machine)
    if phase in (None, "apply"):
        for _, _, merges in plan.passes:
            _require(merges, "merge")
        run_tasks("dedup apply", plan.apply, write_block, machine)
    return [task.block for task in plan.apply]


def deduplicated_blocks(config: DataConfig, decided: Sequence[Decided], out: Path) -> list[Block]:
    """Return the blocks of decisions, whether they are there or not."""
    directory = out / STAGE
    key = _pass_keys(config.dedup, decided)[-1]
    return [item.block.follow(directory / "blocks", STAGE, VERSION, key) for item in decided]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    passes: list[tuple[str, list[RunTask], list[MergeTask]]]
    apply: list[ApplyTask]


def _pass_keys(config: DedupConfig, decided: Sequence[Decided]) -> list[str]:
    """Return the key of each pass: everything that its winners depend on."""
    key = fingerprint(
        VERSION,
        [config.normalization, config.bits, config.winner],
        [[item.block.name, *item.key] for item in decided],
    )
    keys = []
    for step in config.passes:
        key = fingerprint(key, step)
        keys.append(key)
    return keys


def _plan(config: DedupConfig, decided: Sequence[Decided], directory: Path, memory: int) -> _Plan:
    num_rows = sum(item.block.num_rows for item in decided)
    num_ranges = 1
    while num_rows * BYTES_PER_ROW / num_ranges > memory / 2:
        num_ranges *= 2
    passes: list[tuple[str, list[RunTask], list[MergeTask]]] = []
    before: tuple[Path, ...] = ()
    before_key = ""
    for step, key in zip(config.passes, _pass_keys(config, decided), strict=True):
        runs = [
            RunTask(
                decided=item,
                number=number,
                by=step.by,
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
                of=num_ranges,
                at_most=step.max_copies,
                config=config,
                directory=directory,
                key=key,
            )
            for number in range(num_ranges)
        ]
        passes.append((step.by, runs, merges))
        before, before_key = (*before, *(task.output for task in merges)), key
    reasons_and_merges = tuple(
        (f"duplicate_{by}", tuple(task.output for task in merges)) for by, _, merges in passes
    )
    apply = [
        ApplyTask(
            decided=item,
            number=number,
            passes=reasons_and_merges,
            block=item.block.follow(directory / "blocks", STAGE, VERSION, before_key),
        )
        for number, item in enumerate(decided)
    ]
    return _Plan(passes=passes, apply=apply)


def _run_key(config: DedupConfig, step: DedupPassConfig, item: Decided, before_key: str) -> str:
    return fingerprint(
        VERSION,
        step.by,
        [config.normalization, config.bits, config.winner, before_key],
        item.key,
    )


def _exist(tasks: Iterable[Sequence[RunTask] | Sequence[MergeTask]]) -> bool:
    return all(task.output.exists() for some in tasks for task in some)


def _require(tasks: Sequence[RunTask] | Sequence[MergeTask], phase: str) -> None:
    missing = [task.output for task in tasks if not task.output.exists()]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(tasks):,} files are not there, first {missing[0]}; "
            f"run all shards with --phase {phase} first, with the same --memory"
        )


def write_run(task: RunTask) -> None:
    """Write the hashes of one block, sorted, with their rows."""
    block = task.decided.block
    config = task.config
    alive = reasons(task.decided.decisions).is_null().to_numpy(writable=True)
    for merged in task.merged:
        alive[losers(merged).of_block(task.number)] = False
    rows = numpy.flatnonzero(alive).astype(_ROW)
    columns = ["source", "target"] + (["margin"] if config.winner == "best_margin" else [])
    text = read_columns(block.path, columns).filter(polars.Series(alive))
    sides = joined_sides(text, block, task.by, config.normalization)
    salt = pair_salt(block, task.by)
    hashes = hash_texts(sides, config.bits) ^ salt
    order = _order(hashes)
    words = [hashes[order]]
    scores = numpy.zeros(0, dtype=_SCORE)
    if config.winner == "best_margin":
        scores = text["margin"].fill_null(float("nan")).to_numpy().astype(_SCORE)[order]
    with atomic_path(task.output) as beside, beside.open("wb") as stream:
        stream.write(numpy.array([len(rows), config.bits, len(scores)], dtype=_WORD).tobytes())
        stream.write(words[0].astype(_WORD).tobytes())
        stream.write(rows[order].tobytes())
        stream.write(scores.tobytes())


def write_losers(task: MergeTask) -> None:
    """Merge one range of all runs and write the losers, grouped by block."""
    best = task.config.winner == "best_margin"
    hashes, blocks, rows, scores = [], [], [], []
    for number, path in enumerate(task.runs):
        run = _Run(path)
        part = run.range(task.number, task.of)
        if part.stop > part.start:
            hashes.append(run.hashes[part])
            rows.append(run.rows[part])
            blocks.append(numpy.full(part.stop - part.start, number, dtype=_ROW))
            if best:
                scores.append(run.scores[part])
    block = numpy.concatenate(blocks) if blocks else numpy.zeros(0, dtype=_ROW)
    row = numpy.concatenate(rows) if rows else numpy.zeros(0, dtype=_ROW)
    if not len(row):
        Losers.write(task.output, block, row, len(task.runs))
        return
    words = numpy.concatenate(hashes)
    order = _order(words, -numpy.nan_to_num(numpy.concatenate(scores), nan=-9e9) if best else None)
    words = words[order]
    # Rank within the group of equal hashes: place minus the place where the group began.
    fresh = numpy.ones(len(words), dtype=bool)
    fresh[1:] = (words[1:] != words[:-1]).any(axis=1)
    places = numpy.arange(len(words))
    rank = places - numpy.maximum.accumulate(numpy.where(fresh, places, 0))
    lost = order[rank >= task.at_most]
    Losers.write(task.output, block[lost], row[lost], len(task.runs))


def write_block(task: ApplyTask) -> None:
    """Write the decisions on one block."""
    before = reasons(task.decided.decisions)
    reason = numpy.full(len(before), None, dtype=object)
    for name, merges in task.passes:
        for merged in merges:
            reason[losers(merged).of_block(task.number)] = name
    text = read_first_rows(task.decided.block.path, ["source", "target", "line"])
    series = polars.Series("reason", reason.tolist(), dtype=polars.String)
    write_decisions(task.block.path, text, before.is_null(), series)


def _order(words: NDArray[numpy.uint64], scores: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the stable order by hash, then best score, then place."""
    if scores is None and words.shape[1] == 1:
        return numpy.argsort(words[:, 0], kind="stable")
    keys = [words[:, column] for column in range(words.shape[1] - 1, -1, -1)]
    return numpy.lexsort(keys if scores is None else [scores, *keys])


class _Run:
    """A run, mapped."""

    def __init__(self, path: Path) -> None:
        try:
            raw = numpy.memmap(path, mode="r", dtype=numpy.uint8)
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot read the run {path}: {error}; remove it and run again"
            ) from None
        count, bits, num_scores = (int(value) for value in raw[:24].view(_WORD))
        width = bits // 64
        rows_at = 24 + count * width * 8
        scores_at = rows_at + count * 4
        if len(raw) != scores_at + num_scores * 4:
            raise DataError(f"the run {path} is damaged; remove it and run again")
        self.hashes = raw[24:rows_at].view(_WORD).reshape(count, width)
        self.rows = raw[rows_at:scores_at].view(_ROW)
        self.scores = raw[scores_at:].view(_SCORE)

    def range(self, number: int, of: int) -> slice:
        """Return the places of the hashes in range `number` of `of` equal ranges."""
        step = (1 << 64) // of
        first = self.hashes[:, 0]
        start = int(numpy.searchsorted(first, numpy.uint64(number * step)))
        if number + 1 == of:
            return slice(start, len(first))
        return slice(start, int(numpy.searchsorted(first, numpy.uint64((number + 1) * step))))


class Losers:
    """The rows that lost, grouped by block: offsets (u64), then rows (u32)."""

    def __init__(self, path: Path) -> None:
        raw = numpy.memmap(path, mode="r", dtype=numpy.uint8)
        num_blocks = int(raw[:8].view(_WORD)[0])
        self._offsets = raw[8 : 8 + (num_blocks + 1) * 8].view(_WORD)
        self._rows = raw[8 + (num_blocks + 1) * 8 :].view(_ROW)

    def of_block(self, number: int) -> NDArray[numpy.uint32]:
        """Return the rows of a block that lost, in order."""
        return self._rows[int(self._offsets[number]) : int(self._offsets[number + 1])]

    @staticmethod
    def write(
        path: Path, blocks: NDArray[numpy.uint32], rows: NDArray[numpy.uint32], num_blocks: int
    ) -> None:
        """Write the losers; the file appears whole or not at all."""
        order = numpy.lexsort([rows, blocks])
        offsets = numpy.zeros(num_blocks + 1, dtype=_WORD)
        numpy.cumsum(numpy.bincount(blocks, minlength=num_blocks), out=offsets[1:])
        with atomic_path(path) as beside, beside.open("wb") as stream:
            stream.write(numpy.array([num_blocks], dtype=_WORD).tobytes())
            stream.write(offsets.tobytes())
            stream.write(rows[order].astype(_ROW).tobytes())


@lru_cache(maxsize=1024)
def losers(path: Path) -> Losers:
    """Map a file of losers."""
    return Losers(path)
