"""The tasks of a run and their outcomes, as files that all executors share.

A run directory contains `tasks.jsonl` (the tasks), `submissions.jsonl` (the jobs they were
submitted as), `logs/`, and `outcomes/KEY/rank-R.json` for each rank of each task. A task is
completed when the outcome of every rank says so for the current command. A second
start therefore runs only what is missing, wherever the first one ran and however often its jobs
were requeued.
"""

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nllb.config.fingerprints import fingerprint
from nllb.config.shipped import configs_dir
from nllb.errors import ConfigError, DataError
from nllb.io.records import to_record
from nllb.io.text import json_line, read_json, read_json_lines, read_text, write_json, write_lines

State = Literal["waiting", "running", "completed", "failed", "preempted"]
MAX_RANKS = 1 << 20
CLUSTER_FILE = "cluster.yaml"
"""The configuration with which the tasks of a run were submitted."""
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One command that can safely be started again."""

    key: str
    """Name in the run and of the task's files."""
    command: tuple[str, ...]
    """Program and arguments."""
    cwd: str
    """Folder in which it runs."""
    num_ranks: int = 1
    """Number of processes that run it together."""
    fingerprint: str = ""
    """Hash of the command and of the configurations that it names. A change runs it again."""
    step: str = ""
    """Step of the pipeline that the task belongs to; empty outside a pipeline."""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ConfigError(
                f"{self.key!r} is not a valid task name; use letters, digits, '.', '_' and '-'"
            )
        if not 1 <= self.num_ranks <= MAX_RANKS:
            raise ConfigError(f"{self.num_ranks} ranks of a task: 1 to {MAX_RANKS:,} are possible")

    def describe(self) -> str:
        """Return the command as a shell line."""
        return shlex.join(self.command)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome of one rank of a task."""

    state: State
    """State of the rank."""
    fingerprint: str
    """Fingerprint of the task when the rank ran."""
    exit_code: int | None = None
    """Exit code of the command; a negative number is a signal."""
    job_id: str | None = None
    """Slurm or local job."""
    host: str | None = None
    """Machine on which it ran."""
    started_at: float | None = None
    """Unix time of the first start."""
    ended_at: float | None = None
    """Unix time of the end."""
    starts: int = 1
    """Number of starts: requeues + 1."""


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self.submissions = self.path / "submissions.jsonl"

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open an existing run.

        Raises:
            DataError: the folder is not a run directory.
        """
        run = cls(path)
        if not (run.path / "tasks.jsonl").exists():
            raise DataError(
                f"{path} is not a run directory because it has no tasks.jsonl; "
                f"`nllb slurm submit` prints the directory that it creates"
            )
        return run

    def add_tasks(self, tasks: Sequence[Task], *, only: bool = False) -> None:
        """Record tasks. A task with a known key is replaced; `only` removes all other tasks."""
        self.logs.mkdir(parents=True, exist_ok=True)
        known = {} if only else {task.key: task for task in self.tasks()}
        known |= {task.key: task for task in tasks}
        if len({task.key for task in tasks}) < len(tasks):
            raise ConfigError("two tasks have the same key")
        write_lines(self.path / "tasks.jsonl", (json_line(asdict(task)) for task in known.values()))

    def tasks(self) -> list[Task]:
        """Return the tasks in their order."""
        path = self.path / "tasks.jsonl"
        rows = read_json_lines(path) if path.exists() else ()
        return [to_record(Task, row, path) for row in rows]

    def outcome_path(self, task: Task, rank: int) -> Path:
        """Return the file in which a rank records its outcome."""
        return self.path / "outcomes" / task.key / f"rank-{rank}.json"

    def outcomes(self, task: Task) -> list[Outcome]:
        """Return the recorded outcomes of the task's ranks."""
        paths = (self.outcome_path(task, rank) for rank in range(task.num_ranks))
        return [read_outcome(path) for path in paths if path.exists()]

    def state(self, task: Task) -> State:
        """Return the state of a task as a whole."""
        found = [
            outcome for outcome in self.outcomes(task) if outcome.fingerprint == task.fingerprint
        ]
        states = {outcome.state for outcome in found}
        worst: tuple[State, ...] = ("failed", "preempted", "running", "waiting")
        for state in worst:
            if state in states:
                return state
        return "completed" if len(found) == task.num_ranks else "waiting"

    def forget_failure(self, task: Task) -> None:
        """Reset the failure of a task that is submitted again."""
        for rank in range(task.num_ranks):
            path = self.outcome_path(task, rank)
            if path.exists():
                write_outcome(path, replace(read_outcome(path), state="waiting", exit_code=None))

    def missing(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks that are not completed."""
        return [task for task in tasks if self.state(task) != "completed"]

    def record_submission(self, **values: Any) -> None:
        """Append one line to the record of submissions."""
        with self.submissions.open("a", encoding="utf-8") as stream:
            stream.write(json_line(values) + "\n")

    def read_submissions(self) -> list[dict[str, Any]]:
        """Return the submissions; later records of the same token update earlier ones."""
        by_token: dict[str, dict[str, Any]] = {}
        if self.submissions.exists():
            for row in read_json_lines(self.submissions):
                if not isinstance(row, dict) or not isinstance(row.get("token"), str):
                    raise DataError(f"{self.submissions} is damaged: a line has no token")
                by_token[row["token"]] = by_token.get(row["token"], {}) | row
        return list(by_token.values())

    def cancelled(self) -> set[str]:
        """Return the jobs that the user cancelled."""
        rows = self.read_submissions()
        return {job_id for row in rows for job_id in row.get("cancelled", ())}

    def job_ids(self) -> dict[str, str]:
        """Return the last job of each task."""
        jobs: dict[str, str] = {}
        for row in self.read_submissions():
            if row.get("job_ids"):
                jobs |= dict(zip(row["keys"], row["job_ids"], strict=True))
        return jobs


def read_outcome(path: Path) -> Outcome:
    """Read the outcome of one rank."""
    return to_record(Outcome, read_json(path), path)


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write the outcome of one rank atomically."""
    write_json(path, asdict(outcome))


def shard_tasks(
    command: Sequence[str],
    *,
    name: str,
    cwd: Path,
    shards: int,
    num_ranks: int = 1,
    step: str = "",
    container: Sequence[str] = (),
) -> list[Task]:
    """Return the tasks of a command: one, or one for each shard with `--shard I/N` (I from 1).

    Args:
        command: program and arguments.
        name: name of the task, and the beginning of the names of shards.
        cwd: folder in which it runs.
        shards: number of shards; 0 runs the command as it is.
        num_ranks: number of processes that run each task together.
        step: step of the pipeline that the tasks belong to.
        container: words that start the command in a container.
    """
    width = len(str(shards))
    parts: dict[str, tuple[str, ...]] = {
        f"{name}-{i:0{width}}-of-{shards}": ("--shard", f"{i}/{shards}")
        for i in range(1, shards + 1)
    }
    configurations = _read_configurations(command, cwd)
    tasks = []
    for key, shard in (parts or {name: ()}).items():
        program = (*container, *command) if container else resolve_program(command)
        words = (*program, *shard)
        tasks.append(
            Task(
                key=key,
                command=words,
                cwd=str(cwd),
                num_ranks=num_ranks,
                step=step,
                fingerprint=fingerprint([*command, *shard], configurations),
            )
        )
    return tasks


def resolve_program(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command with `nllb` replaced by the program of this environment."""
    if not command or command[0] != "nllb":
        return tuple(command)
    script = Path(sys.executable).parent / "nllb"
    program = (str(script),) if script.exists() else (sys.executable, "-m", "nllb")
    return (*program, *command[1:])


def _read_configurations(command: Sequence[str], cwd: Path) -> list[str]:
    """Return the text of every YAML file and shipped configuration that a command names."""
    texts = []
    for word in command[1:]:
        path = cwd / word
        if path.suffix == ".yaml" and path.is_file():
            texts.append(read_text(path))
        elif re.fullmatch(r"\w[\w-]*(/[\w-]+)?", word) and not path.exists():
            found = [*configs_dir().glob(f"*/{word}.yaml"), *configs_dir().glob(f"{word}.yaml")]
            texts += map(read_text, sorted(found))
    return texts
