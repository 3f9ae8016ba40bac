"""Lines of a document: which of them have a language of their own, by the shipped identifier."""

from types import SimpleNamespace
from typing import Any

import pytest

from lid import Detector
from nllb.languages import parse_language
from nllb.translation.source_detection import SourceDetection, SourceLanguage

FRENCH, GERMAN = parse_language("fra_Latn"), parse_language("deu_Latn")


@pytest.fixture(scope="module")
def detection() -> SourceDetection:
    generator: Any = SimpleNamespace(supports=lambda language: True)
    return SourceDetection(Detector.load(), generator, assumed=None)


@pytest.mark.parametrize(
    ("target", "expected"),
    # A likely line is kept where it is already in the target language; to be translated as a line
    # in another language, it must be certain.
    [("eng_Latn", "eng_Latn"), ("deu_Latn", "fra_Latn")],
)
def test_a_likely_line_in_the_target_language_is_its_own(
    detection: SourceDetection, target: str, expected: str
) -> None:
    document = SourceLanguage(language=FRENCH, probability=0.9)
    lines = ["Bonjour tout le monde.", "Hello all of you.", "1984"]
    found = detection.detect_lines(lines, document, target=parse_language(target))
    assert [one.language and one.language.code for one in found] == ["fra_Latn", expected, None]


def test_a_certain_line_in_a_third_language_is_its_own(detection: SourceDetection) -> None:
    document = SourceLanguage(language=FRENCH, probability=0.9)
    [found] = detection.detect_lines(
        ["Der Zug nach Hamburg fährt heute leider mit großer Verspätung ab."],
        document,
        target=parse_language("eng_Latn"),
    )
    assert found.language == GERMAN
