"""`nllb convert`: any checkpoint in, a Hugging Face model directory out."""

import argparse
from pathlib import Path

from nllb.cli.stage_flags import quiet_argument
from nllb.config import format_size
from nllb.io.text import json_line


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a hub name, a Hugging Face directory, a fairseq checkpoint (.pt, or its folder), "
        "or a checkpoint of 'nllb train' (or the folder of the run: its newest)",
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="the directory to write")
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16", "int8"],
        help="type to store the weights as; default: the one they have. int8 is for this package "
        "only, the others load in transformers, too",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be written")
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    quiet_argument(parser)


def convert(arguments: argparse.Namespace) -> int:
    if _is_training_checkpoint(Path(arguments.model)):
        return _convert_training(arguments)
    from nllb.model.formats.conversion import convert as convert_model
    from nllb.model.formats.open_model import open_model

    done = convert_model(
        open_model(arguments.model),
        arguments.output,
        storage=arguments.dtype,
        dry_run=arguments.dry_run,
        quiet=arguments.quiet,
    )
    if arguments.json:
        fields = {"source": done.source, "output": str(done.output), "storage": done.storage}
        print(json_line({**fields, "bytes": done.num_bytes, "state": done.state}))
    else:
        size = format_size(done.num_bytes)
        print(f"{done.output}: {done.source} as {done.storage}, {size}: {done.state}")
    return 0


def _is_training_checkpoint(path: Path) -> bool:
    return (path / "state.json").is_file() or (path / "checkpoints").is_dir()


def _convert_training(arguments: argparse.Namespace) -> int:
    from nllb.training.checkpoints.export import export_checkpoint

    if not arguments.dry_run:
        export_checkpoint(
            Path(arguments.model),
            arguments.output,
            storage=arguments.dtype or "float32",
            quiet=arguments.quiet,
        )
    fields = {"source": arguments.model, "output": str(arguments.output)}
    state = "planned" if arguments.dry_run else "written"
    if arguments.json:
        print(json_line({**fields, "storage": arguments.dtype or "float32", "state": state}))
    else:
        print(f"{arguments.output}: {arguments.model}: {state}")
    return 0
