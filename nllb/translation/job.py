"""One call of the translator: splits texts, translates segments and reassembles the texts."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Final

import regex

from nllb.inference.generator import Generator, SearchOptions
from nllb.inference.word_alignment import Aligner
from nllb.languages import Language
from nllb.languages.detection import Detector

from .code_blocks import Verbatim, has_fence, mark_code_blocks, split_lines
from .glossary import Glossary
from .meaning import MeaningCheck, check_attempts
from .model_input import ModelInput, model_input
from .placeholders import PlaceholderPattern, Protection
from .protected_segments import markup_record, translate_protected
from .quality import KEPT, with_source
from .results import Passage, PassageMerger, Segment, Translation
from .retry import Attempt, RetryBudget, translate_segments
from .source_detection import (
    DOCUMENT_CHARACTERS,
    SourceDetection,
    SourceLanguage,
    has_letters,
)
from .structure import Document, DocumentPart, cut, parse, separator
from .term_replacement import replace_missing_terms
from .windows import join_paragraphs

MAX_CACHED_SEGMENTS: Final = 4096
"""Number of segments that a stream caches, so that repetitions are translated once."""

# An output is one line, so that line n of the output stays line n of the input.
_LINE_BREAKS = regex.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")

_Key = tuple[str, str]
"""Source language and text of a model input."""
Memory = OrderedDict[_Key, Attempt]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unit:
    """A part of a text in one language."""

    text: str
    source: SourceLanguage
    document: Document
    """The segments of the text; empty if the text is kept."""

    @property
    def num_lines(self) -> int:
        return max(1, len(split_lines(self.text)))


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslationJob:
    """The settings of one call.

    Attributes:
        generator: translates single segments.
        detector: identifies the language of outputs.
        source: source language; None if it is detected.
        detection: detects the source language, if required.
        target: target language.
        search: search options.
        retry: whether flagged outputs are retried, or the budget for it.
        wrapped: whether the texts are wrapped at a fixed width.
        meaning: compares the meaning of outputs with that of their sources.
        document: main language of the document that the texts are lines or paragraphs of, if
            detected.
        placeholders: placeholders to keep; None leaves them to the model.
        glossary: terms and their translations.
        aligner: aligns words, to insert terms that an output lacks.
    """

    generator: Generator
    detector: Detector | None
    source: Language | None
    detection: SourceDetection | None
    target: Language
    search: SearchOptions
    retry: bool | RetryBudget
    wrapped: bool
    meaning: MeaningCheck | None = None
    document: SourceLanguage | None = None
    placeholders: PlaceholderPattern | None = None
    glossary: Glossary | None = None
    aligner: Aligner | None = None

    def translate(self, texts: Sequence[str], remembered: Memory) -> list[Translation]:
        """Translate texts together; segments in `remembered` are not translated again."""
        if self.placeholders is None:
            return self.translate_protected(texts, remembered, None)
        protection = Protection(self.placeholders)
        protected = [
            text if isinstance(text, Verbatim) else protection.protect(text) for text in texts
        ]
        translations = self.translate_protected(protected, remembered, protection)
        restored = [restore_placeholders(each, protection) for each in translations]
        count = self.placeholders.count
        return [
            each if count(each.text) == count(text) else _kept_whole(each)
            for text, each in zip(texts, restored, strict=True)
        ]

    def translate_protected(
        self, texts: Sequence[str], remembered: Memory, protection: Protection | None
    ) -> list[Translation]:
        """Translate texts with private-use characters for placeholders, which outputs keep."""
        units_of_texts, mains = self._units(texts)
        found = self._translate_segments(units_of_texts, remembered, protection)
        return [
            self._translation(text, units, main, found)
            for text, units, main in zip(texts, units_of_texts, mains, strict=True)
        ]

    def forget(self, remembered: Memory) -> None:
        """Remove the least recently used segments."""
        while len(remembered) > MAX_CACHED_SEGMENTS:
            remembered.popitem(last=False)

    def _units(self, texts: Sequence[str]) -> tuple[list[list[_Unit]], list[Language | None]]:
        """Return the units of each text, and its main source language."""
        if self.source is not None:
            named = SourceLanguage(language=self.source)
            return (
                [[self._unit(part, named) for part in self._split_code(text)] for text in texts],
                [self.source] * len(texts),
            )
        assert self.detection is not None
        if self.document is not None:
            sources = self.detection.detect_lines(texts, self.document, target=self.target)
        else:
            sources = self.detection.detect_texts([_beginning(text) for text in texts])
        units = []
        for text, source in zip(texts, sources, strict=True):
            lines = self._split_lines(text)
            detect_lines = [source]
            if len(lines) > 1:
                detect_lines = self.detection.detect_lines(lines, source, target=self.target)
            units.append(list(map(self._unit, lines, detect_lines)))
        return units, [source.language for source in sources]

    def _split_code(self, text: str) -> list[str]:
        """Split a text into code blocks and the text between them."""
        if isinstance(text, Verbatim) or not has_fence(text):
            return [text]
        windows = mark_code_blocks([split_lines(text)])
        lines = [line for window in windows for line in window]
        groups = groupby(lines, key=lambda line: isinstance(line, Verbatim))
        return [
            Verbatim("".join(group)) if is_code else "".join(group) for is_code, group in groups
        ]

    def _split_lines(self, text: str) -> list[str]:
        """Split a text into its lines, or into paragraphs if it is wrapped."""
        lines: list[str] = []
        for part in self._split_code(text):
            if isinstance(part, Verbatim):
                lines.append(part)
            elif self.wrapped:
                lines += [
                    each for window in join_paragraphs([split_lines(part)]) for each in window
                ]
            else:
                lines += split_lines(part)
        return lines or [text]

    def _unit(self, text: str, source: SourceLanguage) -> _Unit:
        language = source.language
        if language is None or isinstance(text, Verbatim):
            document = Document(parts=(), tail=text)
        elif language.code == self.target.code:
            # Text in the target language is kept; if this was only assumed, its segment is flagged.
            kept = cut([text])
            parts = [replace(part, translate=False) for part in kept.parts if source.assumed]
            document = replace(kept, parts=tuple(parts), tail=kept.tail if parts else text)
        else:
            document = parse(
                text,
                language,
                fits=lambda segment: self.generator.fits(segment, source=language),
                wrapped=self.wrapped,
            )
        return _Unit(text=text, source=source, document=document)

    def _translate_segments(
        self,
        units_of_texts: Sequence[Sequence[_Unit]],
        remembered: Memory,
        protection: Protection | None,
    ) -> dict[_Key, Attempt]:
        """Translate the new segments of all units, one source language at a time."""
        wanted: dict[str, tuple[Language, dict[str, None]]] = {}
        for language, part in _parts_to_translate(units_of_texts):
            text = model_input(part.text, language).text
            if (language.code, text) in remembered:
                remembered.move_to_end((language.code, text))
            else:
                wanted.setdefault(language.code, (language, {}))[1][text] = None
        found: dict[_Key, Attempt] = dict(remembered)
        for code, (language, segments) in wanted.items():
            translate = partial(self._translate_texts, source=language)
            if protection is None:
                attempts = translate(list(segments))
            else:
                attempts = translate_protected(list(segments), protection, translate, self.aligner)
            for segment, attempt in zip(segments, attempts, strict=True):
                found[code, segment] = attempt
                # In the next call, these characters represent other placeholders.
                if protection is None or not protection.signs(segment):
                    remembered[code, segment] = attempt
        return found

    def _translate_texts(self, texts: Sequence[str], *, source: Language) -> list[Attempt]:
        if not texts:
            return []
        found = {text: self.glossary.find(text) for text in texts} if self.glossary else {}
        attempts = translate_segments(
            self.generator,
            texts,
            source=source,
            target=self.target,
            search=self.search,
            detector=self.detector,
            retry=self.retry,
            terms={text: tuple(entry.targets for entry, *_ in found[text]) for text in found},
        )
        if found and self.aligner is not None:
            attempts = replace_missing_terms(attempts, found, self.aligner)
        if self.meaning is not None:
            attempts = check_attempts(self.meaning, attempts, source=source, target=self.target)
        return attempts

    def _translation(
        self,
        text: str,
        units: Sequence[_Unit],
        main: Language | None,
        found: dict[_Key, Attempt],
    ) -> Translation:
        segments: list[Segment] = []
        rendered, start = "", 0
        for unit in units:
            of_unit = [self._segment(part, unit.source, found) for part in unit.document.parts]
            language = unit.source.language
            between = "" if language is None else separator(language, self.target)
            pieces = unit.document.render_parts([each.text for each in of_unit], between=between)
            place = start
            for segment, part, (before, output) in zip(
                of_unit, unit.document.parts, pieces, strict=True
            ):
                place += len(part.before)
                rendered += before
                segments.append(replace(segment, source_start=place, start=len(rendered)))
                rendered += output
                place += len(part.text)
            rendered += unit.document.tail
            start += len(unit.text)
        return Translation(
            text=rendered,
            source_text=text,
            source=main,
            target=self.target,
            segments=tuple(segments),
            passages=tuple(self._passages(units)) if self.source is None else (),
        )

    def _segment(
        self, part: DocumentPart, source: SourceLanguage, found: dict[_Key, Attempt]
    ) -> Segment:
        trust, text = KEPT, part.text
        alternatives: tuple[str, ...] = ()
        if part.translate:
            assert source.language is not None
            given = model_input(part.text, source.language)
            attempt = found[source.language.code, given.text]
            trust = attempt.trust
            text, *others = (
                _one_line(given, each.text, self.target) for each in attempt.hypotheses
            )
            alternatives = tuple(others)
        if source.probability is not None and (part.translate or source.assumed):
            trust = with_source(trust, probability=source.probability, uncertain=source.uncertain)
        return Segment(source_text=part.text, text=text, trust=trust, alternatives=alternatives)

    def _passages(self, units: Sequence[_Unit]) -> Iterator[Passage]:
        """Yield the languages of a text's lines, merging consecutive lines in one language."""
        merger = PassageMerger()
        first_line = 1
        for unit in units:
            source = unit.source
            if source.language is not None and not isinstance(unit.text, Verbatim):
                passage = Passage(
                    first_line=first_line,
                    num_lines=unit.num_lines,
                    language=source.language,
                    kept=source.language.code == self.target.code,
                    assumed=source.assumed,
                    detected=source.detected,
                )
                yield from merger.add(passage)
            first_line += unit.num_lines
        yield from merger.finish()


def restore_placeholders(translation: Translation, protection: Protection) -> Translation:
    """Return a translation with its placeholders restored."""
    restore = protection.restore
    if not protection.placeholders:
        return translation
    segments = []
    source_done = done = source_start = start = 0
    for segment in translation.segments:
        source_start += len(restore(translation.source_text[source_done : segment.source_start]))
        start += len(restore(translation.text[done : segment.start]))
        source_done, done = segment.source_start, segment.start
        restored = replace(
            segment,
            source_text=restore(segment.source_text),
            text=restore(segment.text),
            alternatives=tuple(map(restore, segment.alternatives)),
            source_start=source_start,
            start=start,
        )
        segments.append(restored)
    return replace(
        translation,
        text=restore(translation.text),
        source_text=restore(translation.source_text),
        segments=tuple(segments),
    )


def _kept_whole(translation: Translation) -> Translation:
    """Return a text unchanged, because the outputs of its segments together form placeholders."""
    segments = tuple(
        replace(each, text=each.source_text, start=each.source_start, alternatives=(), trust=record)
        for each in translation.segments
        for record in [markup_record([each.trust])]
    )
    return replace(translation, text=translation.source_text, segments=segments)


def _beginning(text: str) -> str:
    """Return the beginning of a text, from which its main language is detected."""
    beginning = text[:DOCUMENT_CHARACTERS]
    return beginning if has_letters(beginning) else text


def _parts_to_translate(
    units_of_texts: Sequence[Sequence[_Unit]],
) -> Iterator[tuple[Language, DocumentPart]]:
    for units in units_of_texts:
        for unit in units:
            for part in unit.document.parts:
                if part.translate and unit.source.language is not None:
                    yield unit.source.language, part


def _one_line(given: ModelInput, output: str, target: Language) -> str:
    return _LINE_BREAKS.sub(" ", given.restore(output, target).strip())
