"""`nllb eval score`: score one file of translations."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from .metric_flags import (
    EXIT_FLAGGED,
    label_detector,
    metric_arguments,
    metric_choice,
    neural_arguments,
)


def score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hypothesis",
        required=True,
        type=Path,
        metavar="F",
        help="translations, one per line; - reads stdin",
    )
    parser.add_argument(
        "--reference",
        required=True,
        action="append",
        type=Path,
        metavar="F",
        help="references, one per line; may be repeated for further references",
    )
    parser.add_argument("-t", "--target", required=True, metavar="L", help="target language")
    parser.add_argument(
        "--source-text",
        type=Path,
        metavar="F",
        help="sources, to count untranslated lines",
    )
    neural_arguments(parser)
    parser.add_argument("-s", "--source", metavar="L", help="source language, for --neural")
    metric_arguments(parser)


def score(arguments: argparse.Namespace) -> int:
    from eval.metrics.scoring import score_file
    from nllb.errors import ConfigError
    from nllb.io.text import json_line
    from nllb.languages import parse_language

    if arguments.neural and not (arguments.source_text and arguments.source):
        raise ConfigError("--neural needs --source-text FILE and --source L")
    if arguments.neural and str(arguments.hypothesis) == "-":
        raise ConfigError("--neural reads the hypothesis a second time: give a file instead of -")
    scores, findings = score_file(
        arguments.hypothesis,
        arguments.reference,
        target=str(parse_language(arguments.target)),
        choice=metric_choice(arguments),
        source_text=arguments.source_text,
        detect=label_detector(arguments),
    )
    for result in scores:
        print(json_line(asdict(result)) if arguments.json else result.as_text())
    if arguments.neural:
        _print_neural(arguments)
    # With --json, every object contains the warnings, so that none is lost.
    if not arguments.json:
        for warning in dict.fromkeys(text for result in scores for text in result.warnings):
            print(f"warning: {warning}", file=sys.stderr)
    return EXIT_FLAGGED if findings and arguments.strict else 0


def _print_neural(arguments: argparse.Namespace) -> None:
    from eval.metrics.neural import metric_command, neural_score
    from nllb.io.text import json_line, read_lines
    from nllb.languages import parse_language

    files = (arguments.source_text, arguments.hypothesis, arguments.reference[0])
    found = neural_score(
        metric_command(arguments.neural, python=arguments.neural_python),
        list(zip(*(read_lines(path, errors="replace") for path in files), strict=True)),
        source=str(parse_language(arguments.source)),
        target=str(parse_language(arguments.target)),
        model=arguments.neural_model,
        cache_dir=arguments.neural_cache,
    )
    if arguments.json:
        print(json_line({"metric": found.name, "score": found.mean, **asdict(found)}))
    else:
        lower = "" if found.higher_is_better else "; lower is better"
        print(
            f"{found.name} {found.mean:.4f} (95 % {found.low:.4f} to {found.high:.4f}{lower})  "
            f"{found.signature}  licence: {found.licence}"
        )
    if not found.supported:
        print(
            f"warning: {found.name} was not trained on {arguments.target}; do not rely on this "
            f"score",
            file=sys.stderr,
        )
    if len(arguments.reference) > 1:
        print(f"warning: {found.name} uses only the first reference", file=sys.stderr)
