"""`nllb data`: one verb per stage of the data pipeline, and `run` for all of them."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from .stage_flags import needs_extra, parse_shard, shard_argument, stage_arguments

if TYPE_CHECKING:
    from data_pipeline.data_config import DataConfig
    from data_pipeline.stages import Machine


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data run`."""
    stage_arguments(
        parser, dry_run="list what would be read, and stop", as_json="results as JSON lines"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, default: 1")
    parser.add_argument(
        "--memory",
        default="1GiB",
        metavar="SIZE",
        help="memory for the data of each process, default: 1GiB",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run every stage."""
    config, machine = _prepare(arguments)
    from data_pipeline.pipeline import STAGES, run_stage, start_run

    if arguments.dry_run:
        return _dry_run(config, arguments)
    start_run(config, arguments.out)
    for name in STAGES:
        _show(run_stage(name, config, arguments.out, machine), arguments)
    return 0


def ingest_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data ingest`."""
    _stage_arguments(parser)


def ingest(arguments: argparse.Namespace) -> int:
    """Read raw corpora into blocks."""
    return _stage("ingest", arguments)


def clean_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data clean`."""
    _stage_arguments(parser)


def clean(arguments: argparse.Namespace) -> int:
    """Normalize text and remove markup."""
    return _stage("clean", arguments)


def monolingual_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data monolingual`."""
    _stage_arguments(parser)
    _phase_argument(parser, "split", "runs", "merge", "apply")


def monolingual(arguments: argparse.Namespace) -> int:
    """Split documents into clean sentences."""
    return _stage("monolingual", arguments)


def filter_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data filter`."""
    _stage_arguments(parser)


def filter(arguments: argparse.Namespace) -> int:  # noqa: A001 - the verb's name
    """Score lines and reject bad ones."""
    return _stage("filter", arguments)


def dedup_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data dedup`."""
    _stage_arguments(parser)
    _phase_argument(parser, "runs", "merge", "apply")


def dedup(arguments: argparse.Namespace) -> int:
    """Drop duplicates within each language pair."""
    return _stage("dedup", arguments)


def decontaminate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data decontaminate`."""
    _stage_arguments(parser)


def decontaminate(arguments: argparse.Namespace) -> int:
    """Drop lines that contain evaluation sentences."""
    return _stage("decontaminate", arguments)


def shield_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data shield`, the deprecated name of `data decontaminate`."""
    _stage_arguments(parser)


def shield(arguments: argparse.Namespace) -> int:
    """Run `data decontaminate` and print that this name is deprecated."""
    print(
        "nllb: `data shield` is deprecated; use `data decontaminate`, which writes the same files",
        file=sys.stderr,
    )
    return _stage("decontaminate", arguments)


def prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data prepare`."""
    _stage_arguments(parser)


def prepare(arguments: argparse.Namespace) -> int:
    """Train the vocabulary and write the token shards and the manifest."""
    return _stage("prepare", arguments)


def stats_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `data stats`."""
    _stage_arguments(parser)


def stats(arguments: argparse.Namespace) -> int:
    """Write counts, histograms and samples as JSON and as an HTML page."""
    return _stage("stats", arguments)


def _stage_arguments(parser: argparse.ArgumentParser) -> None:
    run_arguments(parser)
    shard_argument(parser)


def _phase_argument(parser: argparse.ArgumentParser, *phases: str) -> None:
    parser.add_argument(
        "--phase", choices=phases, help="run one phase; finish it for all shards before the next"
    )


def _stage(name: str, arguments: argparse.Namespace) -> int:
    config, machine = _prepare(arguments)
    from data_pipeline.pipeline import run_stage

    if arguments.dry_run:
        return _dry_run(config, arguments)
    phase = getattr(arguments, "phase", None)
    _show(run_stage(name, config, arguments.out, machine, phase), arguments)
    return 0


def _prepare(arguments: argparse.Namespace) -> "tuple[DataConfig, Machine]":
    with needs_extra("the data pipeline", "data"):
        from data_pipeline.data_config import DataConfig
        from data_pipeline.stages import Machine
    from nllb.config import load_config, parse_size

    config = load_config(DataConfig, arguments.config, arguments.overrides)
    machine = Machine(
        workers=arguments.workers,
        memory=parse_size(arguments.memory),
        shard=parse_shard(getattr(arguments, "shard", None)),
        quiet=arguments.quiet,
    )
    return config, machine


def _dry_run(config: "DataConfig", arguments: argparse.Namespace) -> int:
    from data_pipeline.readers.sources import find_sources

    for monolingual in (False, True):
        sources, skipped = find_sources(config, monolingual=monolingual)
        for source in sources:
            size = sum(path.stat().st_size for path in source.paths if path.is_file())
            _show({"source": source.name, "bytes": size}, arguments)
        for corpus, names in skipped.items():
            _show({"corpus": corpus, "skipped": names}, arguments)
    return 0


def _show(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False), flush=True)
    else:
        print("  ".join(f"{key} {_plain(value)}" for key, value in result.items()), flush=True)
    sys.stdout.flush()


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
