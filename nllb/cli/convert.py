"""`nllb convert`: any checkpoint to a Hugging Face directory; `nllb convert e5`: an encoder."""

import argparse
import sys
from dataclasses import asdict
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


def convert_e5_arguments(parser: argparse.ArgumentParser) -> None:
    from nllb.model.known_encoder import DEFAULT_LINES, DEFAULT_PIECES, FILE, PACKAGE, SHA256

    parser.add_argument("file", metavar="FILE", type=Path, help=f"{FILE} of the package {PACKAGE}")
    parser.add_argument("output", metavar="OUT", type=Path, help="the directory to write")
    parser.add_argument(
        "--text",
        metavar="[LAYOUT:]CORPUS",
        nargs="+",
        required=True,
        help="folders of text that decide which pieces are kept; LAYOUT (lines, pairs, keyed, "
        "messages, tables) where it does not follow from the folder's name",
    )
    parser.add_argument(
        "--pieces",
        metavar="N",
        type=int,
        default=DEFAULT_PIECES,
        help="most pieces that are kept, default: %(default)s",
    )
    parser.add_argument(
        "--max-lines",
        metavar="N",
        type=int,
        default=DEFAULT_LINES,
        help="most lines that are read of a language in a corpus, default: %(default)s",
    )
    parser.add_argument(
        "--sha256",
        metavar="HEX",
        default=SHA256,
        help=f"SHA-256 that FILE must have, default: that of {PACKAGE}",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    quiet_argument(parser)


def convert_e5(arguments: argparse.Namespace) -> int:
    from nllb.io.corpora import parse_corpus
    from nllb.model.formats.encoder_conversion import convert_e5 as convert_encoder

    done = convert_encoder(
        arguments.file,
        arguments.output,
        [parse_corpus(text) for text in arguments.text],
        num_pieces=arguments.pieces,
        max_lines=arguments.max_lines,
        expected_sha256=arguments.sha256,
        quiet=arguments.quiet,
    )
    if arguments.json:
        print(json_line({**asdict(done), "output": str(done.output)}))
    else:
        print(
            f"{done.output}: {done.kept_pieces:,} of {done.source_pieces:,} pieces, by "
            f"{done.lines:,} lines of {done.languages} languages; {format_size(done.num_bytes)}"
        )
    if done.skipped_rows:
        print(f"nllb: {done.skipped_rows:,} rows of the text could not be read", file=sys.stderr)
    return 0
