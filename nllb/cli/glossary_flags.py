"""The flags of glossaries and of text that is kept."""

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
        help="terms and their translations, as .tsv, .csv or .tbx; | separates the forms of a "
        "translation; segments that lack a term are flagged",
    )
    parser.add_argument(
        "--do-not-translate",
        action="append",
        default=[],
        metavar="FILE|TERM",
        help="a term that stays as it is, or a file with one per line; may be given several times; "
        "with this or --keep, addresses and placeholders such as {name} stay, too",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="REGEX",
        help="text that stays as it is, such as placeholders; may be given several times",
    )


def glossary_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the flags say, as the options of a translator.

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
