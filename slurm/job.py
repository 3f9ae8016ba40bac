"""The process inside a job: it runs one command as a child process and forwards signals to it.

Slurm announces preemption and the end of the time limit with SIGUSR2. The signal is forwarded to
the command, which may stop all its ranks, write a checkpoint and exit. The job is then requeued,
and the same command starts again and resumes. A command that does not handle the signal is
terminated by it and starts from the beginning.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from nllb.errors import NllbError

from .tasks import Outcome, RunDirectory, State, Task, read_outcome, write_outcome

STOP_SIGNAL = signal.SIGUSR2
TAIL_LINES = 20
PR_SET_PDEATHSIG = 1
"""Option of prctl(2)."""
Handler = Callable[[int, FrameType | None], Any]


class CommandFailed(NllbError):
    """A command that ended with a nonzero exit code."""


class CommandJob:
    """Runs one rank of a task. submitit pickles it and calls `checkpoint` before a requeue."""

    def __init__(self, run_dir: Path, task: Task) -> None:
        self.run_dir = run_dir
        self.task = task

    def __call__(self) -> int:
        """Run the command and record its outcome.

        Raises:
            CommandFailed: it ended with a nonzero exit code and had not been told to stop.
        """
        environment = _distributed_environment()
        rank = int(environment.get("RANK", "0"))
        path = RunDirectory(self.run_dir).outcome_path(self.task, rank)
        before = read_outcome(path) if path.exists() else None
        if before is not None and before.fingerprint != self.task.fingerprint:
            before = None
        outcome = Outcome(
            state="running",
            fingerprint=self.task.fingerprint,
            job_id=environment.get("NLLB_JOB_ID"),
            host=socket.gethostname(),
            started_at=before.started_at if before else time.time(),
            starts=before.starts + 1 if before else 1,
        )
        write_outcome(path, outcome)
        code, stopped, tail = _run(self.task, environment)
        requeue = signal.getsignal(STOP_SIGNAL)
        state: State = "preempted" if stopped else "completed" if code == 0 else "failed"
        write_outcome(path, replace(outcome, state=state, exit_code=code, ended_at=time.time()))
        if stopped and callable(requeue):
            # submitit's handler: rank 0 requeues the job and exits, the others wait for the end.
            requeue(STOP_SIGNAL, None)
            signal.pause()
        if code != 0:
            raise CommandFailed(
                f"{self.task.describe()} ended with exit code {code} (task {self.task.key}, rank "
                f"{rank}). Its last lines:\n{tail}"
            )
        return code

    def checkpoint(self) -> Any:
        """Return the work of a requeued job: the same command, which resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _distributed_environment() -> dict[str, str]:
    """Return the environment of this process with the variables of torch.distributed."""
    environment = dict(os.environ)
    if "SUBMITIT_EXECUTOR" not in environment:
        return environment
    import submitit
    from submitit.helpers import TorchDistributedEnvironment

    job = submitit.JobEnvironment()
    environment["NLLB_JOB_ID"] = str(job.job_id)
    if job.num_tasks > 1:
        torch = TorchDistributedEnvironment()
        # An address that `setup` exports takes precedence: node names may not be resolvable.
        names = {"MASTER_ADDR": torch.master_addr, "MASTER_PORT": torch.master_port}
        names |= {name: environment[name] for name in names if name in environment}
        names |= {"RANK": torch.rank, "WORLD_SIZE": torch.world_size}
        names |= {"LOCAL_RANK": torch.local_rank, "LOCAL_WORLD_SIZE": torch.local_world_size}
        environment |= {name: str(value) for name, value in names.items()}
    return environment


def _run(task: Task, environment: dict[str, str]) -> tuple[int, bool, str]:
    """Run the command; return (exit code, whether it was told to stop, its last lines)."""
    stopped = False
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    child = subprocess.Popen(
        task.command,
        cwd=task.cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # A group of its own: Slurm signals the whole group, and the command must receive it once.
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
    )

    def stop(signum: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = stopped or signum == STOP_SIGNAL
        if child.poll() is None:
            child.send_signal(signum)

    before = _handle(stop)
    try:
        assert child.stdout is not None
        for line in child.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            tail.append(line)
        return child.wait(), stopped, "".join(tail)
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _die_with_parent() -> None:
    """Let the kernel end this process with its parent, so that no command outlives its job."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _handle(handler: Handler) -> dict[signal.Signals, Any]:
    """Install a handler and return the previous ones; possible in the main thread only."""
    try:
        return {number: signal.signal(number, handler) for number in (STOP_SIGNAL, signal.SIGTERM)}
    except ValueError:
        return {}
