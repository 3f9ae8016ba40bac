"""Runs any command, or a graph of commands, as Slurm jobs."""

from slurm.cluster import ClusterConfig
from slurm.graph import PipelineConfig, Step
from slurm.run_graph import retry_pipeline, run_pipeline
from slurm.tasks import RunDirectory, Task, shard_tasks

__all__ = [
    "ClusterConfig",
    "PipelineConfig",
    "RunDirectory",
    "Step",
    "Task",
    "retry_pipeline",
    "run_pipeline",
    "shard_tasks",
]
