"""What is known of a model before it is used: size, memory, licence of the weights, where it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nllb.model.configuration import ModelConfig
from nllb.model.formats.model_directory import ModelDirectory
from nllb.model.formats.open_model import open_model
from nllb.model.formats.weight_files import StorageType, storage_bytes
from nllb.model.formats.weight_names import num_parameters
from nllb.model.hub import find_cached, is_complete
from nllb.model.known_models import KnownModel, find_known_model, known_models
from nllb.model.shipped import SHIPPED_DIR, shipped_models

STORAGE_TYPES: tuple[StorageType, ...] = ("float32", "bfloat16", "float16", "int8")
State = Literal["ships", "here", "cached", "cached in part", "not downloaded"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One model as `nllb models` shows it."""

    name: str
    """Hub name or path."""
    summary: str
    """What it is, in a few words."""
    config: ModelConfig
    """Its shape."""
    languages: int | None
    """Language tokens, where a tokenizer is at hand."""
    disk_bytes: int
    """Size of the weights: in their files, or of the float32 files that would be downloaded."""
    licence: str
    """Licence of the weights."""
    state: State
    """Where it is."""
    path: Path | None
    """Where its files are, if they are."""

    @property
    def parameters(self) -> int:
        """Parameters, the shared embedding counted once."""
        return num_parameters(self.config)

    def weight_bytes(self) -> dict[StorageType, int]:
        """Return the memory that the weights take, by type."""
        return {storage: storage_bytes(self.config, storage) for storage in STORAGE_TYPES}


def list_known() -> list[Listing]:
    """Return the published checkpoints."""
    return [_list_known(model) for model in known_models()]


def list_shipped() -> list[Listing]:
    """Return the models that ship with the package."""
    return [_list_opened(open_model(name, offline=True)) for name in shipped_models()]


def list_model(name: str) -> Listing:
    """Return one model: published, shipped, a local directory, or a name in the cache.

    Nothing is downloaded.

    Raises:
        CheckpointError: there is no such model here, and it is not one of the published ones.
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
    if model.path.parent == SHIPPED_DIR:
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
