"""Language identification for 200 languages: train, predict, calibrate, evaluate.

The names below are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lid.detector import Detector
    from nllb.languages.detection import Detection

_HOMES = {"Detection": "nllb.languages.detection", "Detector": "lid.detector"}

__all__ = ["Detection", "Detector"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
