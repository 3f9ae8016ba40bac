"""`nllb backtranslate`: monolingual text and its translation become bitext."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nllb.cli.stage_flags import parse_shard, shard_argument, stage_arguments
from nllb.config import load_config
from nllb.io.text import json_line
from nllb.languages import parse_language

if TYPE_CHECKING:
    from nllb.training.backtranslation import BacktranslationConfig, Translate


def backtranslate_arguments(parser: argparse.ArgumentParser) -> None:
    stage_arguments(parser, dry_run="say what would be translated, and stop")
    shard_argument(parser)


def backtranslate(arguments: argparse.Namespace) -> int:
    from nllb.io.text import read_lines
    from nllb.training.backtranslation import BacktranslationConfig
    from nllb.training.backtranslation import backtranslate as translate_text

    config = load_config(BacktranslationConfig, arguments.config, arguments.overrides)
    shard = parse_shard(arguments.shard)
    if arguments.dry_run:
        for text in config.text:
            count = sum(1 for _ in read_lines(text.path))
            planned = {"pair": config.pair(text), "lines": count, "path": str(text.path)}
            said = f"{config.pair(text)}: {count:,} lines of {text.path}"
            print(json_line(planned) if arguments.json else said)
        return 0
    report = translate_text(
        config, arguments.out, _translator(config), shard=shard, quiet=arguments.quiet
    )
    if arguments.json:
        print(json_line(report))
        return 0
    for pair, counts in report.items():
        listed = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
        print(f"{arguments.out / pair}.tsv.zst: {listed}")
    return 0


def _translator(config: "BacktranslationConfig") -> "Translate":
    from nllb.inference.generator import SearchOptions
    from nllb.inference.model_generator import ModelGenerator

    generator = ModelGenerator.load(config.model, device=config.device)
    options = SearchOptions(beam_size=config.beam_size, sampling=config.sampling)

    def translate(lines: Sequence[str], source: str, target: str) -> list[str | None]:
        spoken, wanted = parse_language(source), parse_language(target)
        fits = [generator.fits(line, source=spoken) for line in lines]
        fitting = [line for line, is_short in zip(lines, fits, strict=True) if is_short]
        found = iter(generator.generate(fitting, source=spoken, target=wanted, search=options))
        return [next(found)[0].text if is_short else None for is_short in fits]

    return translate
