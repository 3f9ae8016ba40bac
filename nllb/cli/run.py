"""`nllb run`: a graph of commands, here or on Slurm, with the same resume."""

import argparse
import sys
from pathlib import Path

from nllb.config import load_config, write_config
from nllb.textio import json_line
from slurm.config import ClusterConfig
from slurm.pipeline import PipelineConfig, run_pipeline


def run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", metavar="PIPELINE", help="a path, or a shipped pipeline's name")
    parser.add_argument(
        "out_dir", type=Path, metavar="OUT", help="directory; a second start resumes"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to PIPELINE")
    parser.add_argument(
        "--cluster", metavar="CLUSTER", help="submit to Slurm by this configuration"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="commands at a time here")
    parser.add_argument("--dry-run", action="store_true", help="print the commands in their order")
    parser.add_argument("--json", action="store_true", help="print the tasks started as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing of the steps")


def run(arguments: argparse.Namespace) -> int:
    pipeline = load_config(PipelineConfig, arguments.pipeline, arguments.overrides)
    if arguments.dry_run:
        for step in pipeline.order():
            needs = f"  # after {', '.join(step.needs)}" if step.needs else ""
            shards = f" --shard 1/{step.shards} ..." if step.shards else ""
            command = step.command.format_map(pipeline.variables | {"out": arguments.out_dir})
            print(f"{command}{shards}{needs}")
        return 0
    cluster = load_config(ClusterConfig, arguments.cluster) if arguments.cluster else None

    def say(text: str) -> None:
        if not arguments.quiet:
            print(text, file=sys.stderr, flush=True)

    started = run_pipeline(
        pipeline, arguments.out_dir, cluster=cluster, workers=arguments.workers, say=say
    )
    write_config(pipeline, arguments.out_dir / "pipeline.yaml")
    if cluster is not None:
        write_config(cluster, arguments.out_dir / "cluster.yaml")
        say(f"follow: nllb slurm status {arguments.out_dir} -f")
    if arguments.json:
        for task in started:
            print(json_line({"task": task.key, "command": task.describe()}))
    return 0
