"""`nllb convert` converts checkpoints to Hugging Face directories, `nllb convert e5` an encoder."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from nllb.config import format_size
from nllb.io.text import json_line

from .stage_flags import quiet_argument


def convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a hub name, a Hugging Face directory, a fairseq checkpoint (.pt file or its "
        "directory), a checkpoint of 'nllb train', or the directory of a training run, whose "
        "latest checkpoint is used",
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="the directory to write")
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16", "int8"],
        help="storage type of the weights; default: that of the source. Only this package loads "
        "int8; transformers loads the other types as well",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the planned conversion, but write nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
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
        help="directories with text whose pieces are kept; LAYOUT is one of lines, pairs, keyed, "
        "messages or tables and is required if the directory name does not determine it",
    )
    parser.add_argument(
        "--pieces",
        metavar="N",
        type=int,
        default=DEFAULT_PIECES,
        help="maximum number of pieces to keep, default: %(default)s",
    )
    parser.add_argument(
        "--max-lines",
        metavar="N",
        type=int,
        default=DEFAULT_LINES,
        help="maximum number of lines to read per language and corpus, default: %(default)s",
    )
    parser.add_argument(
        "--sha256",
        metavar="HEX",
        default=SHA256,
        help=f"expected SHA-256 of FILE, default: that of {PACKAGE}",
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
            f"{done.output}: kept {done.kept_pieces:,} of {done.source_pieces:,} pieces, based on "
            f"{done.lines:,} lines in {done.languages} languages; {format_size(done.num_bytes)}"
        )
    if done.skipped_rows:
        print(
            f"nllb: {done.skipped_rows:,} rows of the text were skipped because they could not "
            f"be read",
            file=sys.stderr,
        )
    return 0
