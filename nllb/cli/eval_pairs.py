"""`nllb eval pairs`: score a model on one small test set per language."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .engine_flags import check_search_arguments, engine_arguments
from .eval_flores import load_line_translator
from .metric_flags import label_detector

if TYPE_CHECKING:
    from eval.flores.pair_sets import PairScore


def pairs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "nllb eval pairs OUT SETS (--model M | --copying) [options]"
    parser.description = (
        "Score a model on the held-out sets that 'nllb data decontaminate' writes: one per "
        "language, with the same pivot language, in both directions. A second run resumes."
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for outputs and results")
    parser.add_argument(
        "sets", metavar="SETS", type=Path, help="folder of folders CODE with CODE.txt and PIVOT.txt"
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("-m", "--model", metavar="M", help="the model")
    given.add_argument("--copying", action="store_true", help="score the sources as translations")
    parser.add_argument("--lines", type=int, metavar="N", help="use only the first N sentences")
    parser.add_argument(
        "--beam", type=int, default=4, metavar="N", help="beam size, default: 4; 1 is greedy"
    )
    parser.add_argument(
        "--no-retry", action="store_true", help="keep flagged outputs instead of retrying"
    )
    parser.add_argument(
        "--detect",
        nargs="?",
        const="",
        metavar="MODEL",
        help="count outputs in a wrong language with the language identifier MODEL; default: the "
        "bundled identifier",
    )
    engine_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the scores as JSON lines")
    parser.add_argument("-q", "--quiet", action="store_true", help="print no progress")


def pairs(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from eval.flores.pair_sets import evaluate_pair_sets, open_pair_sets, summarize
    from nllb.io.text import json_line

    check_search_arguments(arguments)
    sets = open_pair_sets(arguments.sets, num_lines=arguments.lines)

    def report(score: "PairScore") -> None:
        if arguments.json:
            print(json_line(asdict(score)), flush=True)

    scores = evaluate_pair_sets(
        sets,
        arguments.out,
        translate=None if arguments.copying else load_line_translator(arguments),
        made_by=None if arguments.copying else _made_by(arguments),
        detect=label_detector(arguments),
        report=report,
        quiet=arguments.quiet,
    )
    if not arguments.json:
        for line in summarize(sets, scores):
            print(line)
    return 0


def _made_by(arguments: argparse.Namespace) -> dict[str, str]:
    from nllb.config.fingerprints import model_fingerprint
    from nllb.model.formats.open_model import open_model

    retry = "no retry" if arguments.no_retry else "retry"
    return {
        "model": str(arguments.model),
        "model files": model_fingerprint(open_model(arguments.model).path),
        "search": f"beam {arguments.beam}, {retry}, weights {arguments.dtype}",
    }
