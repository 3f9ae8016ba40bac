"""`nllb eval compare`: what changed between two evaluations."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from nllb.cli.stage_flags import quiet_argument


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Say what changed from A to B, for whom, and whether a person would notice. A and B are "
        "folders of 'nllb eval flores' on the same data with the same metrics."
    )
    parser.add_argument("first", metavar="A", type=Path, help="the system before")
    parser.add_argument("second", metavar="B", type=Path, help="the system after")
    resamples_argument(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    quiet_argument(parser)


def compare(arguments: argparse.Namespace) -> int:
    from eval.flores.comparison import compare as compare_evaluations
    from eval.flores.results import load_evaluation
    from nllb.io.text import json_line

    comparison = compare_evaluations(
        load_evaluation(arguments.first),
        load_evaluation(arguments.second),
        resamples=arguments.resamples,
        quiet=arguments.quiet,
    )
    if arguments.json:
        print(json_line(asdict(comparison)))
    else:
        print(comparison.verdict)
    for note in comparison.notes:
        print(f"warning: {note}", file=sys.stderr)
    for name, directions in ((arguments.first, comparison.only_first),
                             (arguments.second, comparison.only_second)):  # fmt: skip
        if directions:
            named = ", ".join(directions[:5]) + (", ..." if len(directions) > 5 else "")
            print(f"warning: only {name} has {len(directions):,}: {named}", file=sys.stderr)
    return 0


def resamples_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="resamples of the tests between two systems, default: 1000; no p-value is below "
        "1 / (N + 1). Takes 4 N bytes of memory a direction",
    )
