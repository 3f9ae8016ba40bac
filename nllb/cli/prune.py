"""`nllb prune` removes the experts that a language pair does not need."""

import argparse
from dataclasses import asdict
from pathlib import Path

from nllb.config import parse_size
from nllb.errors import CheckpointError
from nllb.io.text import json_line, read_lines
from nllb.languages import parse_language

from .stage_flags import quiet_argument


def prune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a mixture-of-experts model")
    parser.add_argument("output", metavar="OUT", type=Path, help="directory to write")
    parser.add_argument(
        "--text",
        required=True,
        metavar="FILE",
        help="several hundred sentences in the source language, one per line",
    )
    parser.add_argument("--source", required=True, metavar="L", help="source language")
    parser.add_argument("--target", required=True, metavar="L", help="target language")
    parser.add_argument(
        "--keep",
        required=True,
        type=float,
        metavar="F",
        help="fraction of the experts to keep, between 0 and 1",
    )
    parser.add_argument(
        "--ratio",
        type=float,
        default=3.0,
        metavar="R",
        help="number of experts in an encoder layer per expert in a decoder layer, default: 3",
    )
    parser.add_argument(
        "--expert-memory", metavar="SIZE", help="maximum memory for experts, such as 4GiB"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the chosen experts, but write nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    quiet_argument(parser)


def prune(arguments: argparse.Namespace) -> int:
    from nllb.inference.pruning import check_pruning_options, experts_of_direction
    from nllb.inference.pruning import prune as write_pruned
    from nllb.model.formats.hugging_face import is_free
    from nllb.model.formats.open_model import open_model

    source, target = parse_language(arguments.source), parse_language(arguments.target)
    check_pruning_options(keep=arguments.keep, encoder_to_decoder=arguments.ratio)
    if not arguments.dry_run and not is_free(arguments.output):
        raise CheckpointError(f"{arguments.output} already exists: choose another output directory")
    opened = open_model(arguments.model)
    gates, kept = experts_of_direction(
        opened,
        list(read_lines(arguments.text)),
        source=source,
        target=target,
        keep=arguments.keep,
        encoder_to_decoder=arguments.ratio,
        expert_memory=parse_size(arguments.expert_memory) if arguments.expert_memory else None,
        quiet=arguments.quiet,
    )
    if arguments.dry_run:
        print(json_line(kept))
        return 0
    result = write_pruned(opened, arguments.output, gates, kept, quiet=arguments.quiet)
    print(json_line(asdict(result)) if arguments.json else result.describe())
    return 0
