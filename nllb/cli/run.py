"""`nllb run`: a graph of commands, here or on Slurm, with the same resume."""

import argparse
import shlex
import sys

from nllb.cli.stage_flags import stage_arguments
from nllb.config import load_config, write_config
from nllb.errors import ConfigError
from nllb.io.text import json_line
from slurm.cluster import ClusterConfig
from slurm.graph import PipelineConfig, command_words, run_pipeline


def run_arguments(parser: argparse.ArgumentParser) -> None:
    stage_arguments(
        parser,
        config="PIPELINE",
        dry_run="print the commands in their order, and stop",
        as_json="print the tasks started as JSON lines",
    )
    parser.add_argument(
        "--cluster", metavar="CLUSTER", help="submit to Slurm by this configuration"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="commands at a time on this machine, default: one a core",
    )


def run(arguments: argparse.Namespace) -> int:
    pipeline = load_config(PipelineConfig, arguments.config, arguments.overrides)
    cluster = load_config(ClusterConfig, arguments.cluster) if arguments.cluster else None
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers is {arguments.workers}; it must be 1 or more")
    if arguments.dry_run:
        for step in pipeline.order():
            needs = f"  # after {', '.join(step.needs)}" if step.needs else ""
            shards = f" --shard 1/{step.shards} ..." if step.shards else ""
            command = command_words(step, pipeline, arguments.out)
            print(f"{shlex.join(command)}{shards}{needs}")
        return 0

    def say(text: str) -> None:
        if not arguments.quiet:
            print(text, file=sys.stderr, flush=True)

    started = run_pipeline(
        pipeline, arguments.out, cluster=cluster, workers=arguments.workers, say=say
    )
    write_config(pipeline, arguments.out / "pipeline.yaml")
    if cluster is not None:
        write_config(cluster, arguments.out / "cluster.yaml")
        say(f"follow: nllb slurm status {arguments.out} -f")
    if arguments.json:
        for task in started:
            print(json_line({"task": task.key, "command": task.describe()}))
    return 0
