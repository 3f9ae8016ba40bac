"""Translations as JSON: segments with their trust records and their positions in both texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nllb.languages import Language
from nllb.translation.records import passage_record
from nllb.translation.results import Segment, Translation

OffsetUnit = Literal["codepoint", "utf16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentOffsets:
    """The position of a segment in the source text and in the translation, in code points.

    Attributes:
        source: start and end in the source text, or None.
        output: start and end in the translation, or None.
    """

    source: tuple[int, int] | None
    output: tuple[int, int] | None


def segment_offsets(translation: Translation) -> list[SegmentOffsets]:
    """Return the position of each segment; None where a line break was inserted into a segment."""
    found = []
    source_at = output_at = 0
    for segment in translation.segments:
        source = _find(translation.source_text, segment.source_text, source_at)
        output = _find(translation.text, segment.text, output_at)
        source_at = source[1] if source else source_at
        output_at = output[1] if output else output_at
        found.append(SegmentOffsets(source=source, output=output))
    return found


def _find(text: str, part: str, start: int) -> tuple[int, int] | None:
    at = text.find(part, start) if part else -1
    return None if at < 0 else (at, at + len(part))


class _Offsets:
    """Converts offsets in code points to the unit that was requested."""

    def __init__(self, text: str, unit: OffsetUnit) -> None:
        wide = unit == "utf16" and any(ord(character) > 0xFFFF for character in text)
        self._text = text if wide else ""

    def range(self, place: tuple[int, int] | None) -> tuple[int | None, int | None]:
        if place is None:
            return None, None
        return self._convert(place[0]), self._convert(place[1])

    def _convert(self, offset: int) -> int:
        return offset + sum(ord(character) > 0xFFFF for character in self._text[:offset])


def segment_json(
    segment: Segment,
    place: SegmentOffsets,
    *,
    source_offsets: _Offsets,
    output_offsets: _Offsets,
) -> dict[str, Any]:
    """Return the object of one segment."""
    source_start, source_end = source_offsets.range(place.source)
    start, end = output_offsets.range(place.output)
    trust = {name: getattr(segment.trust, name) for name in segment.trust.__slots__}
    return {
        "source_text": segment.source_text,
        "source_start": source_start,
        "source_end": source_end,
        "text": segment.text,
        "start": start,
        "end": end,
        "confidence": trust.pop("confidence"),
        "flags": trust.pop("flags"),
        "alternatives": list(alternatives_of(segment)),
        "trust": trust,
    }


def alternatives_of(segment: Segment) -> Iterator[str]:
    """Yield the alternatives of a segment that differ from its output and from each other."""
    seen = {segment.text}
    for text in segment.alternatives:
        if text and text not in seen:
            seen.add(text)
            yield text


def language_json(language: Language | None) -> dict[str, Any] | None:
    """Return the object of a language."""
    if language is None:
        return None
    return {"code": language.code, "name": language.name, "direction": language.direction}


def translation_json(
    translation: Translation, *, unit: OffsetUnit = "codepoint", detected: float | None = None
) -> dict[str, Any]:
    """Return the object of a translation; `detected` is the probability of a detected source."""
    source_offsets = _Offsets(translation.source_text, unit)
    output_offsets = _Offsets(translation.text, unit)
    segments = [
        segment_json(segment, place, source_offsets=source_offsets, output_offsets=output_offsets)
        for segment, place in zip(translation.segments, segment_offsets(translation), strict=True)
    ]
    record: dict[str, Any] = {
        "text": translation.text,
        "source": language_json(translation.source),
        "target": language_json(translation.target),
        "confidence": translation.confidence,
        "flags": translation.flags,
        "segments": segments,
    }
    if translation.passages:
        record["passages"] = [passage_record(passage) for passage in translation.passages]
    if detected is not None:
        record["source_probability"] = detected
    return record


def whole_alternatives(translation: Translation, count: int) -> list[str]:
    """Return alternative translations of a whole text, without repetition.

    The n-th one uses the n-th alternative of each segment that has as many.
    """
    options = [list(alternatives_of(segment)) for segment in translation.segments]
    found: dict[str, None] = {}
    at = segment_offsets(translation)
    for number in range(min(count, max(map(len, options), default=0))):
        found[_with_alternatives(translation, at, options, number)] = None
    found.pop(translation.text, None)
    return list(found)


def _with_alternatives(
    translation: Translation,
    at: Sequence[SegmentOffsets],
    options: Sequence[list[str]],
    number: int,
) -> str:
    text, done = "", 0
    for place, of_segment in zip(at, options, strict=True):
        if place.output is not None and number < len(of_segment):
            text += translation.text[done : place.output[0]] + of_segment[number]
            done = place.output[1]
    return text + translation.text[done:]
