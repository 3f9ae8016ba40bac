"""Runs a graph of commands: on this machine, or as Slurm arrays that depend on each other."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nllb.config import load_config, write_config
from nllb.errors import ConfigError, DataError

from . import controller
from .cluster import ClusterConfig
from .graph import PipelineConfig, Step, command_words
from .limits import check_request
from .local import log_path, run_tasks
from .status import TaskReport, report
from .submission import submit
from .tasks import CLUSTER_FILE, RunDirectory, Task, shard_tasks

PIPELINE_FILE = "pipeline.yaml"
Say = Callable[[str], None]
Plan = Mapping[str, Sequence[Task]]


def run_pipeline(
    pipeline: PipelineConfig,
    out_dir: Path,
    *,
    cluster: ClusterConfig | None = None,
    workers: int | None = None,
    say: Say = print,
) -> list[Task]:
    """Run the missing tasks of a graph, here or on Slurm.

    On this machine the call returns when all tasks have ended. On Slurm it returns when all jobs
    are submitted; `nllb slurm wait` follows them. Completed tasks are not run again. The
    configurations are recorded in the run directory first, so that `retry_run` can continue.

    Returns:
        The tasks that were started.

    Raises:
        DataError: a step failed on this machine; the steps that do not need it were still run.
    """
    run = RunDirectory(out_dir)
    clusters = {step.name: _cluster_of(step, cluster) for step in pipeline.order()}
    plan = {
        step.name: _step_tasks(step, command_words(step, pipeline, run.path), clusters[step.name])
        for step in pipeline.order()
    }
    run.add_tasks([task for tasks in plan.values() for task in tasks], only=True)
    write_config(pipeline, run.path / PIPELINE_FILE)
    if cluster is None:
        return _run_here(pipeline, run, plan, workers or os.cpu_count() or 1, say)
    write_config(cluster, run.path / CLUSTER_FILE)
    for name, chosen in clusters.items():
        if chosen is not None and chosen is not cluster:
            write_config(chosen, _step_cluster_path(run, name))
    if cluster.executor != "slurm":
        return _run_here(pipeline, run, plan, workers or os.cpu_count() or 1, say)
    return _submit_graph(pipeline, run, plan, clusters, say)


def retry_run(run: RunDirectory, *, say: Say = print) -> list[Task]:
    """Submit again the tasks of a run that are neither completed nor active.

    Raises:
        ConfigError: the run is a pipeline that was not submitted to Slurm.
    """
    if (run.path / PIPELINE_FILE).is_file():
        return _retry_pipeline(run, say=say)
    cluster = load_config(ClusterConfig, run.path / CLUSTER_FILE)
    active = {row.key for row in report(run) if row.active}
    tasks = [task for task in run.missing(run.tasks()) if task.key not in active]
    if tasks:
        submit(run, tasks, cluster, name="retry")
    return tasks


def _retry_pipeline(run: RunDirectory, *, say: Say = print) -> list[Task]:
    """Submit the missing tasks of a pipeline again, with its dependencies and clusters."""
    pipeline = load_config(PipelineConfig, run.path / PIPELINE_FILE)
    path = run.path / CLUSTER_FILE
    cluster = load_config(ClusterConfig, path) if path.is_file() else None
    if cluster is None or cluster.executor != "slurm":
        raise ConfigError(
            f"{run.path} was run on this machine; run the same `nllb run` command again to continue"
        )
    clusters: dict[str, ClusterConfig | None] = {}
    for step in pipeline.order():
        own = _step_cluster_path(run, step.name)
        clusters[step.name] = load_config(ClusterConfig, own) if own.is_file() else cluster
    tasks = run.tasks()
    plan = {
        step.name: [task for task in tasks if task.step == step.name] for step in pipeline.order()
    }
    return _submit_graph(pipeline, run, plan, clusters, say)


def _cluster_of(step: Step, cluster: ClusterConfig | None) -> ClusterConfig | None:
    if cluster is None or step.cluster is None or cluster.executor != "slurm":
        return cluster
    return load_config(ClusterConfig, step.cluster)


def _step_cluster_path(run: RunDirectory, name: str) -> Path:
    return run.path / "clusters" / f"{name}.yaml"


def _step_tasks(step: Step, command: list[str], cluster: ClusterConfig | None) -> list[Task]:
    on_slurm = cluster is not None and cluster.executor == "slurm"
    return shard_tasks(
        command,
        name=step.name,
        cwd=Path.cwd(),
        shards=step.shards,
        num_ranks=cluster.num_tasks if cluster is not None and on_slurm else 1,
        step=step.name,
        container=cluster.container_words if cluster is not None else (),
    )


def _run_here(
    pipeline: PipelineConfig, run: RunDirectory, plan: Plan, workers: int, say: Say
) -> list[Task]:
    started: list[Task] = []
    broken: dict[str, list[Task]] = {}
    for step in pipeline.order():
        missing = run.missing(plan[step.name])
        blockers = [need for need in step.needs if need in broken]
        if blockers and not step.after_failure:
            broken[step.name] = []
            say(f"{step.name}: not started because {', '.join(blockers)} failed")
            continue
        if not missing:
            say(f"{step.name}: already completed")
            continue
        say(f"{step.name}: running {len(missing)} of {len(plan[step.name])} tasks")
        started += missing
        failed = run_tasks(run, missing, parallelism=workers)
        if failed:
            broken[step.name] = failed
            say(f"{step.name}: {len(failed)} failed")
        else:
            say(f"{step.name}: completed")
    failures = [task for tasks in broken.values() for task in tasks]
    if failures:
        shown = "\n".join(f"  {task.key}: {_last_line(log_path(run, task))}" for task in failures)
        raise DataError(
            f"{len(failures)} tasks failed; their logs are in {run.logs}; running the command "
            f"again starts only what is missing:\n{shown}"
        )
    return started


def _submit_graph(
    pipeline: PipelineConfig,
    run: RunDirectory,
    plan: Plan,
    clusters: Mapping[str, ClusterConfig | None],
    say: Say,
) -> list[Task]:
    """Submit what is neither completed nor active, with dependencies on the jobs it needs."""
    for warning in _check_all(run, clusters):
        say(f"warning: {warning}")
    active = {row.key: row for row in report(run) if row.active}
    jobs: dict[str, Sequence[str]] = {}
    started: list[Task] = []
    resubmitted: set[str] = set()
    for step in pipeline.order():
        cluster = clusters[step.name]
        assert cluster is not None
        missing = run.missing(plan[step.name])
        if resubmitted.intersection(step.needs):
            _cancel_stale(missing, active)
        waiting = [task for task in missing if task.key not in active]
        job_ids = [active[task.key].job_id for task in missing if task.key in active]
        if waiting:
            after = [job_id for need in step.needs for job_id in jobs.get(need, ())]
            job_ids += submit(
                run,
                waiting,
                cluster,
                name=step.name,
                after=after,
                after_failure=step.after_failure,
            )
            started += waiting
            resubmitted.add(step.name)
        jobs[step.name] = job_ids
        roots = ", ".join(sorted({job_id.split("_")[0] for job_id in job_ids}))
        state = f"jobs {roots}" if job_ids else "already completed"
        say(f"{step.name}: {len(waiting)} of {len(plan[step.name])} tasks submitted, {state}")
    return started


def _check_all(run: RunDirectory, clusters: Mapping[str, ClusterConfig | None]) -> Sequence[str]:
    """Check each different cluster configuration once; return the warnings without repeats."""
    checked: list[ClusterConfig] = []
    warnings: dict[str, None] = {}
    for name, cluster in clusters.items():
        if cluster is not None and cluster not in checked:
            checked.append(cluster)
            warnings |= dict.fromkeys(check_request(cluster, run, name=name))
    return list(warnings)


def _cancel_stale(tasks: Sequence[Task], active: dict[str, TaskReport]) -> None:
    """Cancel jobs that wait for jobs which are now submitted again: they would never start."""
    stale = [task.key for task in tasks if task.key in active]
    controller.cancel({active.pop(key).job_id for key in stale})


def _last_line(path: Path) -> str:
    """Return the last line of a log; or, if the disk has no room for it, that."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):  # The line is incomplete: can the log still grow?
        try:
            with path.open("ab") as log:
                log.write(b"\n")
        except OSError as error:
            return f"its log cannot be written: {error.strerror or error}"
    lines = text.rstrip().splitlines()
    return lines[-1] if lines else "no output"


def describe_steps(pipeline: PipelineConfig, out_dir: Path) -> list[str]:
    """Return the command lines of a pipeline in their order, for `--dry-run`."""
    lines = []
    for step in pipeline.order():
        needs = f"  # after {', '.join(step.needs)}" if step.needs else ""
        shards = f" --shard 1/{step.shards} ..." if step.shards else ""
        lines.append(f"{shlex.join(command_words(step, pipeline, out_dir))}{shards}{needs}")
    return lines
