"""A graph of commands: run here, or handed to Slurm as arrays that wait for each other."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Literal

from pydantic import Field

from nllb.config import load_config
from nllb.config.schema import NonNegativeInt, RunConfig, Section, Text, repeated
from nllb.config.templates import fill_template
from nllb.errors import ConfigError, DataError, did_you_mean
from slurm.cluster import ClusterConfig
from slurm.local import log_path, run_tasks
from slurm.status import report
from slurm.submission import check, submit
from slurm.tasks import RunDirectory, Task, shard_tasks


class Step(Section):
    """One command of the graph."""

    name: Text
    """Its name, which is part of the names of tasks and logs."""
    command: Text
    """The command line; `{out}` is the run's directory, `{name}` is a variable of the pipeline."""
    needs: tuple[Text, ...] = ()
    """Steps that must be completed first."""
    shards: NonNegativeInt = 0
    """Run it as this many commands with `--shard I/N`; 0 runs it once as it is."""
    cluster: Text | None = None
    """Cluster configuration for this step on Slurm; null uses that of the whole run."""


class PipelineConfig(RunConfig):
    """A whole run, from raw corpora to a report, as a graph of commands."""

    kind: Literal["pipeline"]
    """The kind of configuration."""
    steps: tuple[Step, ...]
    """The commands, in any order."""
    variables: dict[str, Text] = Field(default_factory=dict)
    """Values for names in braces in the commands, such as a data folder; `variables.data=...` sets
    one."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield unknown needs and cycles."""
        names = [step.name for step in self.steps]
        for name in repeated(names):
            yield f"steps: two steps are named {name!r}"
        for step in self.steps:
            for need in step.needs:
                if need not in names:
                    hint = did_you_mean(need, names) or ", which is not a step"
                    yield f"steps: step {step.name} needs {need!r}{hint}"
        try:
            self.order()
        except CycleError as error:
            yield f"steps: these need each other in a cycle: {' -> '.join(error.args[1])}"

    def order(self) -> list[Step]:
        """Return the steps so that each comes after what it needs."""
        by_name = {step.name: step for step in self.steps}
        graph = {step.name: step.needs for step in self.steps}
        return [by_name[n] for n in TopologicalSorter(graph).static_order() if n in by_name]


Say = Callable[[str], None]


def run_pipeline(
    pipeline: PipelineConfig,
    out_dir: Path,
    *,
    cluster: ClusterConfig | None = None,
    workers: int | None = None,
    say: Say = print,
) -> list[Task]:
    """Do what of the graph is missing: here, or as Slurm jobs.

    Here it returns when all is done. On Slurm it returns when all is submitted; `nllb slurm wait`
    follows. What was completed before, here or there, is not done again.

    Returns:
        The tasks that were started.

    Raises:
        DataError: a step failed here; steps that do not need it were still done.
    """
    run = RunDirectory(out_dir)
    plan = {
        step.name: _step_tasks(
            step, command_words(step, pipeline, run.path), _cluster_of(step, cluster)
        )
        for step in pipeline.order()
    }
    run.add_tasks([task for tasks in plan.values() for task in tasks], only=True)
    if cluster is not None and cluster.executor == "slurm":
        return _submit_graph(pipeline, run, plan, cluster, say)
    return _run_graph(pipeline, run, plan, workers or os.cpu_count() or 1, say)


def _cluster_of(step: Step, cluster: ClusterConfig | None) -> ClusterConfig | None:
    if cluster is None or step.cluster is None or cluster.executor != "slurm":
        return cluster
    return load_config(ClusterConfig, step.cluster)


def command_words(step: Step, pipeline: PipelineConfig, out_dir: Path) -> list[str]:
    """Return the words of a step's command, with the values of the pipeline in their places.

    Raises:
        ConfigError: the command names a value that the pipeline lacks, or its quotes do not match.
    """
    values = pipeline.variables | {"out": str(out_dir)}
    try:
        return [fill_template(word, values) for word in shlex.split(step.command)]
    except (ConfigError, ValueError) as error:
        raise ConfigError(
            f"step {step.name}: {step.command!r} is no command line: {error}"
        ) from None


def _step_tasks(step: Step, command: list[str], cluster: ClusterConfig | None) -> list[Task]:
    on_slurm = cluster is not None and cluster.executor == "slurm"
    ranks = cluster.num_tasks if cluster is not None and on_slurm else 1
    return shard_tasks(command, name=step.name, cwd=Path.cwd(), shards=step.shards, num_ranks=ranks)


def _run_graph(
    pipeline: PipelineConfig, run: RunDirectory, plan: dict[str, list[Task]], workers: int, say: Say
) -> list[Task]:
    started: list[Task] = []
    broken: dict[str, list[Task]] = {}
    for step in pipeline.order():
        missing = run.missing(plan[step.name])
        blockers = [need for need in step.needs if need in broken]
        if blockers:
            broken[step.name] = []
            say(f"{step.name}: not started, {', '.join(blockers)} failed")
            continue
        if not missing:
            say(f"{step.name}: done before")
            continue
        say(f"{step.name}: {len(missing)} of {len(plan[step.name])} to do")
        started += missing
        failed = run_tasks(run, missing, parallelism=workers)
        if failed:
            broken[step.name] = failed
            say(f"{step.name}: {len(failed)} failed")
        else:
            say(f"{step.name}: done")
    failures = [task for tasks in broken.values() for task in tasks]
    if failures:
        shown = "\n".join(f"  {task.key}: {_last_line(log_path(run, task))}" for task in failures)
        raise DataError(
            f"{len(failures)} tasks failed; their logs are in {run.logs}; a new start does only "
            f"what is missing:\n{shown}"
        )
    return started


def _submit_graph(
    pipeline: PipelineConfig,
    run: RunDirectory,
    plan: dict[str, list[Task]],
    cluster: ClusterConfig,
    say: Say,
) -> list[Task]:
    for warning in check(cluster, run):
        say(f"warning: {warning}")
    active = {row.key: row.job_id for row in report(run) if row.active}
    jobs: dict[str, Sequence[str]] = {}
    started: list[Task] = []
    for step in pipeline.order():
        missing = run.missing(plan[step.name])
        waiting = [task for task in missing if task.key not in active]
        held = [active[task.key] for task in missing if task.key in active]
        if waiting:
            after = [job_id for need in step.needs for job_id in jobs.get(need, ())]
            chosen = _cluster_of(step, cluster) or cluster
            held = [*held, *submit(run, waiting, chosen, name=step.name, after=after)]
            started += waiting
        jobs[step.name] = held
        roots = ", ".join(sorted({job_id.split("_")[0] for job_id in held}))
        state = f"jobs {roots}" if held else "done before"
        say(f"{step.name}: {len(waiting)} of {len(plan[step.name])} submitted, {state}")
    return started


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return lines[-1] if lines else "no output"
