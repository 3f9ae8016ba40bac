"""Translates fragments of HTML and XML from other programs by the rules for documents."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Unpack

from nllb.errors import ConfigError
from nllb.languages import Language
from nllb.translation.translator import Translator

from .document_translation import (
    DocumentReport,
    TranslationSettings,
    translate_parsed,
)
from .formats.html import HTML_RULES, INLINE, HtmlDocument, MarkupRules
from .text_file import TextFile
from .xml_spans import parse_xml


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkupTranslation:
    """A translated fragment of markup.

    Attributes:
        text: the markup with translated text.
        report: the result of each unit, and the source language.
    """

    text: str
    report: DocumentReport


def translate_html(
    text: str,
    translator: Translator,
    *,
    source: str | Language,
    target: str | Language,
    ignore_tags: Sequence[str] = (),
    non_splitting_tags: Sequence[str] = (),
    splitting_tags: Sequence[str] = (),
    placeholders: Sequence[str] = (),
    **settings: Unpack[TranslationSettings],
) -> MarkupTranslation:
    """Translate an HTML page or fragment; text is escaped, and errors of the markup are kept.

    Args:
        text: the HTML.
        translator: translates texts.
        source: the language of the text, or `auto`.
        target: the language to translate into.
        ignore_tags: elements whose content is kept, beside those of `code` and the like.
        non_splitting_tags: elements inside sentences, beside HTML's own.
        splitting_tags: elements that end a sentence, beside HTML's own.
        placeholders: regular expressions of text that stays as it is.
        settings: the fields of `TranslationSettings`.

    Raises:
        ConfigError: A tag is in two lists.
        LanguageError: A language is unknown, or the model does not have it.
        SegmentError: A segment has no output.
    """
    _require_one_kind(ignore_tags, non_splitting_tags, splitting_tags)
    rules = replace(
        HTML_RULES,
        inline=INLINE | _lower(non_splitting_tags),
        splitting=_lower(splitting_tags),
        protected=HTML_RULES.protected | _lower(ignore_tags),
    )
    document = HtmlDocument(TextFile(text, "utf-8"), rules)
    rendered, report = translate_parsed(
        document,
        "html",
        translator,
        source=source,
        target=translator.language(target),
        placeholders=placeholders,
        **settings,
    )
    return MarkupTranslation(text=rendered.decode("utf-8", "surrogatepass"), report=report)


def translate_xml(
    text: str,
    translator: Translator,
    *,
    source: str | Language,
    target: str | Language,
    ignore_tags: Sequence[str] = (),
    non_splitting_tags: Sequence[str] | None = None,
    splitting_tags: Sequence[str] = (),
    placeholders: Sequence[str] = (),
    **settings: Unpack[TranslationSettings],
) -> MarkupTranslation:
    """Translate a fragment of XML, with or without a root element.

    Args:
        text: the XML, which must be well-formed inside a root element.
        translator: translates texts.
        source: the source language, or `auto`.
        target: the target language.
        ignore_tags: elements whose content is kept.
        non_splitting_tags: elements inside sentences; every other element then ends a sentence. By
            default, all elements except those in `splitting_tags` are inside sentences.
        splitting_tags: elements that end a sentence.
        placeholders: regular expressions of text that is not translated.
        settings: the fields of `TranslationSettings`.

    Raises:
        ConfigError: A tag is in two lists.
        DocumentError: The text is not well-formed.
        LanguageError: A language is unknown, or the model does not cover it.
        SegmentError: A segment has no output.
    """
    _require_one_kind(ignore_tags, non_splitting_tags or (), splitting_tags)
    if not text.lstrip().startswith(("<?xml", "<!DOCTYPE")):
        parse_xml(f"<r>{text}</r>".encode("utf-8", "replace"), name="the XML")
    else:
        parse_xml(text.encode("utf-8", "replace"), name="the XML")
    rules = MarkupRules(
        inline=None if non_splitting_tags is None else _lower(non_splitting_tags),
        splitting=_lower(splitting_tags),
        protected=_lower(ignore_tags),
        skipped=frozenset(),
        void=frozenset(),
        attributes=False,
    )
    document = HtmlDocument(TextFile(text, "utf-8"), rules)
    rendered, report = translate_parsed(
        document,
        "xml",
        translator,
        source=source,
        target=translator.language(target),
        placeholders=placeholders,
        **settings,
    )
    return MarkupTranslation(text=rendered.decode("utf-8", "surrogatepass"), report=report)


def _lower(tags: Sequence[str]) -> frozenset[str]:
    return frozenset(map(str.lower, tags))


def _require_one_kind(*kinds: Sequence[str]) -> None:
    named = [tag.lower() for tags in kinds for tag in dict.fromkeys(tags)]
    if twice := sorted({tag for tag in named if named.count(tag) > 1}):
        raise ConfigError(f"the tag {twice[0]!r} is in two lists; a tag can have only one kind")
