"""Translation: text in any layout to segments, segments through a model, and back, nothing lost."""

from nllb.translation.generation import Generator, Hypothesis, SearchOptions
from nllb.translation.translator import Segment, Translation, Translator
from nllb.translation.trust import Flag, TrustRecord

__all__ = [
    "Flag",
    "Generator",
    "Hypothesis",
    "SearchOptions",
    "Segment",
    "Translation",
    "Translator",
    "TrustRecord",
]
