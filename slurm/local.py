"""Runs tasks on this machine, each in its own process and a bounded number at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from .job import STOP_SIGNAL, CommandFailed
from .tasks import RunDirectory, Task

POLL_S = 0.05


class LocalTasks:
    """Runs several tasks, like an array job on one machine. submitit can pickle it."""

    def __init__(self, run_dir: Path, tasks: Sequence[Task], parallelism: int) -> None:
        self.run_dir, self.tasks, self.parallelism = run_dir, list(tasks), parallelism

    def __call__(self) -> int:
        """Run the tasks that are not completed; a failure does not stop the other tasks.

        Raises:
            CommandFailed: tasks failed; the text names the logs of all of them.
        """
        run = RunDirectory(self.run_dir)
        failed = run_tasks(run, run.missing(self.tasks), parallelism=self.parallelism)
        if failed:
            logs = ", ".join(str(log_path(run, task)) for task in failed)
            raise CommandFailed(f"{len(failed)} of {len(self.tasks)} tasks failed; see {logs}")
        return 0

    def checkpoint(self) -> Any:
        """Return the work of a requeued job: the missing tasks."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def log_path(run: RunDirectory, task: Task) -> Path:
    """Return the log of a task that runs on this machine."""
    return run.logs / f"{task.key}.log"


def run_tasks(
    run: RunDirectory,
    tasks: Sequence[Task],
    *,
    parallelism: int,
    finished: Callable[[Task, int], None] | None = None,
) -> list[Task]:
    """Run tasks and return those that failed.

    `finished` is called with each task and its exit code. An interrupt or a stop signal is
    forwarded to the running tasks; when they have ended, `KeyboardInterrupt` is raised.
    """
    waiting, failed = list(tasks), []
    running: dict[subprocess.Popen[bytes], Task] = {}
    stopping = False

    def stop(signum: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for child in running:
            child.send_signal(STOP_SIGNAL if signum == STOP_SIGNAL else signal.SIGTERM)

    handled = (STOP_SIGNAL, signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        while running or (waiting and not stopping):
            while waiting and len(running) < parallelism and not stopping:
                task = waiting.pop(0)
                running[_start(run, task)] = task
            ended = [child for child in running if child.poll() is not None]
            for child in ended:
                task = running.pop(child)
                if child.returncode != 0:
                    failed.append(task)
                if finished is not None:
                    finished(task, child.returncode)
            if not ended:
                time.sleep(POLL_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopping:
        raise KeyboardInterrupt
    return failed


def _start(run: RunDirectory, task: Task) -> "subprocess.Popen[bytes]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SUBMITIT_")}
    with log_path(run, task).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "slurm", str(run.path), task.key],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
