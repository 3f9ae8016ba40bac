"""`nllb eval flores`: score translations of a test set in many directions."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .engine_flags import check_search_arguments, engine_arguments, load_translator
from .metric_flags import (
    EXIT_FLAGGED,
    label_detector,
    metric_arguments,
    metric_choice,
    neural_arguments,
)

if TYPE_CHECKING:
    from eval.flores.flores_run import Hypotheses
    from eval.flores.outputs import Translate
    from nllb.io.benchmarks import LineAlignedSet


def flores_arguments(parser: argparse.ArgumentParser) -> None:
    # OUT comes before --directions and --metrics, which would otherwise consume it as a value.
    parser.usage = (
        "nllb eval flores OUT (--outputs DIR | --model M | --copying) [--flores DIR] [options]"
    )
    parser.description = (
        "Score all directions of a test set, either from a folder of SRC-TGT.txt files or after "
        "translating it with a model. OUT stores the statistics of every sentence, so that a "
        "second run computes only what changed; 'nllb eval compare' and 'nllb eval report' read "
        "OUT."
    )
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="folder for the results; a second run resumes"
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--outputs", type=Path, metavar="DIR", help="folder of SRC-TGT.txt")
    given.add_argument("-m", "--model", metavar="M", help="translate with this model into OUT")
    given.add_argument(
        "--copying",
        action="store_true",
        help="score the sources as if they were translations: a baseline for 'nllb eval compare'",
    )
    parser.add_argument(
        "--flores",
        type=Path,
        metavar="DIR",
        default=os.environ.get("NLLB_FLORES"),
        help="folder of FLORES-200 or FLORES+, or any folder of line-aligned files CODE[.txt]; "
        "default: $NLLB_FLORES",
    )
    parser.add_argument(
        "--split", default="devtest", metavar="NAME", help="dev or devtest; default: devtest"
    )
    parser.add_argument(
        "--directions",
        nargs="+",
        metavar="D",
        help="SRC-TGT, SRC-*, *-TGT, all, @FILE; default: with --outputs every file of the folder, "
        "otherwise every pair of languages. Named directions without a file are reported as "
        "missing",
    )
    parser.add_argument(
        "--lines",
        type=int,
        metavar="N",
        help="use only the first N sentences, for a quick test; not with --outputs",
    )
    parser.add_argument(
        "--system",
        metavar="NAME",
        help="name of the system in reports; default: that of the folder or the model",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes, default: one per core",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    metric_arguments(parser)
    neural_arguments(parser)
    search = parser.add_argument_group("with --model")
    search.add_argument(
        "--beam", type=int, default=4, metavar="N", help="beam size, default: 4; 1 is greedy"
    )
    search.add_argument(
        "--no-retry", action="store_true", help="keep flagged outputs instead of retrying"
    )
    engine_arguments(search)


def flores(arguments: argparse.Namespace) -> int:
    from eval.flores.flores_run import evaluate_hypotheses, open_benchmark
    from eval.flores.overview import overview, problems
    from nllb.io.text import json_line

    _check_numbers(arguments)
    benchmark = open_benchmark(arguments.flores, split=arguments.split, num_lines=arguments.lines)
    made = _hypotheses(arguments, benchmark)
    if arguments.dry_run:
        verb = "translate and score" if arguments.model else "score"
        print(f"would {verb} {made.describe(benchmark)}")
        return 0
    evaluation = evaluate_hypotheses(
        made,
        benchmark=benchmark,
        out=arguments.out,
        choice=metric_choice(arguments),
        system=arguments.system,
        workers=arguments.workers,
        detect=label_detector(arguments),
        quiet=arguments.quiet,
    )
    shown = map(json_line, evaluation.records()) if arguments.json else [overview(evaluation)]
    for text in shown:
        print(text)
    for text in problems(evaluation):
        print(text, file=sys.stderr)
    doubtful = evaluation.has_flags and arguments.strict
    return EXIT_FLAGGED if evaluation.failed or doubtful else 0


def _check_numbers(arguments: argparse.Namespace) -> None:
    from nllb.errors import ConfigError

    check_search_arguments(arguments)
    for name in ("lines", "workers"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} is {value}; it must be 1 or more")
    if arguments.lines and arguments.outputs is not None:
        raise ConfigError(
            "--lines shortens the sources before translation and cannot be combined with --outputs"
        )


def _hypotheses(arguments: argparse.Namespace, benchmark: "LineAlignedSet") -> "Hypotheses":
    from eval.flores.flores_run import (
        COPYING,
        copied_hypotheses,
        find_hypotheses,
        planned_hypotheses,
        translated_hypotheses,
    )

    words = arguments.directions
    if arguments.outputs is not None:
        return find_hypotheses(arguments.outputs, benchmark, words)
    if arguments.dry_run:
        system = arguments.model or COPYING
        return planned_hypotheses(arguments.out, benchmark, words, system=system)
    if arguments.copying:
        return copied_hypotheses(arguments.out, benchmark, words)
    from nllb.model.formats.open_model import open_model

    retry = "no retry" if arguments.no_retry else "retry"
    return translated_hypotheses(
        arguments.out,
        benchmark,
        words,
        model=str(arguments.model),
        model_path=open_model(arguments.model).path,
        search=f"beam {arguments.beam}, {retry}, weights {arguments.dtype}",
        make_translate=lambda: load_line_translator(arguments),
        quiet=arguments.quiet,
    )


def load_line_translator(arguments: argparse.Namespace) -> "Translate":
    """Load the model of `--model` as a function of sentences."""
    from eval.flores.outputs import translate_all
    from nllb.inference.generator import SearchOptions

    translator = load_translator(arguments)
    search = SearchOptions(beam_size=arguments.beam)

    def translate(sentences: Sequence[str], source: str, target: str) -> list[str]:
        def window(lines: list[str]) -> list[str]:
            found = translator.translate(
                lines, source=source, target=target, search=search, retry=not arguments.no_retry
            )
            return [translation.text for translation in found]

        return translate_all(sentences, window)

    return translate
