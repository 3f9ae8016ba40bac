"""Translation: text in any layout to segments, segments through a model, and back, nothing lost."""

from nllb.inference.generator import Generator, Hypothesis, SearchOptions
from nllb.translation.quality import Flag, TrustRecord
from nllb.translation.translator import Segment, Translation, Translator

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
