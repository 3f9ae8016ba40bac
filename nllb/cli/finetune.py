"""`nllb finetune`: train a model further, or teach it a language."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nllb.config import load_config, write_config
from nllb.config.loading import config_of
from nllb.errors import ConfigError
from nllb.io.text import json_line

if TYPE_CHECKING:
    from nllb.training.finetune_config import FinetuneConfig

from nllb.cli.stage_flags import quiet_argument


def finetune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "nllb finetune CONFIG OUT [key=value ...]\n"
        "       nllb finetune --model M [--add CODE --like CODE] --text FILE OUT [key=value ...]"
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="CONFIG OUT",
        help="a path or the name of a shipped configuration, and the folder for the results; "
        "a second start resumes",
    )
    parser.add_argument(
        "-m", "--model", metavar="M", help="model to start from, instead of a configuration"
    )
    parser.add_argument("--add", metavar="CODE", help="a language to add to the model")
    parser.add_argument("--like", metavar="CODE", help="language of the model that it begins like")
    parser.add_argument(
        "--text",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="pairs `source TAB target`, named SOURCE-TARGET.tsv; may be given more than once",
    )
    parser.add_argument(
        "--replay",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="the same, of old directions, against forgetting",
    )
    parser.add_argument("--dry-run", action="store_true", help="prepare, and say what it takes")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    quiet_argument(parser)


def finetune(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from nllb.cli.train_scoring import make_scorer
    from nllb.training.finetuning import describe, prepare
    from nllb.training.finetuning import finetune as finetune_model

    config, out_dir = _configuration(arguments)
    prepared = prepare(config, out_dir, quiet=arguments.quiet)
    write_config(config, out_dir / "finetune.yaml")
    if not arguments.quiet or arguments.dry_run:
        print(describe(prepared.size), file=sys.stderr)
        if prepared.characters:
            print(f"new characters: {' '.join(prepared.characters)}", file=sys.stderr)
    if arguments.dry_run:
        if arguments.json:
            planned = {"added_characters": prepared.characters, **asdict(prepared.size)}
            print(json_line(planned))
        return 0
    result, report = finetune_model(config, out_dir, make_scorer=make_scorer, quiet=arguments.quiet)
    if result.model_dir is None:
        print("stopped; the same command goes on from there", file=sys.stderr)
        return 0
    if arguments.json:
        print(json_line(report))
        return 0
    print(f"{'direction':<24}{'':<6}{'before':>8}{'after':>8}   chrF++ of held-out pairs")
    directions = report["directions"]
    assert isinstance(directions, dict)
    for name, row in sorted(directions.items(), key=lambda item: (item[1]["role"], item[0])):
        print(f"{name:<24}{row['role']:<6}{row['before']:>8.1f}{row['after']:>8.1f}")
    print(result.model_dir)
    return 0


def _configuration(arguments: argparse.Namespace) -> tuple["FinetuneConfig", Path]:
    from nllb.training.finetune_config import FinetuneConfig, NewLanguage
    from nllb.training.text_shards import pairs_of_name

    words = [word for word in arguments.words if "=" not in word]
    overrides = [word for word in arguments.words if "=" in word]
    if arguments.model is None:
        flags = [name for name in ("add", "like", "text", "replay") if getattr(arguments, name)]
        if flags:
            raise ConfigError(
                f"only with --model: --{', --'.join(flags)}; a CONFIG says these things itself"
            )
        if len(words) != 2:
            raise ConfigError("expected CONFIG OUT, or --model M --text FILE OUT")
        return load_config(FinetuneConfig, words[0], overrides), Path(words[1])
    if len(words) != 1 or not arguments.text:
        raise ConfigError("expected --model M --text FILE OUT")
    if (arguments.add is None) != (arguments.like is None):
        raise ConfigError("--add CODE and --like CODE belong together")
    files = [pairs_of_name(path) for path in arguments.text]
    files += [pairs_of_name(path, is_replay=True) for path in arguments.replay]
    added = [NewLanguage(code=arguments.add, like=arguments.like)] if arguments.add else []
    values = {"model": arguments.model, "text": files, "add": added}
    return config_of(FinetuneConfig, values, overrides), Path(words[0])
