"""Describes models without loading them: size, memory, licence of the weights and location."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .configuration import ModelConfig
from .formats.model_directory import ModelDirectory
from .formats.open_model import open_model
from .formats.weight_files import StorageType, storage_bytes
from .formats.weight_names import num_parameters
from .hub import find_cached, is_complete
from .known_models import KnownModel, find_known_model, known_models
from .shipped import is_shipped, shipped_models

STORAGE_TYPES: tuple[StorageType, ...] = ("float32", "bfloat16", "float16", "int8")
State = Literal["ships", "here", "cached", "cached in part", "not downloaded"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One model as listed by `nllb models`.

    Attributes:
        name: hub name or path.
        summary: short description.
        config: configuration of the model.
        languages: number of language tokens; None if the tokenizer is not available.
        disk_bytes: size of the weight files, or of the float32 files that would be downloaded.
        licence: licence of the weights.
        state: whether the model ships with the package, is a local path, or is in the cache.
        path: location of its files; None if it is not downloaded.
    """

    name: str
    summary: str
    config: ModelConfig
    languages: int | None
    disk_bytes: int
    licence: str
    state: State
    path: Path | None

    @property
    def parameters(self) -> int:
        """Number of parameters; the shared embedding is counted once."""
        return num_parameters(self.config)

    def weight_bytes(self) -> dict[StorageType, int]:
        """Return the memory of the weights for each storage type."""
        return {storage: storage_bytes(self.config, storage) for storage in STORAGE_TYPES}


def list_known() -> list[Listing]:
    """Return the published checkpoints."""
    return [_list_known(model) for model in known_models()]


def list_shipped() -> list[Listing]:
    """Return the models that ship with the package."""
    return [_list_opened(open_model(name, offline=True)) for name in shipped_models()]


def list_model(name: str) -> Listing:
    """Return one model: a published or shipped one, a local directory, or a name in the cache.

    Nothing is downloaded.

    Raises:
        CheckpointError: the model is neither available locally nor one of the published models.
    """
    known = None if Path(name).exists() else find_known_model(name)
    if known is not None:
        return _list_known(known)
    return _list_opened(open_model(name, offline=True))


def _list_known(model: KnownModel) -> Listing:
    path = find_cached(model.name)
    if path is None:
        state: State = "not downloaded"
    else:
        state = "cached" if is_complete(path) else "cached in part"
    return Listing(
        name=model.name,
        summary=model.summary,
        disk_bytes=storage_bytes(model.config, "float32"),
        languages=202,
        licence=model.licence,
        state=state,
        path=path,
        config=model.config,
    )


def _list_opened(model: ModelDirectory) -> Listing:
    known = find_known_model(model.name)
    licence = model.settings.get("licence") or (known.licence if known else "not stated")
    if is_shipped(model.path):
        state: State = "ships"
    else:
        state = "here" if Path(model.name).exists() else "cached"
    return Listing(
        name=model.name,
        summary=str(model.settings.get("summary") or f"{model.format} format"),
        disk_bytes=model.num_bytes,
        languages=len(model.tokenizer().languages),
        licence=str(licence),
        state=state,
        path=model.path,
        config=model.config,
    )
