"""What a cluster is like and what a job asks of it: `configs/slurm/*.yaml`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from nllb.config import range_faults

Executor = Literal["slurm", "local", "debug"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Resources of each job, and where it runs."""

    kind: Literal["slurm"] = "slurm"
    """The sort of configuration."""
    executor: Executor = "slurm"
    """slurm submits to the cluster, local starts processes here, debug runs in this process."""
    partition: str | None = None
    """Partition; null takes the cluster's default."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    nodes: int = 1
    """Nodes of one job."""
    tasks_per_node: int = 1
    """Processes on each node; one for each GPU in training."""
    gpus_per_node: int = 0
    """GPUs on each node."""
    cpus_per_task: int = 1
    """Processors of each process."""
    memory_gib: float | None = None
    """Memory of each node in GiB; null takes the cluster's default."""
    time_min: int = 60
    """Longest run in minutes, after which the job is stopped, requeued and resumed."""
    constraint: str | None = None
    """Features that the nodes must have."""
    exclude: str | None = None
    """Nodes that must not be taken."""
    array_parallelism: int = 256
    """Tasks of one array that run at a time."""
    max_array_size: int = 1000
    """Tasks in one array at most; the cluster's own limit is kept too."""
    setup: tuple[str, ...] = ()
    """Shell lines before the command: modules, environment, container."""
    signal_delay_s: int = 120
    """Seconds between the signal to stop (SIGUSR2) and the end of the time limit."""
    max_requeues: int = 20
    """Time-outs after which a job is not requeued any more."""
    extra: dict[str, bool | str] = field(default_factory=dict)
    """Further sbatch options by their long names, such as mail-user; true for a bare option."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work."""
        resources = ("nodes", "tasks_per_node", "cpus_per_task", "time_min")
        yield from range_faults(self, *resources, least=1)
        yield from range_faults(self, "array_parallelism", "max_array_size", least=1)
        yield from range_faults(self, "gpus_per_node", "max_requeues", least=0)
        yield from range_faults(self, "memory_gib", above=0)
        if self.signal_delay_s >= self.time_min * 60:
            yield (
                f"signal_delay_s {self.signal_delay_s} leaves no time to work in "
                f"time_min {self.time_min}"
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
