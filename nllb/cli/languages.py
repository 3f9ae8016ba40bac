"""`nllb languages`: list languages with their codes, names and properties."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, get_args

from nllb.io.text import json_line
from nllb.languages import Language, Level, select_languages


def languages_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nllb languages`."""
    parser.add_argument(
        "query", nargs="?", metavar="QUERY", help="a code, a tag, or a name or part of it"
    )
    parser.add_argument("--script", metavar="S", help="only this script: Latn, Cyrl, Arab, ...")
    parser.add_argument(
        "--level",
        choices=get_args(Level),
        help="only languages with this level of public training data",
    )
    parser.add_argument("-m", "--model", metavar="M", help="only the languages that a model covers")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per line, with every field"
    )


def languages(arguments: argparse.Namespace) -> int:
    """Print the requested languages: as a table on a terminal, tab-separated elsewhere."""
    covered = None if arguments.model is None else _covered_by(arguments.model)
    found = select_languages(
        arguments.query, script=arguments.script, level=arguments.level, covered=covered
    )
    if arguments.json:
        for language in found:
            print(json_line(record(language)))
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        for line in [tuple(record(found[0])), *(map(_cell, record(row).values()) for row in found)]:
            print("\t".join(line))
    return 0


def _covered_by(name: str) -> frozenset[str]:
    """Return the codes of the languages that a model covers."""
    from nllb.model.coverage import covered_languages
    from nllb.model.formats.open_model import open_model

    opened = open_model(name)
    tokens = frozenset(opened.tokenizer().languages)
    covered = covered_languages(opened.settings)
    return tokens if covered is None else covered & tokens


def record(language: Language) -> dict[str, Any]:
    """Return the table's row of a language, for JSON and tab-separated output."""
    return {
        "code": language.code,
        "name": language.name,
        "own_name": language.own_name,
        "script": language.script,
        "direction": language.direction,
        "family": language.family,
        "branch": language.branch,
        "level": language.level,
        "public_bitext": language.public_bitext,
        "in_nllb": language.in_nllb,
        "terminators": language.terminators,
        "aliases": list(language.aliases),
        "known_issues": list(language.known_issues),
    }


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _print_table(found: Sequence[Language]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("code", "name", "own name", "level", "also written"):
        table.add_column(title, overflow="fold")
    for language in found:
        name = language.name if language.in_nllb else f"{language.name} (not in NLLB)"
        aliases = ", ".join(language.aliases)
        table.add_row(language.code, name, language.own_name, language.level, aliases)
    console = Console()
    console.print(table)
    if len(found) == 1:
        for issue in found[0].known_issues:
            console.print(f"Known issue: {issue}", highlight=False)
    else:
        console.print(f"{len(found)} languages", highlight=False)
