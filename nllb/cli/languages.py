"""`nllb languages`: the languages, how to write them, and what is known about them."""

import argparse
import sys
from collections.abc import Collection, Sequence
from typing import Any, get_args

from nllb.errors import LanguageError
from nllb.io.text import json_line
from nllb.languages import Language, Level, find_languages, parse_language
from nllb.languages import languages as all_languages


def languages_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `nllb languages`."""
    parser.add_argument("query", nargs="?", metavar="QUERY", help="a code, tag or (part of a) name")
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
    covered = None if arguments.model is None else _languages_of_model(arguments.model)
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


def select_languages(
    query: str | None,
    *,
    script: str | None = None,
    level: str | None = None,
    covered: Collection[str] | None = None,
) -> tuple[Language, ...]:
    """Return the languages that match the query, the script and the level.

    `covered` are the codes of a model's languages, to which the result is restricted.

    Raises:
        LanguageError: No language matches; the message names similar ones, or the valid scripts.
    """
    scripts = sorted({language.script for language in all_languages()})
    if script is not None and script.capitalize() not in scripts:
        raise LanguageError(
            f"no language is written in the script {script!r}; valid are {', '.join(scripts)}"
        )
    found = all_languages() if query is None else find_languages(query)
    if not found and query is not None:
        parse_language(query)  # Raises an error that names the nearest languages.
    chosen = tuple(
        language
        for language in found
        if script is None or language.script == script.capitalize()
        if level is None or language.level == level
        if covered is None or language.code in covered
    )
    if not chosen and covered is not None:
        raise LanguageError(
            f"the model covers none of the languages that match: it has {len(covered)}; "
            f"run 'nllb models' for others"
        )
    if not chosen:
        shown = ", ".join(f"{one.code} ({one.level})" for one in found[:9])
        dots = ", ..." if len(found) > 9 else ""
        raise LanguageError(
            f"no language matches --script and --level; without them: {shown}{dots}"
        )
    return chosen


def _languages_of_model(name: str) -> frozenset[str]:
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
        "faults": list(language.faults),
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
        for fault in found[0].faults:
            console.print(f"Known problem: {fault}", highlight=False)
    else:
        console.print(f"{len(found)} languages", highlight=False)
