"""Any command as Slurm jobs, or a graph of them; it knows commands and files only."""

from slurm.cluster import ClusterConfig
from slurm.graph import PipelineConfig, Step, run_pipeline
from slurm.tasks import RunDirectory, Task, shard_tasks

__all__ = [
    "ClusterConfig",
    "PipelineConfig",
    "RunDirectory",
    "Step",
    "Task",
    "run_pipeline",
    "shard_tasks",
]
