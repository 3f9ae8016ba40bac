"""Translating the units of a document: text without codes goes through the translator.

The inline codes of a unit are taken out, the text is translated, and the codes are put back where
their words are in the translation: each exactly once, pairs around text, nested as in the source.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import regex

from nllb.documents.units import CodeKind, Fragment, InlineCode, Unit
from nllb.languages import Language
from nllb.translation.glossary import Glossary
from nllb.translation.projection import Link, Mark, find_words, project
from nllb.translation.quality import Flag
from nllb.translation.results import Segment, Translation
from nllb.translation.translator import Translator

BATCH_CHARACTERS: Final = 1 << 15
"""Characters of units that are translated together."""
_SPACE: Final = regex.compile(r"[\t\n\r\f ]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitTranslation:
    """The translation of one unit.

    Attributes:
        key: the key of the unit.
        fragments: the translated text with each inline code of the unit exactly once.
        segments: the segments of the text without codes, each with its trust record.
        flags: the flags of all segments; `markup` where the place of a code is uncertain.
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
) -> Iterator[UnitTranslation]:
    """Translate units in order, many at a time; all are read before the last is returned.

    Args:
        translator: translates texts.
        units: the units of one document or of several.
        source: their language, or `auto`.
        target: the language to translate into.
        glossary: terms with their translations.
        do_not_translate: terms that stay as they are.
        placeholders: regular expressions of further placeholders.

    Raises:
        LanguageError: a language is unknown, or the model does not have it.
        SegmentError: a segment has no output.
    """
    if glossary or do_not_translate or placeholders:
        raise NotImplementedError("glossaries and user placeholders follow")
    for batch in _batches(units):
        texts = [_CodedText(unit) for unit in batch]
        asked = [text for text in texts if text.has_words]
        translations = iter(translator.translate([each.text for each in asked], source, target))
        for unit, text in zip(batch, texts, strict=True):
            if text.has_words:
                yield text.restore(next(translations))
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


class _CodedText:
    """The text of a unit, and its codes as marks in it."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.text = ""
        self.marks: list[Mark] = []
        self._ends: list[tuple[int, int]] = []
        """The fragments at which each mark opens and closes; twice the same for a point."""
        self._spaced: set[int] = set()
        """Codes, by fragment, after which the source has a space that the text leaves out."""
        closed = _nested_pairs(unit.fragments)
        open_marks: list[int] = []
        for number, fragment in enumerate(unit.fragments):
            if isinstance(fragment, str):
                self._add_text(fragment, number)
                continue
            if number in closed.values():
                mark = open_marks.pop()
                self.marks[mark] = replace(self.marks[mark], end=len(self.text))
                continue
            parent = open_marks[-1] if open_marks else None
            close = closed.get(number)
            if close is not None:
                open_marks.append(len(self.marks))
            self._ends.append((number, number if close is None else close))
            place = len(self.text)
            self.marks.append(
                Mark(start=place, end=place, is_span=close is not None, parent=parent)
            )

    @property
    def has_words(self) -> bool:
        return bool(len(find_words(self.text)))

    def _add_text(self, text: str, number: int) -> None:
        if not self.unit.preserve_layout:
            text = _SPACE.sub(" ", text)
        previous = self.unit.fragments[number - 1] if number else None
        if self.text.endswith(" ") and text.startswith(" ") and isinstance(previous, InlineCode):
            self._spaced.add(number - 1)
            text = text[1:]
        self.text += text

    def restore(self, translation: Translation) -> UnitTranslation:
        """Return the translated unit with its codes."""
        if translation.text == self.text:
            return self._result(self.unit.fragments, translation, unsure=False)
        links = _kept_links(translation)
        projection = project(self.marks, self.text, translation.text, links)
        fragments: list[Fragment] = []
        done = 0
        for event in projection.events:
            fragments.append(translation.text[done : event.position])
            done = event.position
            code = self._ends[event.mark][event.kind == "close"]
            fragments.append(self.unit.fragments[code])
            if code in self._spaced and not translation.text[done : done + 1].isspace():
                fragments.append(" ")
        fragments.append(translation.text[done:])
        inner = any(0 < each.position < len(translation.text) for each in projection.events)
        return self._result(_joined(fragments), translation, unsure=inner)

    def _result(
        self, fragments: Sequence[Fragment], translation: Translation, *, unsure: bool
    ) -> UnitTranslation:
        flags = translation.flags
        if unsure and "markup" not in flags:
            flags = (*flags, "markup")
        return UnitTranslation(
            key=self.unit.key,
            fragments=tuple(fragments),
            segments=translation.segments,
            flags=flags,
        )


def _nested_pairs(fragments: Sequence[Fragment]) -> dict[int, int]:
    """Return the closing code of each opening one, as far as pairs are closed and nested.

    All other codes are treated as points, which keep to their place between words.
    """
    pairs: dict[int, int] = {}
    waiting: list[tuple[int, int]] = []
    for number, code in enumerate(fragments):
        if isinstance(code, str):
            continue
        if code.kind is CodeKind.OPEN:
            waiting.append((number, code.number))
        elif code.kind is CodeKind.CLOSE:
            for depth in range(len(waiting) - 1, -1, -1):
                if waiting[depth][1] == code.number:
                    # Opening codes in between lack a closing code inside of this pair.
                    pairs[waiting[depth][0]] = number
                    del waiting[depth:]
                    break
    return pairs


def _kept_links(translation: Translation) -> list[Link]:
    """Return links between segments that were kept, word by word."""
    links = []
    for segment in translation.segments:
        if segment.source_text != segment.text:
            continue
        for start, end in find_words(segment.text).tolist():
            links.append(
                Link(
                    source_start=segment.source_start + start,
                    source_end=segment.source_start + end,
                    target_start=segment.start + start,
                    target_end=segment.start + end,
                )
            )
    return links


def _joined(fragments: Iterable[Fragment]) -> list[Fragment]:
    """Return fragments without empty texts, and with neighbouring texts as one."""
    joined: list[Fragment] = []
    for fragment in fragments:
        if isinstance(fragment, str) and joined and isinstance(joined[-1], str):
            joined[-1] += fragment
        elif fragment != "":
            joined.append(fragment)
    return joined
