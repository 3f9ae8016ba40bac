from collections.abc import Sequence

from lid.spans import detect_spans
from nllb.languages.detection import Detection


class FirstWord:
    """Names the language after the first word of a text."""

    def detect_batch(self, texts: Sequence[str], **options: object) -> list[Detection]:
        assert options == {"top": 1, "candidates": None, "threshold": 0.25}
        return [Detection(language=text.split()[0], probability=0.5) for text in texts]


def test_each_sentence_gets_a_language_and_its_place() -> None:
    text = "  The library opens.  Die Bibliothek auch!\nOui.\n\n"
    spans = detect_spans(FirstWord(), text, threshold=0.25)  # type: ignore[arg-type]
    assert [span.detection.language for span in spans] == ["The", "Die", "Oui."]
    assert [text[span.start : span.end] for span in spans] == [
        "The library opens.",
        "Die Bibliothek auch!",
        "Oui.",
    ]
    assert detect_spans(FirstWord(), " \n ", threshold=0.25) == []  # type: ignore[arg-type]
