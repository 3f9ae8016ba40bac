"""Translate between 200 languages on your own machine.

The names below are loaded when they are first used, so that `import nllb` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nllb.errors import NllbError
    from nllb.languages import Language, parse_language
    from nllb.translation.quality import TrustRecord
    from nllb.translation.translator import Translation, Translator

__version__ = "0.1.0"

_HOMES = {
    "Language": "nllb.languages",
    "NllbError": "nllb.errors",
    "Translation": "nllb.translation.translator",
    "Translator": "nllb.translation.translator",
    "TrustRecord": "nllb.translation.quality",
    "parse_language": "nllb.languages",
}

__all__ = [
    "Language",
    "NllbError",
    "Translation",
    "Translator",
    "TrustRecord",
    "__version__",
    "parse_language",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nllb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
