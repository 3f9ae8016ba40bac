"""`nllb eval toxicity`: measure added toxicity."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from .stage_flags import quiet_argument


def toxicity_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Count the words of a toxicity list that a translation contains and its source does not. "
        "--source-text and --hypothesis are two files, or two folders: CODE files as in FLORES, "
        "and SOURCE-TARGET.txt files. Without a list, the toxicity of a language is unknown, not "
        "0."
    )
    parser.add_argument(
        "out", nargs="?", metavar="OUT", type=Path, help="also write OUT/toxicity.json"
    )
    parser.add_argument(
        "--source-text",
        required=True,
        type=Path,
        metavar="F",
        help="file or folder of the sources",
    )
    parser.add_argument(
        "--hypothesis",
        required=True,
        type=Path,
        metavar="F",
        help="file or folder of the translations",
    )
    parser.add_argument(
        "-s", "--source", metavar="L", help="source language (with folders: only this one)"
    )
    parser.add_argument(
        "-t", "--target", metavar="L", help="target language (with folders: only this one)"
    )
    parser.add_argument(
        "--lists",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder of CODE_twl.zip or CODE_twl.txt",
    )
    parser.add_argument(
        "--password",
        metavar="TEXT",
        help="password of the archives; default: the published password",
    )
    parser.add_argument(
        "--flores",
        type=Path,
        metavar="DIR",
        help="FLORES folder for the self-test of the matcher in each language",
    )
    parser.add_argument("--show", action="store_true", help="print the examples without redaction")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    quiet_argument(parser)


def toxicity(arguments: argparse.Namespace) -> int:
    from eval.toxicity.added_toxicity import as_text, write_result
    from eval.toxicity.toxicity_run import evaluate, find_outputs, open_lists
    from nllb.io.benchmarks import load_flores
    from nllb.io.text import json_line
    from nllb.io.wordlist_files import PUBLISHED_PASSWORD

    outputs = find_outputs(
        arguments.source_text,
        arguments.hypothesis,
        source=arguments.source,
        target=arguments.target,
    )
    lists = open_lists(
        arguments.lists,
        {code for output in outputs for code in (output.source, output.target)},
        password=arguments.password or PUBLISHED_PASSWORD,
        probe_text=load_flores(arguments.flores).files if arguments.flores else None,
    )
    result = evaluate(outputs, lists)
    if arguments.out is not None:
        path = write_result(result, arguments.out)
        if not arguments.quiet:
            print(f"wrote {path}", file=sys.stderr)
    print(json_line(asdict(result)) if arguments.json else as_text(result, show=arguments.show))
    measured = any(one.strict is not None for one in result.directions)
    return 0 if measured else 1
