"""`nllb backtranslate`: monolingual text and its translation become bitext."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nllb.config import load_config, write_config
from nllb.errors import ConfigError
from nllb.languages import parse_language
from nllb.textio import json_line

if TYPE_CHECKING:
    from nllb.training.backtranslation import BacktranslationConfig, Translate


def backtranslate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a path, or the name of a shipped one")
    parser.add_argument(
        "out_dir", type=Path, metavar="OUT", help="directory; a second start resumes"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values to put on top")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="part I of N, from 0")
    parser.add_argument("--dry-run", action="store_true", help="say what would be translated")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def backtranslate(arguments: argparse.Namespace) -> int:
    from nllb.textio import read_lines
    from nllb.training.backtranslation import BacktranslationConfig
    from nllb.training.backtranslation import backtranslate as translate_text

    config = load_config(BacktranslationConfig, arguments.config, arguments.overrides)
    shard = _shard(arguments.shard)
    if arguments.dry_run:
        for text in config.text:
            count = sum(1 for _ in read_lines(text.path))
            print(f"{config.pair(text)}: {count:,} lines of {text.path}")
        return 0
    arguments.out_dir.mkdir(parents=True, exist_ok=True)
    write_config(config, arguments.out_dir / "config.yaml")
    report = translate_text(
        config, arguments.out_dir, _translator(config), shard=shard, quiet=arguments.quiet
    )
    if arguments.json:
        print(json_line(report))
        return 0
    for pair, counts in report.items():
        listed = ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
        print(f"{arguments.out_dir / pair}.tsv.zst: {listed}")
    return 0


def _translator(config: "BacktranslationConfig") -> "Translate":
    from nllb.translation.generation import SearchOptions
    from nllb.translation.model_generator import ModelGenerator

    generator = ModelGenerator.load(config.model, device=config.device)
    options = SearchOptions(beam_size=config.beam_size, sampling=config.sampling)

    def translate(lines: Sequence[str], source: str, target: str) -> list[str]:
        spoken, wanted = parse_language(source), parse_language(target)
        fits = [generator.fits(line, source=spoken) for line in lines]
        fitting = [line for line, is_short in zip(lines, fits, strict=True) if is_short]
        found = iter(generator.generate(fitting, source=spoken, target=wanted, search=options))
        # A line that is too long for the model has no translation, and is counted as empty.
        return [next(found)[0].text if is_short else "" for is_short in fits]

    return translate


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not slash or not index.isdigit() or not count.isdigit() or not int(index) < int(count):
        raise ConfigError(f"--shard is {text!r}; write it as I/N with I from 0 to N - 1, as 0/8")
    return int(index), int(count)
