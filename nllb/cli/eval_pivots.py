"""`nllb eval pivots`: choose the directions that a model translates through English."""

import argparse
import sys
from pathlib import Path


def pivots_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Translate sentence pairs of directions without English both directly and through English. "
        "The better way of each direction is stored in the model's nllb.json, and both scores in "
        "pivots.tsv. 'nllb translate' uses the stored choice; the trust record then contains the "
        "English text."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model directory")
    parser.add_argument(
        "pairs", metavar="PAIRS", help="folder of CODE-CODE.tsv, such as pairs:tatoeba"
    )
    parser.add_argument(
        "--max-pairs", type=int, default=100, metavar="N", help="pairs per direction, default: 100"
    )
    parser.add_argument("--beam", type=int, default=1, metavar="N", help="beam size, default: 1")
    parser.add_argument("-q", "--quiet", action="store_true", help="print no progress")


def pivots(arguments: argparse.Namespace) -> int:
    from eval.flores.pivots import PivotScore, compare_pivots, write_pivots
    from nllb.inference.generator import SearchOptions
    from nllb.inference.model_generator import ModelGenerator
    from nllb.io.corpora import parse_corpus
    from nllb.languages import languages

    generator = ModelGenerator.load(arguments.model)

    def report(score: PivotScore) -> None:
        if not arguments.quiet:
            print(f"{score.direction} {score.direct} {score.pivoted}", file=sys.stderr, flush=True)

    scores = compare_pivots(
        generator,
        parse_corpus(arguments.pairs),
        max_pairs=arguments.max_pairs,
        search=SearchOptions(beam_size=arguments.beam),
        report=report,
    )
    covered = [language.code for language in languages() if generator.supports(language)]
    chosen = write_pivots(arguments.model, scores, covered)
    print(f"{len(scores):,} directions measured; {chosen:,} are translated through English")
    return 0
