"""Flags of glossaries and of text that must not be translated."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllb.errors import DataError
from nllb.languages import parse_language

if TYPE_CHECKING:
    from nllb.translation.glossary import Glossary


def glossary_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--glossary",
        type=Path,
        metavar="FILE",
        help="terms and their translations, as .tsv, .csv or .tbx; | separates alternative forms "
        "of a translation; segments without the required term are flagged",
    )
    parser.add_argument(
        "--do-not-translate",
        action="append",
        default=[],
        metavar="FILE|TERM",
        help="a term to keep untranslated, or a file with one term per line; may be repeated; with "
        "this or --keep, addresses and placeholders such as {name} are also kept",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="REGEX",
        help="regular expression of text to keep untranslated, such as placeholders; may be "
        "repeated",
    )


def glossary_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a translator that the flags set.

    Raises:
        ConfigError: a regular expression is not valid.
        DataError: a file cannot be read, or has invalid entries.
    """
    from nllb.translation.placeholders import PlaceholderPattern

    terms = [term for each in arguments.do_not_translate for term in _read_terms(each)]
    PlaceholderPattern(expressions=arguments.keep, terms=terms)
    return {
        "glossary": _read_glossary(arguments),
        "do_not_translate": tuple(terms),
        "placeholders": tuple(arguments.keep) or None,
    }


def _read_glossary(arguments: argparse.Namespace) -> "Glossary | None":
    from nllb.translation.glossary import Glossary

    if arguments.glossary is None:
        return None
    source = None if arguments.source == "auto" else parse_language(arguments.source)
    target = parse_language(arguments.target)
    return Glossary.read(arguments.glossary, source=source, target=target)


def _read_terms(text: str) -> list[str]:
    """Return the lines of a file of this name, or the text itself."""
    path = Path(text)
    try:
        if not path.is_file():
            return [text]
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the list of terms is not valid UTF-8: {error}") from None
    except OSError as error:
        raise DataError(f"cannot read {text[:200]!r}: {error.strerror}") from error
    return [line.strip() for line in lines if line.strip()]
