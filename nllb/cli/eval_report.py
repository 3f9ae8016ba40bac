"""`nllb eval report`: write one page with all results."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from .eval_compare import resamples_argument
from .metric_flags import EXIT_FLAGGED
from .stage_flags import quiet_argument


def report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write one self-contained HTML report, which makes no network requests, and the same "
        "results as .json, .parquet, .md, .model-index.yaml and .junit.xml. Each DIR is a folder "
        "written by 'nllb eval flores', 'nllb eval xsts score' or 'nllb eval toxicity'. The first "
        "of several evaluations is the baseline."
    )
    parser.add_argument(
        "directories", metavar="DIR", nargs="+", type=Path, help="folders of results"
    )
    parser.add_argument("report", metavar="REPORT.html", type=Path, help="the file to write")
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="exit with code 1 if the condition holds: 'GROUP METRIC drop > N [and significant]', "
        "'GROUP METRIC < N', 'missing > N', 'flags > N'; may be repeated",
    )
    parser.add_argument(
        "--title",
        default="",
        metavar="TEXT",
        help="heading of the page; default: the names of the systems",
    )
    resamples_argument(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    quiet_argument(parser)


def report(arguments: argparse.Namespace) -> int:
    from eval.report import write_report
    from nllb.errors import ConfigError
    from nllb.io.text import json_line

    if arguments.report.suffix != ".html":
        raise ConfigError(
            f"the last argument must be the page to write, *.html: {arguments.report}"
        )
    written = write_report(
        arguments.directories,
        arguments.report,
        fail_if=arguments.fail_if,
        title=arguments.title,
        resamples=arguments.resamples,
        quiet=arguments.quiet,
    )
    if arguments.json:
        paths = {"page": str(written.page), "files": list(map(str, written.files))}
        print(json_line({**asdict(written), **paths}))
    else:
        if written.verdict:
            print(written.verdict)
        for gate in written.gates:
            print(f"{'FAILED' if gate.failed else 'passed'}: {gate.condition} ({gate.message})")
    if not arguments.quiet:
        print(f"wrote {written.page} ({written.size / 1e6:.2f} MB)", file=sys.stderr)
    for warning in written.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return EXIT_FLAGGED if written.failed else 0
