"""Stages run as independent tasks, each with one output file that is named by its inputs.

The output of a task is a file such as `<name>.<key>.parquet`. The key is a hash of the input's key,
the relevant part of the configuration, and the version of the code. Files appear by atomic rename.
A file that exists is therefore complete and up to date, and a changed configuration never reads
an old file. A stage that was killed resumes where it stopped. Tasks may run in any order, in any
number of processes and on any number of machines, and the result is the same.
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
"""Parts of a stage that must not overlap: all shards finish one phase before the next begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Settings of this machine, which do not affect the result.

    Attributes:
        workers: number of processes.
        memory: maximum bytes of data in the memory of one process, for the stages that can limit
            it.
        shard: (I, N): run every N-th task, starting with task I, counted from 0.
        quiet: whether progress is hidden.
    """

    workers: int = 1
    memory: int = 1 << 30
    shard: tuple[int, int] = (0, 1)
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers must be 1 or more, got {self.workers}")


class Task(Protocol):
    """A unit of work with one output file."""

    @property
    def output(self) -> Path:
        """The file that exists once the task is done."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One block of lines as written by one stage.

    Attributes:
        name: `corpus/pair/number`.
        key: hash of everything that the content depends on.
        path: the Parquet file.
        corpus: name of the corpus.
        source: language code of the source side.
        target: language code of the target side; empty for monolingual text.
        origin: origin of the text: primary, mined, back-translated or denoising.
        num_rows: number of rows in the file.
    """

    name: str
    key: str
    path: Path
    corpus: str
    source: str
    target: str
    origin: str
    num_rows: int

    def derive(self, stage_dir: Path, *what: Any) -> "Block":
        """Return the block that a stage derives from this one, with the same rows."""
        key = fingerprint(self.key, *what)
        return dataclasses.replace(self, key=key, path=stage_dir / f"{self.name}.{key}.parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockTask:
    """A task that writes one block.

    Attributes:
        block: the block that the task writes.
    """

    block: Block

    @property
    def output(self) -> Path:
        """The file of the block."""
        return self.block.path


SomeTask = TypeVar("SomeTask", bound=Task)


def require_phase(
    stage: str, phases: Sequence[Phase], phase: Phase | None, machine: Machine
) -> None:
    """Raise ConfigError if one shard of several is asked to run all phases at once."""
    if phase is None and machine.shard[1] > 1:
        order = ", then with ".join(f"--phase {name}" for name in phases)
        raise ConfigError(
            f"the phases of {stage} must not overlap between shards: run all shards with {order}"
        )


def run_tasks(
    name: str,
    tasks: Sequence[SomeTask],
    work: Callable[[SomeTask], None],
    machine: Machine,
) -> int:
    """Run the unfinished tasks of this shard, and return their number.

    Raises:
        ResourceError: if a worker process was killed.
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
            f"{name}: a worker process was killed, probably because memory ran out. Finished "
            "blocks are kept; run the command again with fewer --workers or less --memory"
        ) from error
    finally:
        for future in waiting:
            future.cancel()


@lru_cache(maxsize=1)
def _pool(workers: int) -> ProcessPoolExecutor:
    """Return the worker processes; all stages share them, so models and indexes stay loaded."""
    # Libraries read these variables when a worker starts. Without them, every worker would start
    # one thread per processor.
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = "1"
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def require(blocks: Sequence[Block], stage: str) -> None:
    """Raise DataError if the stage has not written all of these blocks."""
    missing = [block for block in blocks if not block.path.exists()]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(blocks):,} blocks of the stage {stage!r} are missing, the "
            f"first is {missing[0].path}; run `nllb data {stage}` with the same configuration"
        )
