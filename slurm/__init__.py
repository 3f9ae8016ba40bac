"""Runs any command, or a graph of commands, as Slurm jobs."""

from .cluster import ClusterConfig
from .graph import PipelineConfig, Step
from .run_graph import retry_pipeline, run_pipeline
from .tasks import RunDirectory, Task, shard_tasks

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
