"""`nllb train`: train a model from token shards, or go on with an interrupted run."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from nllb.cli.stage_flags import stage_arguments
from nllb.config import format_size
from nllb.io.text import json_line

if TYPE_CHECKING:
    from nllb.training.train_config import Precision, TrainConfig


def train_arguments(parser: argparse.ArgumentParser) -> None:
    stage_arguments(parser, dry_run="say what the run will take, and stop")


def train(arguments: argparse.Namespace) -> int:
    from nllb.config import load_config
    from nllb.training.train_config import TrainConfig

    config = load_config(TrainConfig, arguments.config, arguments.overrides)
    if arguments.dry_run:
        return _estimate(config, as_json=arguments.json)
    from nllb.cli.train_scoring import make_scorer
    from nllb.training.trainer import train as train_model

    result = train_model(config, arguments.out, make_scorer=make_scorer, quiet=arguments.quiet)
    if os.environ.get("RANK", "0") != "0":
        return 0
    if arguments.json:
        fields = {"ending": result.ending, "step": result.state.step, "tokens": result.state.tokens}
        best = {"best": result.state.best, "best_step": result.state.best_step}
        print(json_line({**fields, **best, "model": result.model_dir and str(result.model_dir)}))
    elif result.model_dir is not None:
        print(result.model_dir)
    else:
        print(
            f"stopped at step {result.state.step:,}; the same command goes on from there",
            file=sys.stderr,
        )
    return 0


def _estimate(config: "TrainConfig", *, as_json: bool) -> int:
    from dataclasses import asdict

    from nllb.io.manifest import read_manifest
    from nllb.training.estimate import estimate
    from nllb.training.trainer import open_tokenizer, shape_of

    manifest = read_manifest(config.data)
    tokenizer = open_tokenizer(config, manifest)
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    size = estimate(config, shape_of(config, tokenizer), num_ranks=num_ranks)
    speed = matrix_speed(config.precision)
    if as_json:
        print(json_line({**asdict(size), "seconds_here": size.seconds(speed)}))
        return 0
    pairs = sum(direction.num_pairs for direction in manifest.directions)
    state, memory = format_size(size.state_bytes), format_size(size.memory_bytes)
    rows = {
        "parameters": f"{size.parameters:,}, of which a token meets {size.active_parameters:,}",
        "memory a rank": f"{memory}, with {state} for weights, gradients and the optimizer",
        "data": f"{pairs:,} pairs in {len(manifest.directions):,} directions",
        "steps": f"{size.steps:,} of at most {size.tokens_per_step:,} tokens",
        "tokens": f"{size.tokens:,}",
        "time": f"above {_duration(size.seconds(speed))}: one rank does {speed / 1e9:,.0f} GFLOP/s "
        "here in large matrix products",
    }
    for name, value in rows.items():
        print(f"{name:<14} {value}")
    return 0


def matrix_speed(precision: "Precision") -> float:
    """Measure the floating-point operations a second of a matrix product of this type here."""
    import time

    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 4096 if device == "cuda" else 1024
    left = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        (left @ left).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"
