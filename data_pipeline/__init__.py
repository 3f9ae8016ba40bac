"""The data pipeline: raw corpora become clean training shards.

The names below are loaded when they are first used, so that reading a configuration stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipeline.data_config import DataConfig
    from data_pipeline.pipeline import STAGES, run_stage
    from data_pipeline.run import Run
    from data_pipeline.stages import Machine

_HOMES = {
    "DataConfig": "data_pipeline.data_config",
    "Machine": "data_pipeline.stages",
    "Run": "data_pipeline.run",
    "STAGES": "data_pipeline.pipeline",
    "run_stage": "data_pipeline.pipeline",
}

__all__ = ["STAGES", "DataConfig", "Machine", "Run", "run_stage"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'data_pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
