"""`nllb lid train` and `nllb lid eval`: make a language identifier, and measure one."""

import argparse
import os
import sys
from pathlib import Path

from nllb.cli.stage_flags import quiet_argument, stage_arguments


def train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a language identifier: collect and clean text, sample, train, quantise, calibrate. "
        "OUT gets the model, its card and, under OUT/work, what an interrupted run goes on from."
    )
    stage_arguments(
        parser,
        out="folder of the model; a second start resumes",
        dry_run="check CONFIG and folders, and stop",
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
        "Measure a language identifier on labelled lines, full and cut to their first words. "
        "OUT gets lid.json and lid.html."
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model folder, .bin or .ftz file, or `default` for the shipped one",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for lid.json and lid.html")
    parser.add_argument(
        "--text",
        type=Path,
        metavar="DIR",
        help="FLORES in any of its layouts, or a folder of files CODE; default: flores200_dataset "
        "here or in $NLLB_TEST_DATA",
    )
    parser.add_argument(
        "--foreign",
        type=Path,
        metavar="DIR",
        help="folder of texts ISO__ID.tsv in languages outside the table",
    )
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    quiet_argument(parser)


def evaluate(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from lid.detector import Detector
    from lid.evaluate.lid_report import as_text, write_report
    from lid.evaluate.measure import evaluate as evaluate_lid
    from lid.evaluate.measure import read_foreign, read_labelled
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
        read_foreign(arguments.foreign) if arguments.foreign else None,
        name=text.name,
        quiet=arguments.quiet,
    )
    path = write_report(evaluation, detector.card, arguments.out)
    if not arguments.quiet:
        print(f"wrote {path}", file=sys.stderr)
    print(json_line(asdict(evaluation)) if arguments.json else as_text(evaluation))
    return 0
