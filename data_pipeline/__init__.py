"""The data pipeline, which turns raw corpora into clean training shards.

The exported names are loaded on first use, so that reading a configuration imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data_config import DataConfig
    from .pipeline import STAGES, run_stage
    from .run import Run
    from .stages import Machine

_MODULES = {
    "DataConfig": "data_pipeline.data_config",
    "Machine": "data_pipeline.stages",
    "Run": "data_pipeline.run",
    "STAGES": "data_pipeline.pipeline",
    "run_stage": "data_pipeline.pipeline",
}

__all__ = ["STAGES", "DataConfig", "Machine", "Run", "run_stage"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'data_pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
