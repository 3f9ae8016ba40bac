"""`nllb backtranslate`: translate monolingual text into bitext."""

import argparse

from nllb.config import load_config
from nllb.io.text import json_line

from .stage_flags import parse_shard, shard_argument, show_log, stage_arguments


def backtranslate_arguments(parser: argparse.ArgumentParser) -> None:
    stage_arguments(parser, dry_run="print what would be translated, and exit")
    shard_argument(parser)


def backtranslate(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from nllb.inference.line_translator import LineTranslator
    from nllb.training.backtranslation import backtranslate as translate_text
    from nllb.training.backtranslation import plan_backtranslation
    from nllb.training.backtranslation_config import BacktranslationConfig

    config = load_config(BacktranslationConfig, arguments.config, arguments.overrides)
    shard = parse_shard(arguments.shard)
    show_log(quiet=arguments.quiet)
    if arguments.dry_run:
        for text in plan_backtranslation(config):
            line = f"{text.pair}: {text.lines:,} lines of {text.path}"
            print(json_line(asdict(text)) if arguments.json else line)
        return 0
    report = translate_text(
        config, arguments.out, LineTranslator, shard=shard, quiet=arguments.quiet
    )
    if arguments.json:
        print(json_line(report))
        return 0
    for pair, counts in report.items():
        listed = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items() if count)
        print(f"{arguments.out / pair}.tsv.zst: {listed}")
    return 0
