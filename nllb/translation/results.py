"""Results of the translator: translations, their segments, and the languages of passages."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from nllb.languages import Language

from .quality import Flag, TrustRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment of a translation: a sentence, a part of a long one, or text that is kept.

    Attributes:
        source_text: the segment without the white space around it.
        text: its translation.
        trust: quality estimate of the translation.
        alternatives: further outputs, if `SearchOptions.num_hypotheses` requests more than one.
        source_start: index of the segment in the given text; 0 if the text was wrapped.
        start: index of its translation in the translated text.
    """

    source_text: str
    text: str
    trust: TrustRecord
    alternatives: tuple[str, ...] = ()
    source_start: int = field(default=0, compare=False)
    start: int = field(default=0, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """Consecutive lines of a text with the same detected source language.

    Attributes:
        first_line: number of its first line, counted from 1.
        num_lines: number of its lines.
        language: the language that it was translated from; the target language if it was kept.
        kept: whether it was kept because it is, or was assumed to be, in the target language.
        assumed: whether the language was assumed because the detector could not identify it.
        detected: the detected language if the model does not cover it; `language` is then the
            likeliest language that the model covers.
    """

    first_line: int
    num_lines: int
    language: Language
    kept: bool = False
    assumed: bool = False
    detected: str | None = None


class PassageMerger:
    """Joins successive passages in one language, ignoring blank lines between them."""

    def __init__(self) -> None:
        self._last: Passage | None = None

    def add(self, passage: Passage) -> Iterator[Passage]:
        """Add the next passage, and yield the last one if it is complete."""
        last = self._last
        if last is None:
            self._last = passage
            return
        num_lines = passage.first_line + passage.num_lines - last.first_line
        joined = replace(passage, first_line=last.first_line, num_lines=num_lines)
        if joined == replace(last, num_lines=num_lines):
            self._last = joined
        else:
            self._last = passage
            yield last

    def finish(self) -> Iterator[Passage]:
        """Yield the last passage."""
        if self._last is not None:
            yield self._last
        self._last = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """The translation of one text.

    Attributes:
        text: the text in the target language, in the layout of the source.
        source_text: the given text.
        source: language of the source; None if it was to be detected and the text has no
            letters.
        target: language of the translation.
        segments: the segments in order, each with its trust record.
        passages: the languages of the lines, if the source language was detected; lines without
            letters belong to no passage.
    """

    text: str
    source_text: str
    source: Language | None
    target: Language
    segments: tuple[Segment, ...]
    passages: tuple[Passage, ...] = ()

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The flags of all segments, without repetition."""
        return tuple(dict.fromkeys(flag for part in self.segments for flag in part.trust.flags))

    @property
    def confidence(self) -> float:
        """The lowest confidence of any segment."""
        return min((segment.trust.confidence for segment in self.segments), default=1.0)
