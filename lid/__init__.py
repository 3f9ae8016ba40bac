"""Language identification for 200 languages: prediction, training, calibration and evaluation.

The exported names are imported lazily, on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nllb.languages.detection import Detection

    from .detector import Detector

_MODULE_OF_NAME = {"Detection": "nllb.languages.detection", "Detector": "lid.detector"}

__all__ = ["Detection", "Detector"]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF_NAME:
        return getattr(import_module(_MODULE_OF_NAME[name]), name)
    raise AttributeError(f"module 'lid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
