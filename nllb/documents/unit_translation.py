"""Translates the units of a document, whose codes are removed for the translator.

The tags of a unit are removed, the text is translated, and the tags are placed around the words of
the translation that are aligned to theirs: each exactly once, nested as in the source. Placeholders
that represent words keep their position in the text during translation.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from nllb.inference.generator import SearchOptions
from nllb.inference.word_alignment import Link
from nllb.languages import Language
from nllb.translation.glossary import Glossary
from nllb.translation.job import restore_placeholders
from nllb.translation.placeholders import PlaceholderPattern, Protection
from nllb.translation.projection import find_words
from nllb.translation.quality import FLAGS, Flag
from nllb.translation.results import Segment, Translation
from nllb.translation.retry import RetryBudget
from nllb.translation.source_detection import SourceLanguage
from nllb.translation.translator import ASSUMED_SOURCE, Translator

from .coded_text import CodedText
from .units import Fragment, Unit

BATCH_CHARACTERS: Final = 1 << 13
"""Characters of units that are translated together; a stopped run loses no more than these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitTranslation:
    """The translation of one unit.

    Attributes:
        key: the key of the unit.
        fragments: the translated text with each inline code of the unit exactly once.
        segments: the segments of the text without tags, each with its trust record.
        flags: the flags of all segments, and `markup` if the position of a code is uncertain.
    """

    key: str
    fragments: tuple[Fragment, ...]
    segments: tuple[Segment, ...] = ()
    flags: tuple[Flag, ...] = ()


def translate_units(
    translator: Translator,
    units: Iterable[Unit],
    *,
    source: str | Language,
    target: str | Language,
    glossary: Glossary | None = None,
    do_not_translate: Sequence[str] = (),
    placeholders: Sequence[str] = (),
    search: SearchOptions | None = None,
    retry: bool | RetryBudget = True,
    assumed_source: str | Language | None = ASSUMED_SOURCE,
    document: SourceLanguage | None = None,
) -> Iterator[UnitTranslation]:
    """Translate units in order and in batches; each batch is read only when it is needed.

    Args:
        translator: translates texts, and aligns words if it has an aligner.
        units: the units of one or more documents.
        source: the source language, or `auto`.
        target: the target language.
        glossary: terms with their translations.
        do_not_translate: terms that are not translated.
        placeholders: regular expressions of additional placeholders.
        search: search options.
        retry: whether flagged outputs are retried.
        assumed_source: with `auto`, the language assumed for text that cannot be identified.
        document: with `auto`, the main language of the document.

    Raises:
        ConfigError: an expression is invalid.
        LanguageError: a language is unknown, or the model does not cover it.
        SegmentError: a segment has no output.
    """
    if retry is True:
        retry = RetryBudget()
    pattern = PlaceholderPattern(expressions=placeholders, terms=do_not_translate)
    into = translator.language(target)
    for batch in _batches(units):
        protection = Protection(pattern)
        texts = [CodedText(unit, protection, into) for unit in batch]
        asked = [each for each in texts if len(find_words(each.text))]
        translations = translator.translate_protected(
            [each.text for each in asked],
            source,
            target,
            protection=protection,
            glossary=glossary,
            search=search,
            retry=retry,
            assumed_source=assumed_source,
            document=document,
        )
        links = _links(translator, asked, translations, protection)
        found = iter(zip(translations, links, strict=True))
        for unit, text in zip(batch, texts, strict=True):
            if len(find_words(text.text)):
                yield _restore(text, *next(found), protection)
            else:
                yield UnitTranslation(key=unit.key, fragments=unit.fragments)


def _batches(units: Iterable[Unit]) -> Iterator[list[Unit]]:
    batch: list[Unit] = []
    size = 0
    for unit in units:
        batch.append(unit)
        size += len(unit.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _restore(
    text: CodedText, translation: Translation, links: Sequence[Link], protection: Protection
) -> UnitTranslation:
    fragments, is_sure = text.restore(translation.text, links)
    segments = restore_placeholders(translation, protection).segments
    flags = set(translation.flags)
    if not is_sure:
        flags |= {"markup"}
    return UnitTranslation(
        key=text.unit.key,
        fragments=tuple(fragments),
        segments=segments,
        flags=tuple(flag for flag in FLAGS if flag in flags),
    )


def _links(
    translator: Translator,
    texts: Sequence[CodedText],
    translations: Sequence[Translation],
    protection: Protection,
) -> list[list[Link]]:
    """Return links between the words of each text and its translation, if codes require them."""
    wanted: list[tuple[int, Segment]] = []
    links: list[list[Link]] = [[] for _ in texts]
    for number, (text, translation) in enumerate(zip(texts, translations, strict=True)):
        if not text.has_inner_marks:
            continue
        for segment in translation.segments:
            if segment.source_text == segment.text:
                links[number] += _equal_words(segment)
            else:
                links[number] += _equal_signs(segment, protection)
                wanted.append((number, segment))
    if translator.aligner is None or not wanted:
        return links
    # For the encoder, the character of a placeholder is an unknown word.
    pairs = [(segment.source_text, segment.text) for _, segment in wanted]
    for (number, segment), found in zip(wanted, translator.aligner.align(pairs), strict=True):
        links[number] += [_moved(link, segment) for link in found]
    return links


def _equal_words(segment: Segment) -> Iterator[Link]:
    """Yield links between the words of a segment that was kept."""
    for start, end in find_words(segment.text).tolist():
        link = Link(source_start=start, source_end=end, target_start=start, target_end=end)
        yield _moved(link, segment)


def _equal_signs(segment: Segment, protection: Protection) -> Iterator[Link]:
    """Yield links between equal placeholders."""
    for sign in dict.fromkeys(protection.signs(segment.source_text)):
        if segment.source_text.count(sign) == segment.text.count(sign) == 1:
            start, other = segment.source_text.index(sign), segment.text.index(sign)
            link = Link(
                source_start=start, source_end=start + 1, target_start=other, target_end=other + 1
            )
            yield _moved(link, segment)


def _moved(link: Link, segment: Segment) -> Link:
    """Return a link of a segment as a link of its text."""
    return Link(
        source_start=segment.source_start + link.source_start,
        source_end=segment.source_start + link.source_end,
        target_start=segment.start + link.target_start,
        target_end=segment.start + link.target_end,
        weight=link.weight,
    )
