"""`nllb train`: train a model from token shards, or resume an interrupted run."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from nllb.io.text import json_line

from .stage_flags import show_log, stage_arguments

if TYPE_CHECKING:
    from nllb.training.train_config import TrainConfig
    from nllb.training.trainer import TrainingResult


def train_arguments(parser: argparse.ArgumentParser) -> None:
    stage_arguments(parser, dry_run="print an estimate of memory and time, and exit")


def train(arguments: argparse.Namespace) -> int:
    from nllb.config import load_config
    from nllb.training.train_config import TrainConfig

    config = load_config(TrainConfig, arguments.config, arguments.overrides)
    show_log(quiet=arguments.quiet)
    if arguments.dry_run:
        return _print_estimate(config, as_json=arguments.json)
    from nllb.inference.line_translator import LineTranslator
    from nllb.training.trainer import train as train_model

    result = train_model(config, arguments.out, translators=LineTranslator, quiet=arguments.quiet)
    if os.environ.get("RANK", "0") != "0":
        return 0
    _print_result(result, as_json=arguments.json)
    return 0


def _print_result(result: "TrainingResult", *, as_json: bool) -> None:
    if as_json:
        state = result.state
        fields = {
            "ending": result.ending,
            "step": state.step,
            "tokens": state.tokens,
            "best": state.best,
            "best_step": state.best_step,
            "warning": result.warning,
            "model": result.model_dir and str(result.model_dir),
        }
        print(json_line(fields))
    elif result.model_dir is not None:
        print(result.model_dir)
    else:
        print(
            f"stopped at step {result.state.step:,}; run the same command again to resume",
            file=sys.stderr,
        )


def _print_estimate(config: "TrainConfig", *, as_json: bool) -> int:
    from dataclasses import asdict

    from nllb.training.estimate import describe, estimate_run

    planned = estimate_run(config, num_ranks=int(os.environ.get("WORLD_SIZE", "1")))
    if as_json:
        print(json_line({**asdict(planned.size), "seconds_here": planned.seconds}))
        return 0
    data = f"{planned.num_pairs:,} pairs in {planned.num_directions:,} directions"
    for name, value in {**describe(planned.size, speed=planned.speed), "data": data}.items():
        print(f"{name:<16} {value}")
    return 0
