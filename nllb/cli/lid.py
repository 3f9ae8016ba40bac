"""`nllb lid train` and `nllb lid eval`: train and evaluate a language identifier."""

import argparse
import os
import sys
from pathlib import Path

from .stage_flags import quiet_argument, stage_arguments


def train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a language identifier: collect and clean text, sample it, train, quantise and "
        "calibrate the model. The model and its card are written to OUT; OUT/work contains the "
        "files that an interrupted run resumes from."
    )
    stage_arguments(
        parser,
        out="model folder; running the command again resumes an interrupted run",
        dry_run="check CONFIG and its folders, print the resolved configuration and exit",
    )


def train(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from lid.train.lid_config import LidConfig
    from lid.train.train_identifier import check_sources
    from lid.train.train_identifier import train as train_lid
    from nllb.config import dump_config, format_size, load_config
    from nllb.io.text import json_line

    config = load_config(LidConfig, arguments.config, arguments.overrides)
    check_sources(config)
    if arguments.dry_run:
        print(dump_config(config), end="")
        return 0
    report = train_lid(config, arguments.out, quiet=arguments.quiet)
    if arguments.json:
        print(json_line({**asdict(report), "directory": str(report.directory)}))
        return 0
    print(f"{report.directory}: {report.labels} labels, {format_size(report.size_bytes)}")
    for name, value in report.held_out.items():
        print(f"held-out lines, {name}: {value:.4f}")
    return 0


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Evaluate a language identifier on labelled lines: on whole lines and on their first "
        "words only. The report is written to OUT as lid.json and lid.html."
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model folder, .bin or .ftz file, or `default` for the model that nllb ships",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for lid.json and lid.html")
    parser.add_argument(
        "--text",
        type=Path,
        metavar="DIR",
        help="FLORES in any of its layouts, or a folder with one file CODE or CODE.txt per "
        "language (default: flores200_dataset in the current folder or in $NLLB_TEST_DATA)",
    )
    parser.add_argument(
        "--out-of-set",
        "--foreign",
        type=Path,
        metavar="DIR",
        help="folder of files ISO__ID.tsv with text in out-of-set languages, which the model "
        "should answer with `und` (--foreign is the deprecated name of this option)",
    )
    parser.add_argument("--json", action="store_true", help="print the complete result as JSON")
    quiet_argument(parser)


def evaluate(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from lid.detector import Detector
    from lid.evaluate.lid_report import as_text, write_report
    from lid.evaluate.measure import evaluate as evaluate_lid
    from lid.evaluate.measure import read_labelled, read_out_of_set
    from nllb.io.text import json_line

    folders = [
        Path("flores200_dataset"),
        Path(os.environ.get("NLLB_TEST_DATA", ".")) / "flores200_dataset",
    ]
    text = arguments.text or next((folder for folder in folders if folder.is_dir()), folders[0])
    detector = Detector.load(None if arguments.model == "default" else arguments.model)
    evaluation = evaluate_lid(
        detector,
        read_labelled(text),
        read_out_of_set(arguments.out_of_set) if arguments.out_of_set else None,
        name=text.name,
        quiet=arguments.quiet,
    )
    path = write_report(evaluation, detector.card, arguments.out)
    if not arguments.quiet:
        print(f"wrote {path}", file=sys.stderr)
    print(json_line(asdict(evaluation)) if arguments.json else as_text(evaluation))
    return 0
