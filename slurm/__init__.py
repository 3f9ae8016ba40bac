"""Runs any command, or a graph of commands, as Slurm jobs."""

from .cluster import ClusterConfig
from .graph import PipelineConfig, Step
from .run_graph import retry_run, run_pipeline
from .submission import CommandPlan, plan_command
from .tasks import RunDirectory, Task, shard_tasks

__all__ = [
    "ClusterConfig",
    "CommandPlan",
    "PipelineConfig",
    "RunDirectory",
    "Step",
    "Task",
    "plan_command",
    "retry_run",
    "run_pipeline",
    "shard_tasks",
]
