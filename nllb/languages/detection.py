"""The result of language identification, and the protocol that `lid.Detector` implements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

UNDETERMINED = "und"
"""The label of text that is in none of the languages, or whose language is uncertain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """The language of one text.

    Attributes:
        language: FLORES-200 code, or the model's label if it has no such code, or `und`.
        probability: probability of the best label, in [0, 1], even if `language` is `und`.
        alternatives: further (label, probability) pairs, best first; if `language` is `und`, they
            begin with the best label.
        macro_group: name of the group of easily confused languages that the label belongs to, if
            any.
        acceptance: score in [0, 1] that decides between the best label and `und`. It is low if the
            text is unlike the best label's language, even if no other label of the model is more
            probable.
    """

    language: str
    probability: float
    alternatives: tuple[tuple[str, float], ...] = ()
    macro_group: str | None = None
    acceptance: float = 1.0

    @property
    def accepted(self) -> bool:
        """Whether the best label was accepted."""
        return self.language != UNDETERMINED

    @property
    def best(self) -> str:
        """The best label, even if it was not accepted; `und` if the text has no letters."""
        if self.accepted or not self.alternatives:
            return self.language
        return self.alternatives[0][0]


class Detector(Protocol):
    """An object that identifies the language of texts."""

    def detect(self, text: str) -> Detection:
        """Detect the language of one text."""
        ...

    def detect_batch(self, texts: Sequence[str], *, top: int = 1) -> list[Detection]:
        """Detect the language of each text, in order.

        Args:
            texts: the texts.
            top: number of labels to return: the answer and up to `top - 1` alternatives.
        """
        ...
