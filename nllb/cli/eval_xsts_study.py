"""`nllb eval xsts plan` and `sheet`: design a human evaluation and write its sheets."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from .stage_flags import quiet_argument


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compute how many items and raters a given precision needs. Spreads are estimated from "
        "earlier ratings if files are given, and otherwise are typical values."
    )
    parser.add_argument("files", nargs="*", metavar="FILE", type=Path, help="earlier ratings")
    aim = parser.add_mutually_exclusive_group(required=True)
    aim.add_argument(
        "--half-width",
        type=float,
        metavar="X",
        help="half of the 95 %% interval of one score to plan for, in points",
    )
    aim.add_argument(
        "--difference",
        type=float,
        metavar="X",
        help="difference between two systems to detect, in points",
    )
    parser.add_argument(
        "--power",
        type=float,
        default=0.8,
        metavar="P",
        help="probability of detecting the difference, default: 0.8",
    )
    parser.add_argument(
        "--unpaired", action="store_true", help="the systems are rated on different items"
    )
    parser.add_argument(
        "--uncalibrated", action="store_true", help="the raters rate no calibration items"
    )
    columns_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one row per line as JSON")


def plan(arguments: argparse.Namespace) -> int:
    from eval.xsts.ingestion import parse_columns, read_ratings
    from eval.xsts.planning import Spreads, as_markdown, plans, spreads_of
    from nllb.io.text import json_line

    columns = parse_columns(arguments.columns)
    files = [read_ratings(path, columns=columns) for path in arguments.files]
    spreads = spreads_of(files) if files else Spreads()
    rows = plans(
        spreads,
        half_width=arguments.half_width,
        difference=arguments.difference,
        power=arguments.power,
        paired=not arguments.unpaired,
        calibrated=not arguments.uncalibrated,
    )
    if arguments.json:
        for row in rows:
            print(json_line(asdict(row)))
    else:
        print(as_markdown(rows, spreads, measured=bool(files)))
    return 0


def sheet_arguments(parser: argparse.ArgumentParser) -> None:
    # OUT comes before --raters, which would otherwise consume it as one more rater.
    parser.usage = "nllb eval xsts sheet FILE [FILE ...] OUT --raters R [R ...] [options]"
    parser.description = (
        "Write annotation sheets (CSV and XLSX, one per rater) and a page of guidelines from "
        "tables of items (item_id, system, src_lang, tgt_lang, src_text, tgt_text). Raters do "
        "not see the systems: do not give them OUT/key.jsonl, which identifies each row."
    )
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="items to rate")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder for the sheets")
    parser.add_argument(
        "--raters",
        required=True,
        nargs="+",
        metavar="R",
        help="pseudonyms of the raters, not names or e-mail addresses",
    )
    parser.add_argument(
        "--per-item", type=int, default=3, metavar="N", help="raters per item, default: 3"
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="calibration items with a stratum"
    )
    parser.add_argument(
        "--items", type=int, metavar="N", help="use a random sample of N items; default: all"
    )
    parser.add_argument(
        "--repeat",
        type=float,
        default=0.0,
        metavar="P",
        help="fraction of the items that each rater rates twice, default: 0",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of sampling and order, default: 0"
    )
    columns_argument(parser)
    quiet_argument(parser)


def sheet(arguments: argparse.Namespace) -> int:
    from eval.xsts.ingestion import parse_columns
    from eval.xsts.sheet import SheetSettings, read_items, write_sheets

    columns = parse_columns(arguments.columns)
    items = [item for path in arguments.files for item in read_items(path, columns=columns)]
    anchors = read_items(arguments.calibration, columns=columns) if arguments.calibration else []
    settings = SheetSettings(
        raters=tuple(arguments.raters),
        per_item=arguments.per_item,
        num_items=arguments.items,
        repeat=arguments.repeat,
        seed=arguments.seed,
    )
    for path in write_sheets(items, anchors, arguments.out, settings=settings):
        print(path)
    if not anchors and not arguments.quiet:
        print(
            "warning: no --calibration items: the scores of different raters will not be "
            "comparable",
            file=sys.stderr,
        )
    return 0


def columns_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="column of a field, or FIELD==VALUE for all rows; may be repeated",
    )
