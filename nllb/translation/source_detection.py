"""Detection of the source language of texts.

Text that the detector labels `und` is never given the detector's best guess. An assumed language is
used instead (English unless the caller chooses another), and the text is flagged
`uncertain_source`. A line of a document has its own language if the detector is sure of it;
otherwise it has the language of the document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import regex

from nllb.errors import LanguageError
from nllb.inference.generator import Generator
from nllb.languages import Language, languages
from nllb.languages.detection import UNDETERMINED, Detection, Detector

MIN_SOURCE_PROBABILITY: Final = 0.5
"""Minimum probability of a detected source language that is not flagged `uncertain_source`."""
SHORT_LETTERS: Final = 20
"""Number of letters below which a text is short, and detectors less reliable."""
MIN_SHORT_PROBABILITY: Final = 0.8
"""The same as `MIN_SOURCE_PROBABILITY`, for short texts."""
MIN_LINE_PROBABILITY: Final = 0.8
"""Minimum probability for a line of a document to have its own language."""
MIN_TARGET_LINE_PROBABILITY: Final = 0.5
"""The same for a line in the target language, which is kept: such lines are common in documents."""
MIN_LINE_LETTERS: Final = 10
"""Minimum number of letters for a line of a document to have its own language."""
MAX_DOCUMENT_ALTERNATIVE: Final = 0.1
"""Maximum probability of the document's language for a line to have its own language."""
DOCUMENT_CHARACTERS: Final = 4096
"""Number of characters at its beginning from which the language of a document is detected."""

_LETTER = regex.compile(r"\p{L}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceLanguage:
    """The source language of a text, and how it was determined.

    Attributes:
        language: the language; None for a text without letters.
        probability: the detector's probability of it; None if the caller named the language.
        uncertain: whether segments are flagged `uncertain_source`.
        assumed: whether the language was assumed because the detector could not identify it.
        detected: the detected language if the model does not cover it; `language` is then the
            likeliest language that the model covers.
        group: the detector's group of easily confused languages that `language` belongs to.
    """

    language: Language | None
    probability: float | None = None
    uncertain: bool = False
    assumed: bool = False
    detected: str | None = None
    group: str | None = None


def has_letters(text: str) -> bool:
    """Return whether a text contains letters, which detection requires."""
    return _LETTER.search(text) is not None


class SourceDetection:
    """Detects the source language of texts within the languages of a model."""

    def __init__(self, detector: Detector, generator: Generator, *, assumed: Language | None):
        """Prepare detection.

        Args:
            detector: Identifies the language of texts.
            generator: The model, whose languages are the possible source languages.
            assumed: The language of texts that the detector cannot identify; None raises an error
                for them.
        """
        self.detector, self.generator, self.assumed = detector, generator, assumed

    def detect_texts(self, texts: Sequence[str]) -> list[SourceLanguage]:
        """Return the source language of each text.

        Raises:
            LanguageError: The language of a text could not be identified and none is assumed, or
                the model has none of the languages that the detector considers.
        """
        return [
            SourceLanguage(language=None) if found is None else self._choose(text, found)
            for text, found in zip(texts, self._detections(texts), strict=True)
        ]

    def detect_lines(
        self, lines: Sequence[str], document: SourceLanguage, *, target: Language
    ) -> list[SourceLanguage]:
        """Return the source language of each line of a document whose main language is known."""
        return [
            self._of_line(line, found, document, target)
            for line, found in zip(lines, self._detections(lines), strict=True)
        ]

    def _detections(self, texts: Sequence[str]) -> list[Detection | None]:
        """Return the detector's answers; None for texts without letters."""
        lettered = list(map(has_letters, texts))
        asked = [" ".join(text.split()) for text, has in zip(texts, lettered, strict=True) if has]
        # All labels are requested, because the model may lack the likeliest languages.
        answers = iter(self.detector.detect_batch(asked, top=len(languages())))
        return [next(answers) if has else None for has in lettered]

    def _choose(self, text: str, detection: Detection) -> SourceLanguage:
        if detection.language == UNDETERMINED:
            return self._assume(text, detection)
        first = (detection.language, detection.probability)
        by_code = {language.code: language for language in languages()}
        for code, probability in dict([first, *detection.alternatives]).items():
            language = by_code.get(code)
            if language is not None and self.generator.supports(language):
                lacking = code != detection.language
                short = len(_LETTER.findall(text)) < SHORT_LETTERS
                needed = MIN_SHORT_PROBABILITY if short else MIN_SOURCE_PROBABILITY
                return SourceLanguage(
                    language=language,
                    probability=probability,
                    uncertain=lacking or probability < needed,
                    detected=detection.language if lacking else None,
                    group=detection.macro_group,
                )
        raise LanguageError(
            f"the model covers none of the likely languages of {text[:60]!r} (the detector says "
            f"{detection.language}, probability {detection.probability:.2f}): name the source"
        )

    def _assume(self, text: str, detection: Detection) -> SourceLanguage:
        if self.assumed is None:
            raise LanguageError(
                f"the language of {text[:60]!r} could not be identified: name the source language, "
                "or the language to assume"
            )
        probability = dict(detection.alternatives).get(self.assumed.code, 0.0)
        return SourceLanguage(
            language=self.assumed, probability=probability, uncertain=True, assumed=True
        )

    def _of_line(
        self, line: str, detection: Detection | None, document: SourceLanguage, target: Language
    ) -> SourceLanguage:
        if detection is None:
            return SourceLanguage(language=None)
        main = document.language
        if main is None or (document.assumed and detection.language != UNDETERMINED):
            return self._choose(line, detection)
        of_main = dict(detection.alternatives).get(main.code, 0.0)
        is_target = detection.language == target.code
        needed = MIN_TARGET_LINE_PROBABILITY if is_target else MIN_LINE_PROBABILITY
        own = (
            detection.language not in (UNDETERMINED, main.code)
            and detection.probability >= needed
            and len(_LETTER.findall(line)) >= MIN_LINE_LETTERS
            and of_main <= MAX_DOCUMENT_ALTERNATIVE
            and (detection.macro_group is None or detection.macro_group != document.group)
        )
        return self._choose(line, detection) if own else document
