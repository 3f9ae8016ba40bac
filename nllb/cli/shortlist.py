"""`nllb shortlist` builds a vocabulary shortlist and stores it in the model directory."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .stage_flags import quiet_argument

if TYPE_CHECKING:
    from nllb.inference.model_generator import ModelGenerator
    from nllb.inference.shortlist import ShortlistReport
    from nllb.languages import Language


def shortlist_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `nllb shortlist`."""
    parser.add_argument(
        "model", metavar="MODEL", help="model directory, in which the list is stored"
    )
    parser.add_argument("--target", metavar="L", required=True, help="target language")
    parser.add_argument(
        "--text",
        metavar="FILE",
        type=Path,
        required=True,
        help="training text in the target language, one sentence per line; do not use evaluation "
        "data",
    )
    parser.add_argument(
        "--size", type=int, default=16_000, metavar="N", help="number of tokens, default: 16000"
    )
    parser.add_argument(
        "--source", metavar="L", help="language of --source-text, for measuring the loss"
    )
    parser.add_argument(
        "--source-text",
        metavar="FILE",
        type=Path,
        help="the lines of --text in the source language; held-out lines are translated with and "
        "without the list, and the loss in chrF++ is reported",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the report, but do not store the list"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    quiet_argument(parser)


def shortlist(arguments: argparse.Namespace) -> int:
    """Run `nllb shortlist`."""
    from nllb.errors import ConfigError
    from nllb.inference.model_generator import ModelGenerator
    from nllb.inference.shortlist import build_shortlist, write_shortlist
    from nllb.io.text import read_lines
    from nllb.languages import parse_language
    from nllb.model.formats.open_model import open_model

    if (arguments.source is None) != (arguments.source_text is None):
        raise ConfigError("--source and --source-text must be given together: use both or neither")
    opened = open_model(arguments.model)
    target = parse_language(arguments.target)
    lines = list(read_lines(arguments.text))
    ids, report = build_shortlist(lines, opened.tokenizer(), target, size=arguments.size)
    if arguments.source is not None:
        generator = ModelGenerator.load(arguments.model).with_shortlist(target, ids)
        report = _with_loss(report, generator, lines, target, arguments)
    if not arguments.dry_run:
        write_shortlist(opened.path, target, ids, report)
    if arguments.json:
        print(json.dumps(asdict(report)))
    elif not arguments.quiet:
        _print_report(report, target.code)
        if not arguments.dry_run:
            print(f"stored in {opened.path}", file=sys.stderr)
    return 0


def _with_loss(
    report: "ShortlistReport",
    generator: "ModelGenerator",
    lines: list[str],
    target: "Language",
    arguments: argparse.Namespace,
) -> "ShortlistReport":
    from nllb.inference.shortlist import measure_loss
    from nllb.io.text import read_lines
    from nllb.languages import parse_language

    return measure_loss(
        report,
        generator,
        sources=list(read_lines(arguments.source_text)),
        references=lines,
        source=parse_language(arguments.source),
        target=target,
    )


def _print_report(report: "ShortlistReport", code: str) -> None:
    print(
        f"{code}: {report.size:,} tokens, of which {report.seen:,} occur in the text; in "
        f"{report.held_out_lines:,} held-out lines, the list covers {report.token_coverage:.2%} of "
        f"the tokens and {report.line_coverage:.2%} of the lines"
    )
    if report.chrf_loss is not None:
        print(f"the list lowers chrF++ by {report.chrf_loss:.2f}")
