"""The interface of the server to the packages for terms, markup and documents.

No other module of the server calls their functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from nllb.documents import document_formats, translate_html, translate_xml
from nllb.errors import ConfigError, DocumentError
from nllb.inference.generator import SearchOptions
from nllb.languages import Language
from nllb.translation.glossary import Glossary, GlossaryEntry
from nllb.translation.quality import KEPT
from nllb.translation.results import Segment, Translation
from nllb.translation.translator import Translator

from .errors import RequestError

MAX_TERMS: Final = 10_000
KEPT_PLACEHOLDERS: Final = ()
"""No placeholders except the built-in kinds, such as Weblate's `[X12X]`, which are always kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Requirements on a translation.

    Attributes:
        glossary: Pairs of source and target terms.
        do_not_translate: Terms that are kept unchanged.
    """

    glossary: tuple[tuple[str, str], ...] = ()
    do_not_translate: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.glossary or self.do_not_translate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Markup:
    """Options for reading markup in a text.

    Attributes:
        kind: The markup language.
        ignore_tags: Elements whose content is kept.
        splitting_tags: Elements that always end a sentence.
        non_splitting_tags: Elements that never end a sentence.
    """

    kind: Literal["html", "xml"]
    ignore_tags: tuple[str, ...] = ()
    splitting_tags: tuple[str, ...] = ()
    non_splitting_tags: tuple[str, ...] = ()


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
        DataError: A term is not valid.
        LanguageError: The language of a text could not be detected.
        SegmentError: A segment has no output.
    """
    return translator.translate(
        list(texts),
        source,
        target,
        search=search,
        wrapped=wrapped,
        glossary=make_glossary(terms),
        do_not_translate=terms.do_not_translate,
        placeholders=KEPT_PLACEHOLDERS,
    )


def make_glossary(terms: Terms) -> Glossary | None:
    """Return the translator's glossary; None without terms.

    Raises:
        DataError: A term is not valid.
    """
    if not terms.glossary:
        return None
    entries = (GlossaryEntry(source=source, targets=(to,)) for source, to in terms.glossary)
    return Glossary(entries=tuple(entries))


def translate_markup(
    translator: Translator,
    text: str,
    source: Language,
    target: Language,
    *,
    markup: Markup,
    terms: Terms,
) -> Translation:
    """Translate a fragment of HTML or XML; each of its units is a segment of the result.

    Raises:
        RequestError: The markup is not well-formed.
    """
    further: dict[str, Any] = {
        "glossary": make_glossary(terms),
        "do_not_translate": terms.do_not_translate,
        "ignore_tags": markup.ignore_tags,
        "splitting_tags": markup.splitting_tags,
    }
    try:
        if markup.kind == "html":
            found = translate_html(
                text,
                translator,
                source=source,
                target=target,
                non_splitting_tags=markup.non_splitting_tags,
                **further,
            )
        else:
            found = translate_xml(
                text,
                translator,
                source=source,
                target=target,
                non_splitting_tags=markup.non_splitting_tags or None,
                **further,
            )
    except (DocumentError, ConfigError) as error:
        raise RequestError(
            400, f"Tag handling parsing failed, please check input: {error}", code="bad_markup"
        ) from None
    segments = tuple(
        Segment(
            source_text=unit.source_text,
            text=unit.text,
            trust=replace(KEPT, confidence=unit.confidence, flags=unit.flags),
        )
        for unit in found.report.units
    )
    return Translation(
        text=found.text, source_text=text, source=source, target=target, segments=segments
    )


def file_formats() -> list[dict[str, Any]]:
    """Return the formats of files that can be translated: name and suffixes of each."""
    return [
        {"name": each.name, "suffixes": list(each.suffixes), "keeps": each.keeps}
        for each in document_formats()
    ]
