"""Translate between 200 languages on your own machine.

    >>> from nllb import Translator
    >>> translator = Translator.load()
    >>> translation = translator.translate("Good morning.", source="en", target="fr")
    >>> translation.text, translation.confidence

The names below are loaded when they are first used, so that `import nllb` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lid.detector import Detector

    from .documents import translate_document
    from .errors import (
        CheckpointError,
        ConfigError,
        DataError,
        LanguageError,
        NllbError,
        ResourceError,
    )
    from .inference.generator import SearchOptions
    from .languages import Language, parse_language
    from .languages.detection import Detection
    from .translation.quality import Flag, TrustRecord
    from .translation.results import Passage, Segment, Translation
    from .translation.retry import SegmentError
    from .translation.translator import Translator

__version__ = "0.1.0"

_MODULES = {
    "CheckpointError": "nllb.errors",
    "ConfigError": "nllb.errors",
    "DataError": "nllb.errors",
    "Detection": "nllb.languages.detection",
    "Detector": "lid.detector",
    "Flag": "nllb.translation.quality",
    "Language": "nllb.languages",
    "LanguageError": "nllb.errors",
    "NllbError": "nllb.errors",
    "ResourceError": "nllb.errors",
    "SearchOptions": "nllb.inference.generator",
    "Passage": "nllb.translation.results",
    "Segment": "nllb.translation.results",
    "SegmentError": "nllb.translation.retry",
    "Translation": "nllb.translation.results",
    "Translator": "nllb.translation.translator",
    "TrustRecord": "nllb.translation.quality",
    "parse_language": "nllb.languages",
    "translate_document": "nllb.documents",
}

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "Detection",
    "Detector",
    "Flag",
    "Language",
    "LanguageError",
    "NllbError",
    "Passage",
    "ResourceError",
    "SearchOptions",
    "Segment",
    "SegmentError",
    "Translation",
    "Translator",
    "TrustRecord",
    "__version__",
    "parse_language",
    "translate_document",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'nllb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
