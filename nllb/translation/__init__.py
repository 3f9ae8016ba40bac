"""Translation: text in any layout to segments, segments through a model, and back to text."""

from nllb.inference.generator import Generator, Hypothesis, SearchOptions
from nllb.translation.glossary import Glossary, GlossaryEntry
from nllb.translation.quality import Flag, TrustRecord
from nllb.translation.results import Passage, Segment, Translation
from nllb.translation.retry import RetryBudget, SegmentError
from nllb.translation.translator import Translator

__all__ = [
    "Flag",
    "Generator",
    "Glossary",
    "GlossaryEntry",
    "Hypothesis",
    "Passage",
    "RetryBudget",
    "SearchOptions",
    "Segment",
    "SegmentError",
    "Translation",
    "Translator",
    "TrustRecord",
]
