"""What a language detector answers, and the protocol that `lid.Detector` implements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

UNDETERMINED = "und"
"""The label of text that is in no language of the table, or too uncertain to name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """The language of one text."""

    language: str
    """FLORES-200 code, the model's own label where the table has no such code, or `und`."""
    probability: float
    """Probability of the best label, in [0, 1], also where `language` is `und`."""
    alternatives: tuple[tuple[str, float], ...] = ()
    """Further (label, probability) pairs, best first; it begins with the best label for `und`."""
    macro_group: str | None = None
    """Name of the group of easily confused languages that the label belongs to, if any."""


class Detector(Protocol):
    """Anything that names the language of texts."""

    def detect(self, text: str) -> Detection:
        """Detect the language of one text."""
        ...

    def detect_batch(self, texts: Sequence[str], *, top: int = 1) -> list[Detection]:
        """Detect the language of each text; the answers are in the order of the texts.

        `top` is how many labels are named: the answer and up to `top - 1` alternatives.
        """
        ...
