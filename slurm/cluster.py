"""A cluster's configuration, and the resources of each job: `configs/slurm/*.yaml`."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from nllb.config.schema import NonNegativeInt, PositiveFloat, PositiveInt, RunConfig, Text

Executor = Literal["slurm", "local", "debug"]
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")


def _minutes(value: object) -> object:
    """Return Slurm's `D-HH:MM:SS` or `HH:MM:SS` as whole minutes, rounded up."""
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return days * 1440 + hours * 60 + minutes + (seconds > 0)


Minutes = Annotated[PositiveInt, BeforeValidator(_minutes)]
"""A number of minutes, also written as D-HH:MM:SS."""


class ClusterConfig(RunConfig):
    """Resources of each job, and where it runs."""

    kind: Literal["slurm"] = "slurm"
    """The kind of configuration."""
    executor: Executor = "slurm"
    """slurm submits to the cluster, local starts processes here, debug runs in this process."""
    partition: Text | None = None
    """Partition; null takes the cluster's default."""
    account: Text | None = None
    """Account to charge."""
    qos: Text | None = None
    """Quality of service."""
    nodes: PositiveInt = 1
    """Nodes of one job."""
    tasks_per_node: PositiveInt = 1
    """Processes on each node; one for each GPU in training."""
    gpus_per_node: NonNegativeInt = 0
    """GPUs on each node."""
    cpus_per_task: PositiveInt = 1
    """Processors of each process."""
    memory_gib: PositiveFloat | None = None
    """Memory of each node in GiB; null takes the cluster's default."""
    time_min: Minutes = 60
    """Time limit in minutes, or as D-HH:MM:SS; then the job is stopped, requeued and resumed."""
    constraint: Text | None = None
    """Features that the nodes must have."""
    exclude: Text | None = None
    """Nodes that must not be used."""
    array_parallelism: PositiveInt = 256
    """Maximum number of tasks of one array that run at the same time."""
    max_array_size: PositiveInt = 1000
    """Maximum number of tasks in one array; the cluster's own limit is respected, too."""
    setup: tuple[Text, ...] = ()
    """Shell lines before the command, such as `module load cuda`."""
    container: Text | None = None
    """Apptainer image in which the command runs; it must contain `nllb`."""
    mail_user: Text | None = None
    """Address to notify."""
    mail_type: Text = "END,FAIL"
    """Events to notify `mail_user` about."""
    signal_delay_s: NonNegativeInt = 120
    """Seconds between the signal to stop (SIGUSR2) and the end of the time limit."""
    max_requeues: NonNegativeInt = 20
    """Maximum number of times a job is requeued after a time-out."""
    extra: dict[str, bool | Text] = Field(default_factory=dict)
    """Further sbatch options by their long names, such as nice; true for one without a value."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield values that contradict each other."""
        if self.signal_delay_s >= self.time_min * 60:
            yield (
                f"signal_delay_s: must be below time_min ({self.time_min} minutes), got "
                f"{self.signal_delay_s} seconds"
            )

    @property
    def container_words(self) -> tuple[str, ...]:
        """Words that start a command in the container; empty without one."""
        if self.container is None:
            return ()
        gpu = ("--nv",) if self.gpus_per_node else ()
        return ("apptainer", "exec", *gpu, self.container)

    @property
    def num_tasks(self) -> int:
        """Processes of one job."""
        return self.nodes * self.tasks_per_node

    def gpu_hours(self, num_jobs: int = 1) -> float:
        """Return the GPU-hours that jobs cost if each runs to its time limit once."""
        return num_jobs * self.nodes * self.gpus_per_node * self.time_min / 60

    def sbatch_parameters(
        self, *, name: str, token: str, dependency: str | None = None
    ) -> dict[str, object]:
        """Return the options of a job by submitit's names for sbatch's."""
        optional = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "gpus_per_node": self.gpus_per_node or None,
            "constraint": self.constraint,
            "exclude": self.exclude,
            "dependency": dependency,
            "mail_user": self.mail_user,
            "mail_type": self.mail_type if self.mail_user else None,
        }
        additional: dict[str, object] = {"requeue": True, "kill-on-invalid-dep": "yes"}
        if self.memory_gib is not None:
            additional["mem"] = f"{int(self.memory_gib * 1024)}M"
        return {
            "job_name": name,
            "comment": token,
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks_per_node,
            "cpus_per_task": self.cpus_per_task,
            "time": self.time_min,
            "signal_delay_s": self.signal_delay_s,
            "array_parallelism": self.array_parallelism,
            # srun would otherwise drop the environment where the user's own shell says so.
            "setup": ["export SLURM_EXPORT_ENV=ALL", *self.setup],
            **{key: value for key, value in optional.items() if value is not None},
            "additional_parameters": additional | self.extra,
        }
