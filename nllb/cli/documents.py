"""`nllb documents formats`: list the document formats and what each one keeps."""

import argparse
import textwrap

from nllb.io.text import json_line


def formats_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object per format")


def formats(arguments: argparse.Namespace) -> int:
    """Print the formats."""
    from nllb.documents import document_formats

    for each in sorted(document_formats(), key=lambda found: found.name):
        if arguments.json:
            record = {"name": each.name, "suffixes": list(each.suffixes), "keeps": each.keeps}
            print(json_line(record))
            continue
        print(f"{each.name:<12}{' '.join(each.suffixes)}")
        print(textwrap.fill(each.keeps, 92, initial_indent=" " * 12, subsequent_indent=" " * 12))
    return 0
