"""Tasks of a run and what became of them, as files: the only thing that all executors share.

A run directory holds `tasks.jsonl` (what is to be done), `submissions.jsonl` (what was handed to
Slurm), `logs/`, and for each task `outcomes/KEY/rank-R.json`. A task is done when every rank's
outcome says so for the same command; so a second start does only what is missing, whoever ran the
first: this machine, or a job that was requeued twice.
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
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One command that can be started again without harm."""

    key: str
    """Its name in the run, also of its files."""
    command: tuple[str, ...]
    """Program and arguments."""
    cwd: str
    """Folder that it runs in."""
    num_ranks: int = 1
    """Processes that run it together."""
    fingerprint: str = ""
    """Hash of the command and of the configurations it names: a change runs it again."""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ConfigError(
                f"{self.key!r} cannot name a task: take letters, digits, '.', '_' and '-'"
            )
        if not 1 <= self.num_ranks <= MAX_RANKS:
            raise ConfigError(f"{self.num_ranks} ranks of a task: 1 to {MAX_RANKS:,} are possible")

    def describe(self) -> str:
        """Return the command as one would type it."""
        return shlex.join(self.command)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one rank of a task."""

    state: State
    """How it ended, or that it runs."""
    fingerprint: str
    """The task's fingerprint when it ran."""
    exit_code: int | None = None
    """The command's exit code; negative is a signal."""
    job_id: str | None = None
    """Slurm's or the local job."""
    host: str | None = None
    """Machine it ran on."""
    started_at: float | None = None
    """Unix time of its first start."""
    ended_at: float | None = None
    """Unix time of its end."""
    starts: int = 1
    """How often it was started: requeues + 1."""


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
            DataError: there is none.
        """
        run = cls(path)
        if not (run.path / "tasks.jsonl").exists():
            raise DataError(
                f"{path} is no run directory: it holds no tasks.jsonl; "
                f"`nllb slurm submit` prints the directory it made"
            )
        return run

    def add_tasks(self, tasks: Sequence[Task], *, only: bool = False) -> None:
        """Record tasks; one with a known key takes its place, `only` forgets all others."""
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
        """Return where a rank writes what became of it."""
        return self.path / "outcomes" / task.key / f"rank-{rank}.json"

    def outcomes(self, task: Task) -> list[Outcome]:
        """Return what is known of the task's ranks."""
        paths = (self.outcome_path(task, rank) for rank in range(task.num_ranks))
        return [read_outcome(path) for path in paths if path.exists()]

    def state(self, task: Task) -> State:
        """Return what became of a task as a whole."""
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
        """Take back that a task failed, because it is handed over again."""
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
        """Return the record of submissions, the last word on each token."""
        by_token: dict[str, dict[str, Any]] = {}
        if self.submissions.exists():
            for row in read_json_lines(self.submissions):
                if not isinstance(row, dict) or not isinstance(row.get("token"), str):
                    raise DataError(f"{self.submissions} is damaged: a line has no token")
                by_token[row["token"]] = by_token.get(row["token"], {}) | row
        return list(by_token.values())

    def cancelled(self) -> set[str]:
        """Return the jobs that were cancelled on purpose."""
        rows = self.read_submissions()
        return {job_id for row in rows for job_id in row.get("cancelled", ())}

    def job_ids(self) -> dict[str, str]:
        """Return the last job that each task was handed to."""
        jobs: dict[str, str] = {}
        for row in self.read_submissions():
            if row.get("job_ids"):
                jobs |= dict(zip(row["keys"], row["job_ids"], strict=True))
        return jobs


def read_outcome(path: Path) -> Outcome:
    """Read what became of one rank."""
    return to_record(Outcome, read_json(path), path)


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write what became of one rank, whole or not at all."""
    write_json(path, asdict(outcome))


def shard_tasks(
    command: Sequence[str], *, name: str, cwd: Path, shards: int, num_ranks: int = 1
) -> list[Task]:
    """Return the tasks of a command: itself, or its shards with `--shard I/N` (I from 1)."""
    width = len(str(shards))
    parts: dict[str, tuple[str, ...]] = {
        f"{name}-{i:0{width}}-of-{shards}": ("--shard", f"{i}/{shards}")
        for i in range(1, shards + 1)
    }
    configurations = _read_configurations(command, cwd)
    tasks = []
    for key, shard in (parts or {name: ()}).items():
        words = (*resolve_program(command), *shard)
        tasks.append(
            Task(
                key=key,
                command=words,
                cwd=str(cwd),
                num_ranks=num_ranks,
                fingerprint=fingerprint([*command, *shard], configurations),
            )
        )
    return tasks


def resolve_program(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command with `nllb` replaced by the one of this environment."""
    if not command or command[0] != "nllb":
        return tuple(command)
    script = Path(sys.executable).parent / "nllb"
    program = (str(script),) if script.exists() else (sys.executable, "-m", "nllb")
    return (*program, *command[1:])


def _read_configurations(command: Sequence[str], cwd: Path) -> list[str]:
    """Return the text of every YAML file, or shipped configuration, that a command names."""
    texts = []
    for word in command[1:]:
        path = cwd / word
        if path.suffix == ".yaml" and path.is_file():
            texts.append(read_text(path))
        elif re.fullmatch(r"\w[\w-]*(/[\w-]+)?", word) and not path.exists():
            found = [*configs_dir().glob(f"*/{word}.yaml"), *configs_dir().glob(f"{word}.yaml")]
            texts += map(read_text, sorted(found))
    return texts
