"""Translation of text in any layout: segmentation, model calls, quality estimates, reassembly."""

from nllb.inference.generator import Generator, Hypothesis, SearchOptions

from .glossary import Glossary, GlossaryEntry
from .quality import Flag, TrustRecord
from .results import Passage, Segment, Translation
from .retry import RetryBudget, SegmentError
from .translator import Translator

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
