"""The result of language identification, and the protocol that `lid.Detector` implements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

UNDETERMINED = "und"
"""The label of text that is in none of the languages, or too uncertain to name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """The language of one text.

    Attributes:
        language: FLORES-200 code, the model's own label where the table has no such code, or `und`.
        probability: probability of the best label, in [0, 1], also where `language` is `und`.
        alternatives: further (label, probability) pairs, best first; where `language` is `und`
            they begin with the best label.
        macro_group: name of the group of easily confused languages that the label belongs to, if
            any.
        acceptance: score in [0, 1] that decides between the best label and `und`; it is low where
            the text does not look like the best label's language, however probable that label is
            among those that the model has.
    """

    language: str
    probability: float
    alternatives: tuple[tuple[str, float], ...] = ()
    macro_group: str | None = None
    acceptance: float = 1.0

    @property
    def accepted(self) -> bool:
        """Whether the best label is the answer."""
        return self.language != UNDETERMINED

    @property
    def best(self) -> str:
        """The best label, also where it was not accepted; `und` if the text has no letters."""
        if self.accepted or not self.alternatives:
            return self.language
        return self.alternatives[0][0]


class Detector(Protocol):
    """Anything that identifies the language of texts."""

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
