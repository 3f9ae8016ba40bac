"""`nllb card`: write a model's card beside the model."""

import argparse
from pathlib import Path

from .stage_flags import quiet_argument


def card_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a model card: README.md (the metadata and the section between two marks), "
        "scores.tsv with every direction, and nllb.json. All figures are read from the files of "
        "the runs."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="the model directory")
    parser.add_argument(
        "--run", dest="run_dir", metavar="DIR", type=Path, required=True, help="OUT of 'nllb train'"
    )
    parser.add_argument("--scores", metavar="DIR", type=Path, help="OUT of 'nllb eval flores'")
    parser.add_argument(
        "--beside",
        metavar="NAME=DIR",
        action="append",
        default=[],
        help="results of another system on the same lines, such as copying=DIR; may be repeated",
    )
    parser.add_argument("--licence", metavar="L", help="licence of the weights")
    parser.add_argument(
        "--summary", metavar="TEXT", help="one-line description of the model for 'nllb models'"
    )
    parser.add_argument("--command", metavar="TEXT", help="the command that trained the model")
    parser.add_argument("--hardware", metavar="TEXT", help="the machine on which it was trained")
    parser.add_argument(
        "--covered-gain",
        type=float,
        metavar="N",
        help="declare a language as covered if its directions to and from English score at least N "
        "chrF++ more than --beside copying=DIR and their outputs are in the right language; "
        "translation refuses other languages",
    )
    quiet_argument(parser)


def card(arguments: argparse.Namespace) -> int:
    from eval.model_card import CardOptions, write_card
    from nllb.config import load_config
    from nllb.errors import DataError
    from nllb.training.train_config import TrainConfig

    if not (arguments.run_dir / "config.yaml").is_file():
        raise DataError(f"{arguments.run_dir} contains no checkpoint: give the OUT of 'nllb train'")
    path = write_card(
        arguments.model,
        arguments.run_dir,
        data_dir=load_config(TrainConfig, arguments.run_dir / "config.yaml").data,
        scores=arguments.scores,
        beside=tuple(arguments.beside),
        options=CardOptions(
            licence=arguments.licence,
            summary=arguments.summary,
            command=arguments.command,
            hardware=arguments.hardware,
            min_gain=arguments.covered_gain,
        ),
    )
    if not arguments.quiet:
        print(f"{path}: written")
    return 0
