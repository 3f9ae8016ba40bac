"""Hands tasks to an executor: Slurm arrays, local processes, or this process."""

import os
import uuid
from collections.abc import Iterator, Sequence

from nllb.errors import ResourceError

from . import controller
from .cluster import ClusterConfig
from .job import CommandJob
from .local import LocalTasks
from .scripts import (
    import_submitit,
    slurm_executor,
    submit_jobs,
    submitting_once,
    validate_request,
)
from .tasks import RunDirectory, Task

RESERVED_INDEX = 1
"""Slurm's MaxArraySize is one more than the highest index."""


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
