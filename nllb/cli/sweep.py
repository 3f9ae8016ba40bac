"""`nllb sweep`: compare settings by short training runs of equal time."""

import argparse

from nllb.io.text import json_line

from .stage_flags import show_log, stage_arguments


def sweep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train each variant of a configuration for the same time, one after the other, and write "
        "OUT/sweep.tsv with their validation losses. Nothing else should run on the machine "
        "meanwhile."
    )
    stage_arguments(parser, dry_run="list the variants and the time that they take, and stop")


def sweep(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from nllb.config import load_config
    from nllb.training.sweep import describe_sweep, run_sweep
    from nllb.training.sweep_config import SweepConfig

    config = load_config(SweepConfig, arguments.config, arguments.overrides)
    if arguments.dry_run:
        print(describe_sweep(config))
        return 0
    show_log(quiet=arguments.quiet)
    for result in run_sweep(config, arguments.out, quiet=arguments.quiet):
        if arguments.json:
            print(json_line(asdict(result)))
        else:
            print(
                f"{result.name:<24} loss {result.loss:.3f} (into English "
                f"{result.loss_into_english:.3f}, from English {result.loss_from_english:.3f})  "
                f"{result.labels:,} labels at {result.labels_per_second:,.0f} per second"
            )
    return 0
