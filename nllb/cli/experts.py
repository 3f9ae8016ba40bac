"""`nllb experts` analyses which experts each language uses and writes a report."""

import argparse
from pathlib import Path

from nllb.io.text import json_line

from .stage_flags import quiet_argument


def experts_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a mixture-of-experts model")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory to write")
    parser.add_argument(
        "--text",
        required=True,
        type=Path,
        metavar="DIR",
        help="directory with one line-aligned file per language, CODE.txt (or CODE.dev, ...)",
    )
    parser.add_argument(
        "--lines",
        type=int,
        default=200,
        metavar="N",
        help="maximum number of lines per language, default: 200",
    )
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (default) or cuda")
    parser.add_argument("--json", action="store_true", help="print the mean similarities as JSON")
    quiet_argument(parser)


def experts(arguments: argparse.Namespace) -> int:
    from nllb.inference.expert_analysis import measure_expert_use, write_analysis
    from nllb.io.benchmarks import load_aligned
    from nllb.model.formats.open_model import open_model

    opened = open_model(arguments.model)
    use = measure_expert_use(
        opened,
        load_aligned(arguments.text),
        max_lines=arguments.lines,
        device=arguments.device,
        quiet=arguments.quiet,
    )
    write_analysis(use, arguments.out, model=opened.name)
    if arguments.json:
        means = {layer: float(use.similarity(layer).mean()) for layer in use.shares}
        print(json_line({"languages": len(use.languages), "mean_cosine": means}))
    else:
        print(arguments.out / "experts.html")
    return 0
