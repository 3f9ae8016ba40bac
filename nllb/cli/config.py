"""`nllb config check` and `nllb config show`: read any shipped or own configuration."""

import argparse
from importlib import import_module
from typing import Any

from nllb.config import config_kind, dump_config, find_config, load_config
from nllb.errors import ConfigError, did_you_mean

KINDS = {
    "backtranslation": "nllb.training.backtranslation:BacktranslationConfig",
    "data": "data_pipeline.data_config:DataConfig",
    "encoder": "data_pipeline.mining.mining_config:EncoderTrainingConfig",
    "finetune": "nllb.training.finetune_config:FinetuneConfig",
    "lid": "lid.train.lid_config:LidConfig",
    "mine": "data_pipeline.mining.mining_config:MineConfig",
    "pipeline": "slurm.graph:PipelineConfig",
    "slurm": "slurm.cluster:ClusterConfig",
    "xsim": "data_pipeline.mining.mining_config:XsimConfig",
    "train": "nllb.training.train_config:TrainConfig",
}
"""Where the root class of each sort of run stands."""


def check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a path, or the name of a shipped one: train/mini, or mini where only one has it",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="values to put on top, as in schedule.steps=100",
    )


show_arguments = check_arguments


def check(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    print(f"{arguments.config}: a valid configuration of kind {config.kind}")
    return 0


def show(arguments: argparse.Namespace) -> int:
    print(dump_config(_load(arguments)), end="")
    return 0


def _load(arguments: argparse.Namespace) -> Any:
    path = find_config(arguments.config)
    kind = config_kind(path)
    if kind not in KINDS:
        valid = ", ".join(KINDS)
        raise ConfigError(
            f"{arguments.config}: kind {kind!r}{did_you_mean(kind, KINDS) or ';'} valid: {valid}"
        )
    module, _, name = KINDS[kind].partition(":")
    return load_config(getattr(import_module(module), name), path, arguments.overrides)
