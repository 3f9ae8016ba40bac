"""How a stage runs: independent tasks whose outputs are named by what went in.

The output of a task is one file, `<name>.<key>.parquet` or so. The key is a hash of the input's
key, the part of the configuration that matters, and the version of the code: a file that exists is
finished and right, and a changed configuration never meets an old file. Files appear by atomic
rename. So a stage that was killed goes on where it was, tasks may run in any order, in any number
of processes and on any number of machines, and the result is the same.
"""

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from nllb.config.fingerprints import fingerprint
from nllb.errors import ConfigError, DataError, ResourceError
from nllb.io.progress import Progress

Phase = Literal["split", "runs", "merge", "apply"]
"""Parts of a stage that must not overlap: all shards of one, then all of the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What concerns this machine and not the result."""

    workers: int = 1
    """Processes."""
    memory: int = 1 << 30
    """Bytes that a process may use for data, for the stages that can choose."""
    shard: tuple[int, int] = (0, 1)
    """(I, N): do every N-th task, from the I-th, counted from 0."""
    quiet: bool = False
    """No progress on stderr."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers is {self.workers}; it must be 1 or more")


class Task(Protocol):
    """A piece of work with one output file."""

    @property
    def output(self) -> Path:
        """The file that exists when the task is done."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One block of lines as a stage left it."""

    name: str
    """`corpus/pair/number`."""
    key: str
    """Hash of everything that its content depends on."""
    path: Path
    """Parquet file."""
    corpus: str
    """Name of the corpus."""
    source: str
    """Language code of the source side."""
    target: str
    """Language code of the target side; empty for monolingual text."""
    origin: str
    """Origin tag."""
    num_rows: int
    """Rows of the file."""

    def follow(self, stage_dir: Path, *what: Any) -> "Block":
        """Return the block that a stage makes of this one, one row for each row."""
        key = fingerprint(self.key, *what)
        return dataclasses.replace(self, key=key, path=stage_dir / f"{self.name}.{key}.parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockTask:
    """A task that writes one block."""

    block: Block
    """What is written."""

    @property
    def output(self) -> Path:
        """Its file."""
        return self.block.path


SomeTask = TypeVar("SomeTask", bound=Task)


def require_phase(
    stage: str, phases: Sequence[Phase], phase: Phase | None, machine: Machine
) -> None:
    """Raise ConfigError where a shard is asked to do all phases at once."""
    if phase is None and machine.shard[1] > 1:
        order = ", then all with ".join(f"--phase {name}" for name in phases)
        raise ConfigError(f"the phases of {stage} must not overlap: run all shards with {order}")


def run_tasks(
    name: str,
    tasks: Sequence[SomeTask],
    work: Callable[[SomeTask], None],
    machine: Machine,
) -> int:
    """Do the tasks of this shard that are not done, and return how many that were.

    Raises:
        ResourceError: where a worker process was killed from outside.
    """
    index, count = machine.shard
    mine = [task for number, task in enumerate(tasks) if number % count == index]
    missing = [task for task in mine if not task.output.exists()]
    with Progress(name, total=len(mine), unit="blocks", quiet=machine.quiet) as progress:
        progress.resume(len(mine) - len(missing))
        if machine.workers <= 1 or len(missing) <= 1:
            for task in missing:
                work(task)
                progress.advance()
        else:
            _run_in_processes(name, missing, work, machine.workers, progress)
    return len(missing)


def _run_in_processes(
    name: str,
    tasks: Sequence[SomeTask],
    work: Callable[[SomeTask], None],
    workers: int,
    progress: Progress,
) -> None:
    waiting: set[Future[None]] = set()
    try:
        pool = _pool(workers)
        waiting = {pool.submit(work, task) for task in tasks}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                progress.advance()
    except BrokenProcessPool as error:
        _pool.cache_clear()
        raise ResourceError(
            f"{name}: a worker process was killed, most often for want of memory; finished "
            "blocks are kept: run the command again with fewer --workers or less --memory"
        ) from error
    finally:
        for future in waiting:
            future.cancel()


@lru_cache(maxsize=1)
def _pool(workers: int) -> ProcessPoolExecutor:
    """Return the worker processes, the same for all stages: they keep models and indexes open."""
    # Read by libraries as each worker starts, which may be at any later task; without it every
    # worker would start a thread for every processor.
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = "1"
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def require(blocks: Sequence[Block], stage: str) -> None:
    """Raise DataError unless the stage has written all of these blocks."""
    missing = [block for block in blocks if not block.path.exists()]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(blocks):,} blocks of the stage {stage!r} are not there, "
            f"first {missing[0].path}; run `nllb data {stage}` with the same configuration"
        )
