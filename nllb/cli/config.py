"""`nllb config check` and `nllb config show`: check or print a configuration."""

import argparse
from importlib import import_module
from typing import TYPE_CHECKING

from nllb.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from nllb.config.schema import RunConfig

KINDS = {
    "backtranslation": "nllb.training.backtranslation_config:BacktranslationConfig",
    "data": "data_pipeline.data_config:DataConfig",
    "encoder": "data_pipeline.mining.mining_config:EncoderTrainingConfig",
    "finetune": "nllb.training.finetune_config:FinetuneConfig",
    "lid": "lid.train.lid_config:LidConfig",
    "mine": "data_pipeline.mining.mining_config:MineConfig",
    "pipeline": "slurm.graph:PipelineConfig",
    "slurm": "slurm.cluster:ClusterConfig",
    "sweep": "nllb.training.sweep_config:SweepConfig",
    "xsim": "data_pipeline.mining.mining_config:XsimConfig",
    "train": "nllb.training.train_config:TrainConfig",
}
"""The module and the class of each kind of run."""


def check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a path, or the name of a shipped configuration: train/mini, or mini if it is unique",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="values that replace those of the file, such as schedule.steps=100",
    )


show_arguments = check_arguments


def check(arguments: argparse.Namespace) -> int:
    config = _load(arguments)
    print(f"{arguments.config}: valid configuration of the kind {config.kind_name()}")
    return 0


def show(arguments: argparse.Namespace) -> int:
    from nllb.config import dump_config

    print(dump_config(_load(arguments)), end="")
    return 0


def _load(arguments: argparse.Namespace) -> "RunConfig":
    from nllb.config import config_kind, find_config, load_config

    path = find_config(arguments.config)
    kind = config_kind(path)
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or ";"
        raise ConfigError(f"{arguments.config}: kind {kind!r}{hint} valid: {', '.join(KINDS)}")
    module, _, name = KINDS[kind].partition(":")
    cls: type[RunConfig] = getattr(import_module(module), name)
    return load_config(cls, path, arguments.overrides)
