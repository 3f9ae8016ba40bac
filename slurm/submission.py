"""Handing tasks to an executor: Slurm arrays, local processes, or this process."""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nllb.errors import ConfigError, ResourceError, did_you_mean
from slurm import controller
from slurm.cluster import ClusterConfig
from slurm.job import CommandJob
from slurm.local import LocalTasks
from slurm.tasks import RunDirectory, Task

RESERVED_INDEX = 1
"""Slurm's MaxArraySize is one more than the highest index."""


def submit(
    run: RunDirectory,
    tasks: Sequence[Task],
    cluster: ClusterConfig,
    *,
    name: str,
    after: Sequence[str] = (),
) -> list[str]:
    """Hand tasks over and return their job ids, in order.

    Tasks must be recorded in the run. Several become arrays, cut at the cluster's limit. `after`
    are Slurm jobs that must end well first.

    Raises:
        ConfigError: submitit does not know an option.
        ResourceError: Slurm is not there or refuses; its own words are in the text.
    """
    for task in tasks:
        run.forget_failure(task)
    if cluster.executor != "slurm":
        return [*_submit_here(run, tasks, cluster, name=name)]
    settle_intents(run)
    size = min(cluster.max_array_size, _array_limit())
    job_ids: list[str] = []
    for start in range(0, len(tasks), size):
        part = tasks[start : start + size]
        job_ids += _submit_array(run, part, cluster, name=name, after=after)
    return job_ids


def settle_intents(run: RunDirectory) -> None:
    """Clear what an interrupted submission left: a job whose id was never recorded is cancelled.

    It has not begun to work, because its task files are put in place only when its id is known.
    """
    for row in run.read_submissions():
        if row.get("job_ids") is None:
            found = controller.find_by_token(row["token"])
            if found is not None:
                controller.cancel([found])
            run.record_submission(token=row["token"], job_ids=[])


def sbatch_script(
    run: RunDirectory, tasks: Sequence[Task], cluster: ClusterConfig, *, name: str
) -> str:
    """Return the script that would be submitted, for `--dry-run`; needs no Slurm."""
    _submitit()
    from submitit.slurm.slurm import _make_sbatch_string

    parameters = cluster.sbatch_parameters(name=name, token="dry-run")
    command = f"{sys.executable} -u -m submitit.core._submit {run.logs}"
    count = len(tasks) if len(tasks) > 1 else None
    return str(_make_sbatch_string(command, run.logs, map_count=count, **parameters))


def check(cluster: ClusterConfig, run: RunDirectory) -> list[str]:
    """Hold a request against the machine before anything is submitted; return warnings.

    Raises:
        ResourceError: no Slurm, or the run directory cannot be written.
        ConfigError: the partition does not exist or does not allow what is asked.
    """
    _check_writable(run)
    warnings = uncommitted_code()
    if cluster.executor != "slurm":
        return warnings
    if str(run.path).startswith(("/tmp", "/var/tmp", "/dev/shm")):
        warnings.append(f"{run.path} is usually local to a machine: the nodes must share it")
    known = controller.partitions()
    name = cluster.partition
    if name is not None and name not in known:
        valid = ", ".join(known) or "none"
        raise ConfigError(f"no partition {name!r}{did_you_mean(name, known) or ';'} valid: {valid}")
    chosen = known.get(name) if name else None
    chosen = chosen or next((p for p in known.values() if p.get("Default") == "YES"), None)
    if chosen is None:
        valid = ", ".join(known) or "none"
        raise ConfigError(f"the cluster has no default partition; set `partition:`; valid: {valid}")
    nodes = chosen.get("TotalNodes", "")
    if nodes.isdigit() and cluster.nodes > int(nodes):
        held = f"partition {chosen['PartitionName']} has {nodes}"
        raise ConfigError(f"{cluster.nodes} nodes are asked for, {held}")
    longest = _minutes(chosen.get("MaxTime", "UNLIMITED"))
    if longest is not None and cluster.time_min > longest:
        raise ConfigError(
            f"time_min {cluster.time_min} is over the {longest} minutes of partition "
            f"{chosen['PartitionName']}"
        )
    return warnings


def _submit_array(
    run: RunDirectory,
    tasks: Sequence[Task],
    cluster: ClusterConfig,
    *,
    name: str,
    after: Sequence[str],
) -> list[str]:
    token = f"nllb-{uuid.uuid4().hex}"
    roots = sorted({job_id.split("_")[0] for job_id in after})
    dependency = f"afterok:{':'.join(roots)}" if roots else None
    keys = [task.key for task in tasks]
    submitit = _submitit()
    _require_sbatch()
    executor = submitit.SlurmExecutor(folder=run.logs, max_num_timeout=cluster.max_requeues)
    parameters = cluster.sbatch_parameters(name=name, token=token, dependency=dependency)
    executor.update_parameters(**parameters)
    jobs = [CommandJob(run.path, task) for task in tasks]
    run.record_submission(token=token, name=name, keys=keys, executor="slurm")
    try:
        with _submitting_once(submitit.SlurmExecutor, token):
            submitted = (
                executor.map_array(CommandJob.__call__, jobs)
                if len(jobs) > 1
                else [executor.submit(jobs[0])]
            )
    except submitit.core.utils.FailedJobError as error:
        run.record_submission(token=token, job_ids=[])
        raise ResourceError(f"nothing was submitted: {str(error).strip()}") from error
    job_ids = [str(job.job_id) for job in submitted]
    run.record_submission(token=token, job_ids=job_ids)
    return job_ids


@contextmanager
def _submitting_once(executor_class: Any, token: str) -> Iterator[None]:
    """Put our patient `sbatch` in the place of submitit's; arrays use the class's own method."""
    original = executor_class._make_submission_command
    command = [sys.executable, "-m", "slurm.sbatch_once", token]
    executor_class._make_submission_command = lambda _self, path: [*command, str(path)]
    try:
        yield
    finally:
        executor_class._make_submission_command = original


def _require_sbatch() -> None:
    if shutil.which("sbatch") is None:
        raise ResourceError(
            "no Slurm on this machine: sbatch is not on PATH; set `executor: local` in the "
            "cluster's configuration to run here"
        )


def _submit_here(
    run: RunDirectory, tasks: Sequence[Task], cluster: ClusterConfig, *, name: str
) -> list[str]:
    """Start tasks on this machine: in the background (`local`) or at once (`debug`)."""
    if cluster.executor == "debug":
        LocalTasks(run.path, tasks, parallelism=1)()
        return [f"debug-{os.getpid()}"] * len(tasks)
    submitit = _submitit()
    executor = submitit.LocalExecutor(folder=run.logs, max_num_timeout=cluster.max_requeues)
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


def uncommitted_code() -> list[str]:
    """Return a warning if the program runs from a checkout with changes that no commit holds."""
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return []
    command = ["git", "-C", str(checkout), "status", "--porcelain", "--untracked-files=no"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    changed = done.stdout.splitlines()
    if not changed:
        return []
    return [
        f"{len(changed)} files of {checkout} are changed and not committed: jobs that start later "
        f"run whatever stands there then"
    ]


def _check_writable(run: RunDirectory) -> None:
    try:
        run.logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run.path) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise ResourceError(
            f"the run directory {run.path} cannot be written: {error.strerror}; "
            f"take another one or free some space"
        ) from error


def _minutes(text: str) -> int | None:
    """Return Slurm's `D-HH:MM:SS` in minutes; None for no limit."""
    if text in {"UNLIMITED", "INFINITE", "NONE", ""}:
        return None
    days, _, clock = text.rpartition("-")
    hours, minutes, *_ = (int(part) for part in clock.split(":"))
    return (int(days) * 24 if days else 0) * 60 + hours * 60 + minutes


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise ResourceError("submitit is missing: pip install 'nllb[slurm]'") from None
    return submitit
