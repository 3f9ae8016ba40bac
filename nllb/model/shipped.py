"""Finds the models that ship with the package by their short names."""

from pathlib import Path

from nllb.errors import CheckpointError

from .formats.hugging_face import is_hugging_face
from .shipped_encoder import SHIPPED_ENCODER

SHIPPED_DIR = Path(__file__).parent.parent / "_models"
DEFAULT_MODEL = "mini"
"""The model that is used if no other model is named or cached."""


def is_shipped(path: Path) -> bool:
    """Return whether a model directory is one that ships with this installation."""
    return path.parent == SHIPPED_DIR


def shipped_models() -> list[str]:
    """Return the names of the translation models that ship with this installation."""
    paths = (path for path in SHIPPED_DIR.glob("*") if path != SHIPPED_ENCODER)
    return sorted(path.name for path in paths if is_hugging_face(path))


def find_shipped(name: str) -> Path | None:
    """Return the directory of a shipped model by its name, with or without the prefix `nllb-`.

    Raises:
        CheckpointError: The name is that of the default model, which this installation lacks.
    """
    short = name.removeprefix("nllb-")
    if short in shipped_models():
        return SHIPPED_DIR / short
    if short == DEFAULT_MODEL:
        raise CheckpointError(
            f"the model {name!r} ships with nllb, but this installation does not include it: "
            f"{SHIPPED_DIR / short} is missing; reinstall the complete package, or choose another "
            f"model (run 'nllb models')"
        )
    return None
