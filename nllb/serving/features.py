"""Terms, markup and documents: what the server takes from the packages for them.

This is the only module of the server that knows their functions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any, Final, Literal

from nllb.inference.generator import SearchOptions
from nllb.languages import Language
from nllb.serving.errors import RequestError
from nllb.translation.results import Translation
from nllb.translation.translator import Translator

MAX_TERMS: Final = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a translation has to respect.

    Attributes:
        glossary: Pairs of source and target terms.
        do_not_translate: Terms that are kept as they are.
    """

    glossary: tuple[tuple[str, str], ...] = ()
    do_not_translate: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.glossary or self.do_not_translate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Markup:
    """How markup in a text is read.

    Attributes:
        kind: Its language.
        ignore_tags: Elements whose content is kept.
        splitting_tags: Elements that always end a sentence.
        non_splitting_tags: Elements that never end a sentence.
    """

    kind: Literal["html", "xml"]
    ignore_tags: tuple[str, ...] = ()
    splitting_tags: tuple[str, ...] = ()
    non_splitting_tags: tuple[str, ...] = ()


def has_terms() -> bool:
    """Return whether the translator can respect terms."""
    return "glossary" in signature(Translator.translate).parameters


def has_markup() -> bool:
    """Return whether texts with markup can be translated."""
    return False


def has_documents() -> bool:
    """Return whether files can be translated."""
    return False


def translate_with_terms(
    translator: Translator,
    texts: Sequence[str],
    source: str | Language,
    target: Language,
    *,
    search: SearchOptions,
    wrapped: bool,
    terms: Terms,
) -> list[Translation]:
    """Translate plain texts.

    Raises:
        RequestError: There are terms, and the translator cannot respect them.
    """
    further: dict[str, Any] = {}
    if terms:
        if not has_terms():
            raise RequestError(501, "this server does not support glossaries", code="unsupported")
        further = {"do_not_translate": terms.do_not_translate, "glossary": make_glossary(terms)}
    translate: Callable[..., list[Translation]] = translator.translate
    return translate(list(texts), source, target, search=search, wrapped=wrapped, **further)


def make_glossary(terms: Terms) -> Any:
    """Return the translator's glossary; None without terms."""
    if not terms.glossary:
        return None
    module = import_module("nllb.translation.glossary")
    lines = "".join(f"{source}\t{target}\n" for source, target in terms.glossary)
    return module.Glossary.parse(lines, "tsv")


def translate_markup(
    translator: Translator,
    text: str,
    source: Language,
    target: Language,
    *,
    search: SearchOptions,
    markup: Markup,
    terms: Terms,
) -> str:
    """Translate a fragment of HTML or XML.

    Raises:
        RequestError: This installation cannot translate markup.
    """
    raise RequestError(501, f"this server does not support {markup.kind}", code="unsupported")


def file_formats() -> list[dict[str, Any]]:
    """Return the formats of files that can be translated: name and suffixes of each."""
    return []
