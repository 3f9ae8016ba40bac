"""The language of each sentence of a text, for text that mixes languages."""

from collections.abc import Sequence
from dataclasses import dataclass

from nllb.languages import parse_language
from nllb.languages.detection import Detection
from nllb.languages.segmentation import split_sentences

from .detector import Detector

_SPLITTING_LANGUAGE = "eng_Latn"


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A sentence of a text and its language.

    Attributes:
        start: index of the first character of the sentence in the text.
        end: index after its last character, without the white space that follows.
        detection: its language.
    """

    start: int
    end: int
    detection: Detection


def detect_spans(
    detector: Detector,
    text: str,
    *,
    top: int = 1,
    candidates: Sequence[str] | None = None,
    threshold: float | None = None,
) -> list[Span]:
    """Return the sentences of a text, each with its language; see `Detector.detect_batch`."""
    bounds: list[tuple[int, int]] = []
    position = 0
    for sentence in split_sentences(text, parse_language(_SPLITTING_LANGUAGE)):
        end = position + len(sentence.rstrip())
        start = end - len(sentence.strip())
        if start < end:
            bounds.append((start, end))
        position += len(sentence)
    found = detector.detect_batch(
        [text[start:end] for start, end in bounds],
        top=top,
        candidates=candidates,
        threshold=threshold,
    )
    return [
        Span(start=start, end=end, detection=detection)
        for (start, end), detection in zip(bounds, found, strict=True)
    ]
