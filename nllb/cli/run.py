"""`nllb run`: run a graph of commands, on this machine or on Slurm."""

import argparse
import shlex
import sys

from nllb.config import load_config
from nllb.errors import ConfigError
from nllb.io.text import json_line
from slurm.cluster import ClusterConfig
from slurm.graph import PipelineConfig
from slurm.run_graph import describe_steps, run_pipeline

from .stage_flags import stage_arguments


def run_arguments(parser: argparse.ArgumentParser) -> None:
    stage_arguments(
        parser,
        config="PIPELINE",
        dry_run="print the commands in their order and stop",
        as_json="print the started tasks as JSON lines",
    )
    parser.add_argument(
        "--cluster", metavar="CLUSTER", help="submit to Slurm with this configuration"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of concurrent commands on this machine; default: one per core",
    )


def run(arguments: argparse.Namespace) -> int:
    pipeline = load_config(PipelineConfig, arguments.config, arguments.overrides)
    cluster = load_config(ClusterConfig, arguments.cluster) if arguments.cluster else None
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers is {arguments.workers}; it must be 1 or more")
    if arguments.dry_run:
        print("\n".join(describe_steps(pipeline, arguments.out)))
        return 0

    def say(text: str) -> None:
        if not arguments.quiet:
            print(text, file=sys.stderr, flush=True)

    started = run_pipeline(
        pipeline, arguments.out, cluster=cluster, workers=arguments.workers, say=say
    )
    if cluster is not None and cluster.executor == "slurm":
        say(f"To follow the jobs: nllb slurm status {shlex.quote(str(arguments.out))} -f")
    if arguments.json:
        for task in started:
            print(json_line({"task": task.key, "command": task.describe()}))
    return 0
