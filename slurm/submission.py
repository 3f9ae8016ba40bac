"""Hands tasks to an executor: Slurm arrays, local processes, or this process."""

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nllb.config import write_config
from nllb.errors import ResourceError

from . import controller
from .cluster import ClusterConfig
from .job import CommandJob
from .limits import check_request
from .local import LocalTasks
from .scripts import (
    import_submitit,
    sbatch_script,
    slurm_executor,
    submit_jobs,
    submitting_once,
    validate_request,
)
from .tasks import CLUSTER_FILE, RunDirectory, Task, shard_tasks

RESERVED_INDEX = 1
"""Slurm's MaxArraySize is one more than the highest index."""
_FAMILIES = ("data", "lid", "eval")
"""Verbs of two words: `nllb data filter`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandPlan:
    """One command, or an array of its shards, before it is submitted."""

    name: str
    """Name of the jobs."""
    run: RunDirectory
    """Where the tasks, their logs and their outcomes are recorded."""
    tasks: Sequence[Task]
    """The command, or one task for each shard."""
    cluster: ClusterConfig
    """Where to run it, with which resources."""

    @property
    def gpu_hours(self) -> float:
        """The GPU-hours that the tasks use if all of them reach their time limit."""
        return self.cluster.gpu_hours(len(self.tasks))

    def script(self) -> str:
        """Return the script that sbatch would get."""
        return sbatch_script(self.run, self.tasks, self.cluster, name=self.name)

    def warnings(self) -> list[str]:
        """Compare the request with what the cluster has; an impossible request is an error."""
        return check_request(self.cluster, self.run, name=self.name)

    def submit(self) -> list[str]:
        """Record the tasks, submit those that are not completed, and return their job ids."""
        self.run.add_tasks(self.tasks)
        write_config(self.cluster, self.run.path / CLUSTER_FILE)
        return submit(self.run, self.run.missing(self.tasks), self.cluster, name=self.name)


def plan_command(
    command: Sequence[str],
    cluster: ClusterConfig,
    *,
    run_dir: Path | None = None,
    name: str | None = None,
    shards: int = 0,
) -> CommandPlan:
    """Return the plan of a command that runs in the current directory; nothing is written.

    Args:
        command: program and arguments.
        cluster: where to run it, with which resources.
        run_dir: directory of the run; None means `runs/NAME-TIME`.
        name: name of the jobs; None means the verb of the command.
        shards: number of tasks with `--shard I/N`; 0 runs the command as it is.
    """
    name = name or _default_name(command)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    tasks = shard_tasks(
        command,
        name=name,
        cwd=Path.cwd(),
        shards=shards,
        num_ranks=cluster.num_tasks,
        container=cluster.container_words,
    )
    run = RunDirectory(run_dir or Path("runs") / f"{name}-{stamp}")
    return CommandPlan(name=name, run=run, tasks=tasks, cluster=cluster)


def _default_name(command: Sequence[str]) -> str:
    words = [Path(word).name for word in command[:3] if not word.startswith("-")]
    if words[0] != "nllb" or len(words) == 1:
        return words[0]
    return "-".join(words[1 : 3 if words[1] in _FAMILIES else 2])


def submit(
    run: RunDirectory,
    tasks: Sequence[Task],
    cluster: ClusterConfig,
    *,
    name: str,
    after: Sequence[str] = (),
    after_failure: bool = False,
) -> list[str]:
    """Submit tasks and return their job ids, in order.

    Several tasks become arrays, cut at the cluster's limit.

    Args:
        run: the run directory, in which the tasks must be recorded.
        tasks: what to run.
        cluster: where to run it, with which resources.
        name: name of the jobs.
        after: Slurm jobs that must end first.
        after_failure: whether the jobs also start if a job of `after` failed.

    Raises:
        ConfigError: a value is not allowed in a script, or submitit does not know an option.
        ResourceError: Slurm is not available or refuses; the text has Slurm's own message.
    """
    validate_request(run, cluster, name=name)
    for task in tasks:
        run.forget_failure(task)
    if cluster.executor != "slurm":
        return _submit_here(run, tasks, cluster, name=name)
    cancel_unrecorded(run)
    roots = sorted({job_id.split("_")[0] for job_id in after})
    condition = "afterany" if after_failure else "afterok"
    dependency = f"{condition}:{':'.join(roots)}" if roots else None
    job_ids: list[str] = []
    for part in _arrays(tasks, min(cluster.max_array_size, _array_limit())):
        job_ids += _submit_array(run, part, cluster, name=name, dependency=dependency)
    return job_ids


def cancel_unrecorded(run: RunDirectory) -> None:
    """Cancel the job of an interrupted submission whose id was never recorded.

    Such a job has not started to work: its task files are put in place when its id is known.
    """
    for row in run.read_submissions():
        if row.get("job_ids") is None:
            found = controller.find_by_token(row["token"])
            if found is not None:
                controller.cancel([found])
            run.record_submission(token=row["token"], job_ids=[])


def _arrays(tasks: Sequence[Task], size: int) -> Iterator[Sequence[Task]]:
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]


def _submit_array(
    run: RunDirectory,
    tasks: Sequence[Task],
    cluster: ClusterConfig,
    *,
    name: str,
    dependency: str | None,
) -> list[str]:
    token = f"nllb-{uuid.uuid4().hex}"
    jobs = [CommandJob(run.path, task) for task in tasks]
    with submitting_once(token) as refusal:
        executor = slurm_executor(run.logs, cluster, name=name, token=token, dependency=dependency)
        keys = [task.key for task in tasks]
        run.record_submission(token=token, name=name, keys=keys, executor="slurm")
        try:
            submitted = submit_jobs(executor, jobs)
        except import_submitit().core.utils.FailedJobError as error:
            run.record_submission(token=token, job_ids=[])
            text = refusal.read_text(encoding="utf-8") if refusal.exists() else str(error).strip()
            raise ResourceError(f"nothing was submitted: {text}") from error
    job_ids = [str(job.job_id) for job in submitted]
    run.record_submission(token=token, job_ids=job_ids)
    return job_ids


def _submit_here(
    run: RunDirectory, tasks: Sequence[Task], cluster: ClusterConfig, *, name: str
) -> list[str]:
    """Start tasks on this machine: in the background (`local`) or now (`debug`)."""
    if cluster.executor == "debug":
        LocalTasks(run.path, tasks, parallelism=1)()
        return [f"debug-{os.getpid()}"] * len(tasks)
    executor = import_submitit().LocalExecutor(
        folder=run.logs, max_num_timeout=cluster.max_requeues
    )
    executor.update_parameters(
        timeout_min=cluster.time_min,
        tasks_per_node=cluster.tasks_per_node,
        gpus_per_node=cluster.gpus_per_node,
        signal_delay_s=cluster.signal_delay_s,
    )
    parallelism = min(cluster.array_parallelism, os.cpu_count() or 1)
    several = LocalTasks(run.path, tasks, parallelism)
    job = executor.submit(CommandJob(run.path, tasks[0]) if len(tasks) == 1 else several)
    job_ids = [str(job.job_id)] * len(tasks)
    run.record_submission(
        token=f"nllb-{uuid.uuid4().hex}",
        name=name,
        keys=[task.key for task in tasks],
        executor="local",
        job_ids=job_ids,
    )
    return job_ids


def _array_limit() -> int:
    size = controller.limits().get("MaxArraySize", "1001")
    return max(1, int(size) - RESERVED_INDEX)
