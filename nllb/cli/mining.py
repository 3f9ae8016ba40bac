"""`nllb data mine`, `data train-encoder` and `data xsim`: mine bitext and train its encoder."""

import argparse
from pathlib import Path
from typing import Any

from nllb.errors import ConfigError

from .stage_flags import (
    needs_extra,
    parse_shard,
    quiet_argument,
    shard_argument,
    stage_arguments,
)


def mine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Mine parallel sentences: embed and index the text, search in both directions, score the "
        "candidates by margin. OUT receives one Parquet file per language pair; a second run "
        "resumes. With `documents: true`, the sentences of paired documents are aligned instead."
    )
    stage_arguments(
        parser, dry_run="check CONFIG and files, and stop", as_json="results as JSON lines"
    )
    shard_argument(parser)
    parser.add_argument(
        "--phase",
        choices=("text", "embed", "index", "search", "pairs"),
        help="run one phase; finish it for all shards before the next",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, default: 1")


def mine(arguments: argparse.Namespace) -> int:
    with needs_extra("mining", "data"):
        from data_pipeline.mining.mine import MiningRun
        from data_pipeline.mining.mine import mine as run_mining
        from data_pipeline.mining.mining_config import MineConfig
        from data_pipeline.stages import Machine
    from nllb.config import load_config, write_config

    config = load_config(MineConfig, arguments.config, arguments.overrides)
    if arguments.dry_run:
        for task in MiningRun(config, arguments.out).texts():
            size = sum(path.stat().st_size for path in task.paths)
            _show({"language": task.language, "files": len(task.paths), "bytes": size}, arguments)
        return 0
    write_config(config, arguments.out / "config.yaml")
    machine = Machine(
        workers=arguments.workers, shard=parse_shard(arguments.shard), quiet=arguments.quiet
    )
    for result in run_mining(config, arguments.out, machine, arguments.phase):
        _show(result, arguments)
    return 0


def train_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a sentence encoder on sentence pairs, from random weights or by distillation from a "
        "teacher. OUT receives the encoder, its card, the hashes of its training text, and "
        "checkpoints from which a second run resumes."
    )
    stage_arguments(parser, dry_run="check CONFIG and folders, print it, and stop")


def train_encoder(arguments: argparse.Namespace) -> int:
    with needs_extra("mining", "data"):
        from data_pipeline.mining.encoder_training.train_encoder import (
            train_encoder as run_training,
        )
        from data_pipeline.mining.mining_config import EncoderTrainingConfig
    from dataclasses import asdict

    from nllb.config import dump_config, find_config, load_config, write_config

    config = load_config(
        EncoderTrainingConfig, find_config(arguments.config, "mine"), arguments.overrides
    )
    for source in config.sources:
        if not (config.data_dir / source.path).is_dir():
            raise ConfigError(
                f"sources: {source.name}: the folder {config.data_dir / source.path} does not exist"
            )
    if arguments.dry_run:
        print(dump_config(config), end="")
        return 0
    write_config(config, arguments.out / "config.yaml")
    result = asdict(run_training(config, arguments.out, quiet=arguments.quiet))
    _show({**result, "directory": str(result["directory"])}, arguments)
    return 0


def calibrate_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Calibrate the thresholds of an encoder on held-out pairs: the margin for mining, and the "
        "cosine for the similarity filter. They are stored beside the encoder."
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="a configuration of kind encoder: a path or shipped name"
    )
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="values that override those of CONFIG"
    )
    parser.add_argument(
        "--encoder", metavar="E", default="default", help="the encoder; default: default"
    )
    parser.add_argument("--json", action="store_true", help="results as JSON lines")
    quiet_argument(parser)


def calibrate_encoder(arguments: argparse.Namespace) -> int:
    with needs_extra("mining", "data"):
        from data_pipeline.mining.encoder_training.train_encoder import (
            calibrate_encoder as run_calibration,
        )
        from data_pipeline.mining.mining_config import EncoderTrainingConfig
    from dataclasses import asdict

    from nllb.config import find_config, load_config

    config = load_config(
        EncoderTrainingConfig, find_config(arguments.config, "mine"), arguments.overrides
    )
    calibration = run_calibration(config, arguments.encoder, quiet=arguments.quiet)
    for name, points in calibration.margins.items():
        for point in points:
            _show({"margin": name, **asdict(point)}, arguments)
    _show({"similarity": "cosine", **asdict(calibration.similarity)}, arguments)
    return 0


def xsim_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure the error rate of a sentence encoder: the fraction of sentences whose nearest "
        "sentence in the other language is not their translation. Give either CONFIG and OUT, or "
        "--source and --target."
    )
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", help="a path, or the name of a shipped configuration"
    )
    parser.add_argument(
        "out", metavar="OUT", type=Path, nargs="?", help="folder for xsim.json and xsim.html"
    )
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="values that override those of CONFIG"
    )
    parser.add_argument(
        "--encoder",
        metavar="E",
        default="default",
        help="encoder of the two files: default, pretrained, static, the folder of one, or "
        "hub:NAME; default: default",
    )
    parser.add_argument("--source", type=Path, metavar="F", help="sentences, one per line")
    parser.add_argument("--target", type=Path, metavar="F", help="their translations")
    parser.add_argument("--json", action="store_true", help="results as JSON lines")
    quiet_argument(parser)


def xsim(arguments: argparse.Namespace) -> int:
    with needs_extra("mining", "data"):
        from data_pipeline.mining.mining_config import XsimConfig
        from data_pipeline.mining.xsim import mean_errors, run_xsim, thresholds_line
    from dataclasses import asdict

    from nllb.config import find_config, load_config

    files = (arguments.source, arguments.target)
    if None not in files and arguments.config is None:
        return _xsim_of_files(arguments)
    if any(files) or arguments.config is None or arguments.out is None:
        raise ConfigError("give either CONFIG and OUT, or --source F and --target F")
    config = load_config(XsimConfig, find_config(arguments.config, "mine"), arguments.overrides)
    results = run_xsim(config, arguments.out, quiet=arguments.quiet)
    for result in results:
        fields = asdict(result)
        plus = fields.pop("plus") or {}
        _show({**fields, **{f"plus_{kind}": error for kind, error in plus.items()}}, arguments)
    forward, backward = mean_errors(results)
    if not arguments.json:
        print(f"mean of {len(results)}: {100 * forward:.2f} %, back {100 * backward:.2f} %")
        print(thresholds_line(config, results[0].sentences))
    return 0


def _xsim_of_files(arguments: argparse.Namespace) -> int:
    from data_pipeline.mining.encoders.load_encoder import load_encoder
    from data_pipeline.mining.xsim import measure_pair
    from nllb.io.text import read_lines

    sources, targets = (list(read_lines(path)) for path in (arguments.source, arguments.target))
    found = measure_pair(load_encoder(arguments.encoder), sources, targets)
    fields = {"sentences": found.sentences, "forward": found.forward, "backward": found.backward}
    _show(fields, arguments)
    return 0


def _show(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    from nllb.io.text import json_line

    if arguments.json:
        print(json_line(result), flush=True)
    else:
        print("  ".join(f"{key} {value}" for key, value in result.items()), flush=True)
