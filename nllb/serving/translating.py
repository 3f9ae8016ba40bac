"""Operations of the routes on texts: translation, detection, and streaming of segments."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from nllb.errors import LanguageError
from nllb.inference.generator import SearchOptions
from nllb.languages import Language
from nllb.languages.detection import UNDETERMINED, Detector
from nllb.translation.results import Segment, Translation
from nllb.translation.source_detection import DOCUMENT_CHARACTERS, SourceLanguage, has_letters
from nllb.translation.structure import parse
from nllb.translation.translator import AUTO, Translator

from .errors import RequestError
from .features import (
    KEPT_PLACEHOLDERS,
    Markup,
    Terms,
    make_glossary,
    translate_markup,
    translate_with_terms,
)
from .remembering_generator import RememberingGenerator
from .translation_json import SegmentOffsets, segment_offsets

MAX_DETECTIONS: Final = 5
MIN_DETECTION: Final = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class TextOptions:
    """Options for translating texts.

    Attributes:
        source: The source language; None detects it.
        target: The target language.
        alternatives: Number of alternative outputs per segment.
        beam_size: Beam size of the search; None uses that of the model.
        wrapped: Whether line ends inside paragraphs are soft.
        markup: Options for reading markup; None for plain text.
        terms: Glossary and terms that are not translated.
    """

    source: Language | None
    target: Language
    alternatives: int = 0
    beam_size: int | None = None
    wrapped: bool = False
    markup: Markup | None = None
    terms: Terms = field(default_factory=Terms)

    def search(self, translator: Translator) -> SearchOptions:
        """Return the options of the search, derived from those of the translator."""
        default = translator.default_search
        num_hypotheses = 1 + self.alternatives
        beam_size = max(self.beam_size or default.beam_size, num_hypotheses)
        return replace(default, beam_size=beam_size, num_hypotheses=num_hypotheses)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextResult:
    """A translated text.

    Attributes:
        translation: The translation.
        detected: The detected source language; None if the caller named it.
    """

    translation: Translation
    detected: SourceLanguage | None = None


def translate_texts(
    translator: Translator, texts: Sequence[str], options: TextOptions, *, together: bool = False
) -> list[TextResult]:
    """Translate texts.

    Args:
        translator: The translator.
        texts: The texts.
        options: Translation options.
        together: Whether the texts belong together, so that the source language is detected from
            all of them, except for texts that are clearly in another language.

    Raises:
        LanguageError: A source language could not be detected.
            RequestError: The server does not support the options.
        SegmentError: A segment has no output.
    """
    detected: list[SourceLanguage | None] = [None] * len(texts)
    if options.source is None:
        detected = list(_detect(translator, texts, together=together))
    if options.source is not None or options.markup is not None:
        return [
            TextResult(translation=_one(translator, text, options, found), detected=found)
            for text, found in zip(texts, detected, strict=True)
        ]
    if together and detected[0] is not None and detected[0].language is not None:
        translations = list(
            translator.translate_windows(
                [texts],
                AUTO,
                options.target,
                search=options.search(translator),
                wrapped=options.wrapped,
                document=detected[0],
                glossary=make_glossary(options.terms),
                do_not_translate=options.terms.do_not_translate,
                placeholders=KEPT_PLACEHOLDERS,
            )
        )
    else:
        translations = translate_with_terms(
            translator,
            texts,
            AUTO,
            options.target,
            search=options.search(translator),
            wrapped=options.wrapped,
            terms=options.terms,
        )
    return [
        TextResult(translation=translation, detected=found)
        for translation, found in zip(translations, detected, strict=True)
    ]


def _detect(
    translator: Translator, texts: Sequence[str], *, together: bool
) -> Iterator[SourceLanguage]:
    if together:
        found = translator.detect_source("\n".join(texts)[:DOCUMENT_CHARACTERS])
        yield from [found] * len(texts)
    else:
        yield from (translator.detect_source(text[:DOCUMENT_CHARACTERS]) for text in texts)


def _one(
    translator: Translator, text: str, options: TextOptions, detected: SourceLanguage | None
) -> Translation:
    """Translate one text that has markup, or whose source language is known."""
    source = options.source if detected is None else detected.language
    if source is None or source == options.target or not has_letters(text):
        return unchanged(text, source, options.target)
    if options.markup is not None:
        return translate_markup(
            translator,
            text,
            source,
            options.target,
            markup=options.markup,
            terms=options.terms,
        )
    [translation] = translate_with_terms(
        translator,
        [text],
        source,
        options.target,
        search=options.search(translator),
        wrapped=options.wrapped,
        terms=options.terms,
    )
    return translation


def unchanged(text: str, source: Language | None, target: Language) -> Translation:
    """Return the translation of a text that is kept unchanged."""
    return Translation(text=text, source_text=text, source=source, target=target, segments=())


def detect_languages(
    detector: Detector | None, text: str, *, top: int = MAX_DETECTIONS
) -> list[tuple[str, float]]:
    """Return the likeliest languages of a text with their probabilities, best first.

    Raises:
        RequestError: The server has no detector.
    """
    if detector is None:
        raise RequestError(501, "language detection is not installed on this server")
    if not has_letters(text):
        return []
    [found] = detector.detect_batch([" ".join(text[:DOCUMENT_CHARACTERS].split())], top=top)
    pairs = [(found.language, found.probability), *found.alternatives]
    unique = dict(reversed([pair for pair in pairs if pair[0] != UNDETERMINED]))
    ranked = sorted(unique.items(), key=lambda pair: -pair[1])
    return [pair for pair in ranked if pair[1] >= MIN_DETECTION][:top]


def stream_text(
    translator: Translator,
    text: str,
    options: TextOptions,
    on_segment: Callable[[int, Segment, SegmentOffsets], None],
) -> TextResult:
    """Translate a text, report each segment in order, and return the whole translation.

    The reported outputs are provisional: they may differ in the whole translation if lines are in
    different languages.
    """
    remembering = RememberingGenerator(translator.generator)
    translator = Translator(
        remembering,
        detector=translator.detector,
        meaning=translator.meaning,
        aligner=translator.aligner,
        default_search=translator.default_search,
    )
    source = options.source
    if source is None:
        source = translator.detect_source(text[:DOCUMENT_CHARACTERS]).language
    if source is not None and source != options.target and options.markup is None:
        document = parse(
            text,
            source,
            fits=lambda segment: translator.generator.fits(segment, source=source),
            wrapped=options.wrapped,
        )
        at = num_segments = 0
        size = 1
        parts = list(document.parts)
        while parts:
            window, parts = parts[:size], parts[size:]
            size = min(2 * size, 8)
            outputs = _translate_parts(translator, [p.text for p in window], source, options)
            for part, output in zip(window, outputs, strict=True):
                at = _after(text, part.text, at)
                for segment, place in zip(output.segments, segment_offsets(output), strict=True):
                    on_segment(num_segments, segment, _moved(place, at - len(part.text)))
                    num_segments += 1
    [result] = translate_texts(translator, [text], options)
    return result


def _translate_parts(
    translator: Translator, texts: Sequence[str], source: Language, options: TextOptions
) -> list[Translation]:
    try:
        return translate_with_terms(
            translator,
            texts,
            source,
            options.target,
            search=options.search(translator),
            wrapped=False,
            terms=options.terms,
        )
    except LanguageError:
        return [unchanged(text, source, options.target) for text in texts]


def _after(text: str, part: str, start: int) -> int:
    """Return the index after a part; a part with soft line ends cannot be found directly."""
    at = text.find(part, start)
    return (start if at < 0 else at) + len(part)


def _moved(place: SegmentOffsets, offset: int) -> SegmentOffsets:
    if place.source is None:
        return place
    start, end = place.source
    return SegmentOffsets(source=(start + offset, end + offset), output=None)
