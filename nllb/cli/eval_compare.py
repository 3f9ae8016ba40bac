"""`nllb eval compare`: compare two evaluations."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from .metric_flags import metric_choice, metric_name_arguments
from .stage_flags import quiet_argument


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Report the changes in score from A to B by language, and whether people would notice "
        "them. A and B are folders of 'nllb eval flores' on the same data with the same metrics, "
        "or two files of translations with --reference and --target. All p-values are two-sided "
        "(sacrebleu's paired bootstrap is one-sided)."
    )
    parser.add_argument("first", metavar="A", type=Path, help="the system that is the baseline")
    parser.add_argument(
        "second", metavar="B", type=Path, help="the system that is compared with it"
    )
    parser.add_argument(
        "--reference",
        action="append",
        type=Path,
        metavar="F",
        help="with two files: references, one per line; may be repeated for further references",
    )
    parser.add_argument("-t", "--target", metavar="L", help="with two files: target language")
    resamples_argument(parser)
    metric_name_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    quiet_argument(parser)


def compare(arguments: argparse.Namespace) -> int:
    from nllb.errors import ConfigError

    if arguments.reference:
        if not arguments.target:
            raise ConfigError("two files are compared with --reference F and --target L")
        return _compare_files(arguments)
    for path in (arguments.first, arguments.second):
        if path.is_file():
            raise ConfigError(
                f"{path} is a file: to compare two files, add --reference F and --target L"
            )
    if arguments.metrics or arguments.spm or arguments.lowercase or arguments.target:
        raise ConfigError(
            "--metrics, --spm, --lowercase and --target apply to two files; folders are compared "
            "on the metrics that 'nllb eval flores' computed"
        )
    return _compare_folders(arguments)


def _compare_files(arguments: argparse.Namespace) -> int:
    from eval.metrics.file_comparison import compare_files
    from nllb.io.text import json_line
    from nllb.languages import parse_language

    changes, reasons = compare_files(
        arguments.first,
        arguments.second,
        arguments.reference,
        target=str(parse_language(arguments.target)),
        choice=metric_choice(arguments),
        resamples=arguments.resamples,
    )
    for change in changes:
        value = {**asdict(change), "verdict": change.verdict}
        print(json_line(value) if arguments.json else change.as_text())
    for name, reason in reasons.items():
        print(f"warning: {name}: {reason}", file=sys.stderr)
    return 0


def _compare_folders(arguments: argparse.Namespace) -> int:
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
        for line in comparison.lines():
            print(line)
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
        help="resamples of the tests between two systems, default: 1000; no p-value is below 1 / "
        "(N + 1). Uses 4 N bytes of memory per direction",
    )
