"""The translator: texts in, translations with a trust record for each segment out.

    translator = Translator.load("facebook/nllb-200-distilled-600M")
    translator.translate("Hello. How are you?", source="en", target="fr").text

Languages are arguments of every call, never state. Newlines, indentation, list markers and white
space come back as they were, so a whole document can be given as one text.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, overload

import regex

from nllb.errors import LanguageError
from nllb.inference.generator import Generator, SearchOptions
from nllb.languages import Language, languages, parse_language
from nllb.languages.detection import Detection, Detector
from nllb.translation.quality import KEPT, Flag, TrustRecord, with_source
from nllb.translation.retry import Attempt, translate_segments
from nllb.translation.structure import Document, parse, separator

if TYPE_CHECKING:
    from nllb.inference.model_generator import DataType

AUTO: Final = "auto"
MIN_SOURCE_PROBABILITY: Final = 0.5
"""A detected source language below it is used, and flagged `uncertain_source`."""
LOOK_AHEAD_LINES: Final = 2048
LOOK_AHEAD_CHARACTERS: Final = 1 << 18
FIRST_LINES: Final = 4
"""Lines in the first batch of a stream; each may be twice as large as the one before."""
BATCH_S: Final = 4.0
"""Seconds for a batch: a stream's batches grow while they take less, and shrink when much more."""
REMEMBERED_SEGMENTS: Final = 4096
"""Segments whose translation a stream remembers, so that repeated ones are translated once."""

_LETTER = regex.compile(r"\p{L}")
# An output is one line, whatever the model writes: line n of a file stays line n.
_BREAKS = regex.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment of a translation: a sentence, a part of a long one, or text that is kept.

    Attributes:
        source_text: the segment without the white space around it.
        text: its translation.
        trust: its quality estimate.
        alternatives: further outputs, if `SearchOptions.num_hypotheses` asks for more than one.
    """

    source_text: str
    text: str
    trust: TrustRecord
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """The translation of one text.

    Attributes:
        text: the text in the target language, in the layout of the source.
        source_text: the text as it was given.
        source: language of the source; None where it was to be detected and the text has no
            letters.
        target: language of the translation.
        segments: the segments in order, each with its quality estimate.
    """

    text: str
    source_text: str
    source: Language | None
    target: Language
    segments: tuple[Segment, ...]

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The flags of all segments, each once."""
        return tuple(dict.fromkeys(flag for part in self.segments for flag in part.trust.flags))

    @property
    def confidence(self) -> float:
        """The lowest confidence of any segment."""
        return min((segment.trust.confidence for segment in self.segments), default=1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """Where the source language of a text comes from."""

    language: Language | None
    probability: float | None = None
    uncertain: bool = False


_Memory = OrderedDict[tuple[str, str], Attempt]


class Translator:
    """Translates between any two languages of a model; load it once and call it many times.

    Attributes:
        generator: the model that translates single segments.
        detector: identifies languages: needed for `source="auto"`; with it the language of each
            output is checked, too. None without one.
    """

    def __init__(self, generator: Generator, *, detector: Detector | None = None):
        """Wrap a generator; `Translator.load` makes one from a model.

        Args:
            generator: What translates single segments.
            detector: Names languages: needed for `source="auto"`; with it each output's language is
                checked too.
        """
        self.generator = generator
        self.detector = detector

    @classmethod
    def load(
        cls,
        name_or_dir: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: "DataType" = "auto",
        detector: Detector | None = None,
        expert_memory: int | None = None,
        num_threads: int | None = None,
        report: Callable[[str], None] | None = None,
    ) -> "Translator":
        """Load a model.

        Args:
            name_or_dir: A directory, a name on the Hugging Face hub, or `mini`, which ships; None
                takes what `nllb translate` does without `--model`.
            device: `cpu`, `cuda`, or `auto`: a GPU where there is one.
            dtype: Type of the weights in memory; `auto` is int8 on a CPU and bfloat16 on a GPU.
            detector: Names languages, as for `Translator`.
            expert_memory: Bytes for the experts of a mixture-of-experts model, which are read from
                the file when they are needed; None holds all of them in memory.
            num_threads: Threads on a CPU; None takes all processors.
            report: Is told what the model needs, before anything large is read.

        Raises:
            CheckpointError: There is no such model, or it cannot be read.
            ResourceError: The model does not fit into memory.
        """
        from nllb.inference.load_model import load_generator

        generator = load_generator(
            name_or_dir,
            device=device,
            dtype=dtype,
            expert_memory=expert_memory,
            num_threads=num_threads,
            report=report,
        )
        return cls(generator, detector=detector)

    @overload
    def translate(
        self,
        text: str,
        *,
        source: str | Language,
        target: str | Language,
        search: SearchOptions | None = None,
        retry: bool = True,
        wrapped: bool = False,
    ) -> Translation: ...

    @overload
    def translate(
        self,
        text: list[str] | tuple[str, ...],
        *,
        source: str | Language,
        target: str | Language,
        search: SearchOptions | None = None,
        retry: bool = True,
        wrapped: bool = False,
    ) -> list[Translation]: ...

    def translate(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        source: str | Language,
        target: str | Language,
        search: SearchOptions | None = None,
        retry: bool = True,
        wrapped: bool = False,
    ) -> Translation | list[Translation]:
        """Translate a text, or each text of a list.

        Args:
            text: Any text: a sentence, a line, a document with its newlines. A list gives a list.
            source: Its language (`en`, `eng_Latn`, `English`), or `auto` to detect it text by text.
            target: The language to translate into.
            search: How outputs are searched for; beam search with four beams by default.
            retry: Try outputs that loop, stop short or are in the wrong language again.
            wrapped: The text was wrapped at a fixed width: sentences go on over the ends of full
                lines, which come back at the same share of their length. Otherwise every newline
                is hard.

        Raises:
            LanguageError: A language is unknown, not in the model, or could not be detected; or
                source and target are the same.
            SegmentError: A segment has no output.
        """
        texts = [text] if isinstance(text, str) else list(text)
        for number, each in enumerate(texts):
            if not isinstance(each, str):
                raise TypeError(f"text {number} is {type(each).__name__}, not str")
        job = self._job(source, target, search, retry, wrapped)
        translations = job.translate(texts, OrderedDict())
        return translations[0] if isinstance(text, str) else translations

    def translate_stream(
        self,
        lines: Iterable[str],
        *,
        source: str | Language,
        target: str | Language,
        search: SearchOptions | None = None,
        retry: bool = True,
        look_ahead: int = LOOK_AHEAD_LINES,
    ) -> Iterator[Translation]:
        """Translate lines one after the other in bounded memory; line n out belongs to line n in.

        At most `look_ahead` lines are read before their translations come out: 1 answers each line
        before it asks for the next. The first batches are small, so that output begins early.

        Raises:
            LanguageError: At once, not at the first line; or later, where detection failed.
            SegmentError: A segment has no output; the lines before its batch came out.
        """
        windows = growing_windows(lines, look_ahead=look_ahead)
        return self.translate_windows(
            windows, source=source, target=target, search=search, retry=retry
        )

    def translate_windows(
        self,
        windows: Iterable[Sequence[str]],
        *,
        source: str | Language,
        target: str | Language,
        search: SearchOptions | None = None,
        retry: bool = True,
        wrapped: bool = False,
    ) -> Iterator[Translation]:
        """Translate texts that come in batches; each batch is answered before the next is read."""
        job = self._job(source, target, search, retry, wrapped)

        def translations() -> Iterator[Translation]:
            remembered: _Memory = OrderedDict()
            for window in windows:
                yield from job.translate(window, remembered)
                while len(remembered) > REMEMBERED_SEGMENTS:
                    remembered.popitem(last=False)

        return translations()

    def language(self, text: str | Language) -> Language:
        """Return a language of the model.

        Raises:
            LanguageError: There is no such language, or the model does not have it.
        """
        language = text if isinstance(text, Language) else parse_language(text)
        if not self.generator.supports(language):
            known = [each.code for each in languages() if self.generator.supports(each)]
            shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
            raise LanguageError(
                f"the model has no token for {language.code} ({language.name}); "
                f"it has {len(known)} languages: {shown}"
            )
        return language

    def detect(self, text: str) -> tuple[Language, float] | None:
        """Return the language of a text and its probability; None for a text without letters.

        Raises:
            LanguageError: There is no detector, or it names no language of the model.
        """
        [source] = _detect(self._need_detector(), self.generator, [text])
        return None if source.language is None else (source.language, source.probability or 0.0)

    def _need_detector(self) -> Detector:
        if self.detector is None:
            raise LanguageError(
                "source 'auto' needs a language detector: Translator.load(..., "
                "detector=lid.Detector.load()); or name the source language"
            )
        return self.detector

    def _job(
        self,
        source: str | Language,
        target: str | Language,
        search: SearchOptions | None,
        retry: bool,
        wrapped: bool,
    ) -> "_Job":
        to = self.language(target)
        of = None if source == AUTO else self.language(source)
        if of is None:
            self._need_detector()
        if of is not None and of.code == to.code:
            raise LanguageError(
                f"source and target are both {to.code} ({to.name}): name two languages"
            )
        return _Job(
            generator=self.generator,
            detector=self.detector,
            source=of,
            target=to,
            search=search or SearchOptions(),
            retry=retry,
            wrapped=wrapped,
        )


def growing_windows(
    lines: Iterable[str],
    *,
    look_ahead: int = LOOK_AHEAD_LINES,
    first: int = FIRST_LINES,
    max_characters: int = LOOK_AHEAD_CHARACTERS,
) -> Iterator[list[str]]:
    """Yield lines in batches of `first` lines, then of more while that is quick, up to the bounds.

    A line longer than `max_characters` ends a batch.
    """
    most = min(first, look_ahead)
    window: list[str] = []
    characters = 0
    for line in lines:
        window.append(line)
        characters += len(line)
        if len(window) >= most or characters >= max_characters:
            start = monotonic()
            yield window
            most = min(_next_size(most, monotonic() - start), look_ahead)
            window, characters = [], 0
    if window:
        yield window


def _next_size(size: int, took_s: float) -> int:
    if took_s < BATCH_S:
        return 2 * size
    return max(FIRST_LINES, size // 2) if took_s > 2 * BATCH_S else size


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """Everything one call fixes."""

    generator: Generator
    detector: Detector | None
    source: Language | None
    """None where it is detected text by text."""
    target: Language
    search: SearchOptions
    retry: bool
    wrapped: bool

    def translate(self, texts: Sequence[str], remembered: _Memory) -> list[Translation]:
        """Translate texts together; segments already in `remembered` are not translated again."""
        sources = self._sources(texts)
        documents = [
            self._parse(text, source.language) for text, source in zip(texts, sources, strict=True)
        ]
        wanted: dict[str, tuple[Language, dict[str, None]]] = {}
        for source, document in zip(sources, documents, strict=True):
            if source.language is None:
                continue
            _, segments = wanted.setdefault(source.language.code, (source.language, {}))
            for part in document.parts:
                if (source.language.code, part.text) in remembered:
                    remembered.move_to_end((source.language.code, part.text))
                elif part.translate:
                    segments[part.text] = None
        found: dict[tuple[str, str], Attempt] = dict(remembered)
        for code, (language, segments) in wanted.items():
            attempts = translate_segments(
                self.generator,
                list(segments),
                source=language,
                target=self.target,
                search=self.search,
                detector=self.detector,
                retry=self.retry,
            )
            for segment, attempt in zip(segments, attempts, strict=True):
                found[code, segment] = remembered[code, segment] = attempt
        return [
            self._translation(text, source, document, found)
            for text, source, document in zip(texts, sources, documents, strict=True)
        ]

    def _parse(self, text: str, language: Language | None) -> Document:
        """Cut a text into parts; text that needs no translation is one stretch without parts."""
        if language is None or language.code == self.target.code:
            return Document(parts=(), tail=text)
        return parse(
            text,
            language,
            fits=lambda segment: self.generator.fits(segment, source=language),
            wrapped=self.wrapped,
        )

    def _translation(
        self,
        text: str,
        source: _Source,
        document: Document,
        found: dict[tuple[str, str], Attempt],
    ) -> Translation:
        segments = []
        for part in document.parts:
            if not part.translate or source.language is None:
                segments.append(Segment(source_text=part.text, text=part.text, trust=KEPT))
                continue
            attempt = found[source.language.code, part.text]
            trust = attempt.trust
            if source.probability is not None:
                trust = with_source(
                    trust, probability=source.probability, uncertain=source.uncertain
                )
            segments.append(
                Segment(
                    source_text=part.text,
                    text=_BREAKS.sub(" ", attempt.hypotheses[0].text.strip()),
                    trust=trust,
                    alternatives=tuple(other.text for other in attempt.hypotheses[1:]),
                )
            )
        between = "" if source.language is None else separator(source.language, self.target)
        return Translation(
            text=document.render([segment.text for segment in segments], between=between),
            source_text=text,
            source=source.language,
            target=self.target,
            segments=tuple(segments),
        )

    def _sources(self, texts: Sequence[str]) -> list[_Source]:
        if self.source is not None:
            return [_Source(language=self.source)] * len(texts)
        assert self.detector is not None
        return _detect(self.detector, self.generator, texts)


def _detect(detector: Detector, generator: Generator, texts: Sequence[str]) -> list[_Source]:
    """Return for each text with letters the likeliest language that the model has."""
    lettered = [bool(_LETTER.search(text)) for text in texts]
    asked = [" ".join(text.split()) for text, has in zip(texts, lettered, strict=True) if has]
    # All labels, since the likeliest ones may be languages that the model does not have.
    detections = iter(detector.detect_batch(asked, top=len(languages())))
    return [
        _choose(text, next(detections), generator) if has else _Source(language=None)
        for text, has in zip(texts, lettered, strict=True)
    ]


def _choose(text: str, detection: Detection, generator: Generator) -> _Source:
    by_code = {language.code: language for language in languages()}
    first = (detection.language, detection.probability)
    for code, probability in dict([first, *detection.alternatives]).items():
        language = by_code.get(code)
        if language is not None and generator.supports(language):
            sure = probability >= MIN_SOURCE_PROBABILITY
            return _Source(language=language, probability=probability, uncertain=not sure)
    raise LanguageError(
        f"the language of {text[:60]!r} is none that the model has (the detector says "
        f"{detection.language}, probability {detection.probability:.2f}): name the source"
    )
