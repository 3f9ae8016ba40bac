"""The state of a run's tasks: their recorded outcomes combined with what Slurm reports."""

import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import controller
from .local import log_path
from .tasks import Outcome, RunDirectory, Task

POLL_S = 5.0
"""Seconds between two calls to the controller, whatever the number of tasks."""
ACTIVE = {"WAITING", "PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskReport:
    """One task, as a row of the status table."""

    key: str
    """Name of the task."""
    state: str
    """COMPLETED, FAILED, RUNNING, PENDING, WAITING (not submitted), LOST, or Slurm's own state."""
    job_id: str = ""
    """Last job of the task."""
    reason: str = ""
    """Why the task is waiting or failed."""
    exit_code: int | None = None
    """Exit code of the command."""
    requeues: int = 0
    """Number of restarts."""
    elapsed_s: float | None = None
    """Seconds from the first start to the end, or to now."""
    host: str = ""
    """Machine on which it ran."""
    log: str = ""
    """File with its output."""

    @property
    def active(self) -> bool:
        """Whether the state may still change by itself."""
        return self.state in ACTIVE and bool(self.job_id)


def report(run: RunDirectory, tasks: Sequence[Task] | None = None) -> list[TaskReport]:
    """Return the state of each task, with at most one call to Slurm."""
    tasks = run.tasks() if tasks is None else tasks
    jobs = run.job_ids()
    on_slurm = {
        job_id
        for row in run.read_submissions()
        if row.get("executor") == "slurm"
        for job_id in row.get("job_ids") or ()
    }
    done = {task.key for task in tasks if run.state(task) == "completed"}
    open_jobs = {jobs[task.key] for task in tasks if task.key in jobs and task.key not in done}
    states = controller.job_states(open_jobs & on_slurm)
    return [
        _report_task(
            run, task, jobs.get(task.key, ""), states, slurm=jobs.get(task.key) in on_slurm
        )
        for task in tasks
    ]


def _report_task(
    run: RunDirectory,
    task: Task,
    job_id: str,
    states: dict[str, controller.JobState],
    *,
    slurm: bool,
) -> TaskReport:
    outcomes = run.outcomes(task)
    first = min(outcomes, key=lambda o: o.started_at or 0.0, default=None)
    seen = states.get(job_id)
    state, reason = _state(run, task, job_id, seen, slurm=slurm)
    codes = [outcome.exit_code for outcome in outcomes if outcome.exit_code]
    return TaskReport(
        key=task.key,
        state=state,
        job_id=job_id,
        reason=reason,
        exit_code=codes[0] if codes else (0 if state == "COMPLETED" else None),
        requeues=max((outcome.starts for outcome in outcomes), default=1) - 1,
        elapsed_s=_elapsed(outcomes),
        host=(seen.node if seen else "") or (first.host or "" if first else ""),
        log=str(_find_log(run, task, job_id)),
    )


def _state(
    run: RunDirectory, task: Task, job_id: str, seen: controller.JobState | None, *, slurm: bool
) -> tuple[str, str]:
    own = run.state(task)
    if own == "completed":
        return "COMPLETED", ""
    if job_id in run.cancelled():
        return "CANCELLED", ""
    failure = _failure_reason(run, task) if own == "failed" else ""
    if not job_id:
        return ("FAILED", failure) if failure else ("WAITING", "")
    if slurm:
        if seen is None:
            return ("FAILED", failure) if failure else ("LOST", "Slurm has forgotten the job")
        if seen.state == "COMPLETED":
            return "FAILED", failure or "the job ended before its command"
        return seen.state, ", ".join(filter(None, (failure, seen.reason)))
    if failure:
        return "FAILED", failure
    if job_id.isdigit() and _is_alive(int(job_id)):
        return ("PENDING" if own == "waiting" else "RUNNING"), ""
    return "LOST", "its process has ended"


def _failure_reason(run: RunDirectory, task: Task) -> str:
    """Return how the command of a failed task ended."""
    codes = [outcome.exit_code for outcome in run.outcomes(task) if outcome.exit_code]
    if not codes:
        return "failed"
    if codes[0] > 0:
        return f"exit code {codes[0]}"
    try:
        return f"killed by {signal.Signals(-codes[0]).name}"
    except ValueError:
        return f"killed by signal {-codes[0]}"


def _is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return not Path("/proc/self").exists()
    return status.rpartition(")")[2].split()[0] != "Z"


def _elapsed(outcomes: Sequence[Outcome]) -> float | None:
    starts = [outcome.started_at for outcome in outcomes if outcome.started_at is not None]
    if not starts:
        return None
    ends = [outcome.ended_at for outcome in outcomes]
    last = max((end for end in ends if end is not None), default=0.0)
    return (time.time() if None in ends else last) - min(starts)


def _find_log(run: RunDirectory, task: Task, job_id: str) -> Path:
    own = log_path(run, task)
    return own if own.exists() or not job_id else run.logs / f"{job_id}_0_log.out"


def wait(
    run: RunDirectory, tasks: Sequence[Task] | None = None, *, poll_s: float = POLL_S
) -> Iterator[list[TaskReport]]:
    """Yield reports until no task changes any more; the last one is final."""
    while True:
        reports = report(run, tasks)
        yield reports
        if not any(row.active for row in reports):
            return
        time.sleep(poll_s)


def follow_logs(run: RunDirectory, *, poll_s: float = 1.0) -> Iterator[tuple[str, str]]:
    """Yield (task, line) of every log as lines appear, until all tasks have ended."""
    offsets: Counter[str] = Counter()
    checked, reports = 0.0, report(run)
    while True:
        for row in reports:
            for line in _new_lines(row.log, offsets):
                yield row.key, line
        if not any(row.active for row in reports):
            return
        time.sleep(poll_s)
        if time.monotonic() - checked >= POLL_S:
            reports, checked = report(run), time.monotonic()


def _new_lines(log: str, offsets: "Counter[str]") -> Iterable[str]:
    path = Path(log)
    if not path.exists():
        return
    with path.open("rb") as stream:
        stream.seek(offsets[log])
        for line in stream:
            if not line.endswith(b"\n"):
                break
            offsets[log] += len(line)
            yield line.decode("utf-8", "replace").rstrip("\n")


def count_states(reports: Sequence[TaskReport]) -> str:
    """Return a line such as `7 COMPLETED, 2 RUNNING, 1 FAILED`."""
    counts = Counter(row.state for row in reports)
    return ", ".join(f"{count} {state}" for state, count in counts.most_common()) or "no tasks"


def cancel_run(run: RunDirectory) -> list[str]:
    """Cancel the waiting and running tasks of a run and return their jobs."""
    active = [row for row in report(run) if row.active]
    local = {
        job_id
        for row in run.read_submissions()
        if row.get("executor") == "local"
        for job_id in row.get("job_ids") or ()
    }
    jobs = {row.job_id for row in active}
    controller.cancel(jobs - local)
    for job_id in jobs & local:
        os.kill(int(job_id), signal.SIGTERM)
    if jobs:
        run.record_submission(
            token=f"cancel-{uuid.uuid4().hex}", job_ids=[], cancelled=sorted(jobs)
        )
    return sorted(jobs)
