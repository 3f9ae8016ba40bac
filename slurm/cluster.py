"""A cluster's configuration, and the resources of each job: `configs/slurm/*.yaml`."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from nllb.config.schema import NonNegativeInt, PositiveFloat, PositiveInt, RunConfig, Text

Executor = Literal["slurm", "local", "debug"]


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
    time_min: PositiveInt = 60
    """Time limit in minutes, after which the job is stopped, requeued and resumed."""
    constraint: Text | None = None
    """Features that the nodes must have."""
    exclude: Text | None = None
    """Nodes that must not be used."""
    array_parallelism: PositiveInt = 256
    """Maximum number of tasks of one array that run at the same time."""
    max_array_size: PositiveInt = 1000
    """Maximum number of tasks in one array; the cluster's own limit is respected, too."""
    setup: tuple[Text, ...] = ()
    """Shell lines before the command: modules, environment, container."""
    signal_delay_s: NonNegativeInt = 120
    """Seconds between the signal to stop (SIGUSR2) and the end of the time limit."""
    max_requeues: NonNegativeInt = 20
    """Maximum number of times a job is requeued after a time-out."""
    extra: dict[str, bool | Text] = Field(default_factory=dict)
    """Further sbatch options by their long names, such as mail-user; true for a bare option."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield values that contradict each other."""
        if self.signal_delay_s >= self.time_min * 60:
            yield (
                f"signal_delay_s: must be below time_min ({self.time_min} minutes), got "
                f"{self.signal_delay_s} seconds"
            )

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
            "setup": list(self.setup) or None,
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
            **{key: value for key, value in optional.items() if value is not None},
            "additional_parameters": additional | self.extra,
        }
