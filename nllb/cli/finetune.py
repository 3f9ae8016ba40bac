"""`nllb finetune`: fine-tune a model, or teach it a language."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nllb.config import load_config
from nllb.config.loading import config_of
from nllb.errors import ConfigError
from nllb.io.text import json_line

from .stage_flags import is_override, quiet_argument, show_log

if TYPE_CHECKING:
    from nllb.training.finetune_config import FinetuneConfig
    from nllb.training.finetuning.finetune import FinetunePlan
    from nllb.training.finetuning.report import FinetuneReport


def finetune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "nllb finetune CONFIG OUT [key=value ...]\n"
        "       nllb finetune --model M [--add CODE --like CODE] --text FILE OUT [key=value ...]"
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="CONFIG OUT",
        help="a path or the name of a shipped configuration, and the output folder; an "
        "interrupted run resumes",
    )
    parser.add_argument(
        "-m", "--model", metavar="M", help="model to start from, instead of a configuration"
    )
    parser.add_argument("--add", metavar="CODE", help="a language to add to the model")
    parser.add_argument(
        "--like", metavar="CODE", help="similar language whose embedding initialises it"
    )
    parser.add_argument(
        "--text",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="sentence pairs, source TAB target, in a file named SOURCE-TARGET.tsv; may be "
        "repeated",
    )
    parser.add_argument(
        "--replay",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="pairs of directions that the model must not forget; default: the new text, "
        "translated by the model into languages that it knows",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print steps, memory and time, and exit"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--strict", action="store_true", help="exit with code 1 if the report contains a problem"
    )
    quiet_argument(parser)


def finetune(arguments: argparse.Namespace) -> int:
    from nllb.inference.line_translator import LineTranslator
    from nllb.training.finetuning.finetune import finetune as finetune_model
    from nllb.training.finetuning.finetune import plan_finetuning

    config, out_dir = _configuration(arguments)
    show_log(quiet=arguments.quiet)
    if arguments.dry_run or not arguments.quiet:
        plan = plan_finetuning(config, out_dir, dry_run=arguments.dry_run, quiet=arguments.quiet)
        _print_plan(plan, as_json=arguments.json and arguments.dry_run)
        if arguments.dry_run:
            return 0
    result, report = finetune_model(
        config, out_dir, translators=LineTranslator, quiet=arguments.quiet
    )
    if report is None:
        print(
            f"stopped at step {result.state.step:,}; run the same command again to resume",
            file=sys.stderr,
        )
        return 0
    if arguments.json:
        print(json_line(report.to_json()))
    else:
        _print_report(report)
    for problem in report.problems:
        print(f"nllb: warning: {problem}", file=sys.stderr)
    return 1 if arguments.strict and report.problems else 0


def _print_plan(plan: "FinetunePlan", *, as_json: bool) -> None:
    from dataclasses import asdict

    from nllb.training.estimate import describe, local_speed

    speed = local_speed(plan.train_config)
    if as_json:
        fields = {"added_characters": plan.characters, "self_replay": plan.self_replay}
        print(json_line({**fields, **asdict(plan.size), "seconds_here": plan.size.seconds(speed)}))
        return
    rows = describe(plan.size, speed=speed)
    if plan.characters:
        rows["new characters"] = " ".join(plan.characters)
    if plan.self_replay:
        rows["replay"] = f"the new text, translated by the model into {', '.join(plan.self_replay)}"
    for name, value in rows.items():
        print(f"{name:<16} {value}", file=sys.stderr)


def _print_report(report: "FinetuneReport") -> None:
    print(
        f"{'direction':<24}{'':<5}{'before':>8}{'after':>8}{'copying':>9}   chrF++, held-out pairs"
    )
    for row in sorted(report.directions, key=lambda row: (row.role, row.name)):
        scores = [(row.before, 8), (row.after, 8), (row.copying, 9)]
        shown = "".join(f"{'-' if x is None else f'{x:.1f}':>{width}}" for x, width in scores)
        print(f"{row.name:<24}{row.role:<5}{shown}")
    print(report.model)


def _hint(overrides: list[str]) -> str:
    if not overrides:
        return ""
    return f"; {overrides[0]!r} was read as an override: if it is a path, write ./{overrides[0]}"


def _configuration(arguments: argparse.Namespace) -> tuple["FinetuneConfig", Path]:
    from nllb.training.finetune_config import FinetuneConfig, NewLanguage
    from nllb.training.finetuning.text_shards import pairs_from_filename

    overrides = [word for word in arguments.words if is_override(word)]
    words = [word for word in arguments.words if word not in overrides]
    if arguments.model is None:
        flags = [name for name in ("add", "like", "text", "replay") if getattr(arguments, name)]
        if flags:
            raise ConfigError(
                f"only with --model: --{', --'.join(flags)}; a CONFIG file contains these settings"
            )
        if len(words) != 2:
            hint = _hint(overrides)
            raise ConfigError(f"expected CONFIG OUT, or --model M --text FILE OUT{hint}")
        return load_config(FinetuneConfig, words[0], overrides), Path(words[1])
    if len(words) != 1 or not arguments.text:
        raise ConfigError(f"expected --model M --text FILE OUT{_hint(overrides)}")
    if (arguments.add is None) != (arguments.like is None):
        raise ConfigError("--add CODE needs --like CODE, and vice versa")
    files = [pairs_from_filename(path) for path in arguments.text]
    files += [pairs_from_filename(path, is_replay=True) for path in arguments.replay]
    added = [NewLanguage(code=arguments.add, like=arguments.like)] if arguments.add else []
    values = {"model": arguments.model, "text": files, "add": added}
    return config_of(FinetuneConfig, values, overrides), Path(words[0])
