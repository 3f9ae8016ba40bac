"""Turns any opened checkpoint into a Hugging Face directory.

After an interruption the same call goes on where it stopped; a call whose work is done does
nothing.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nllb.errors import CheckpointError
from nllb.io.paths import path_inside
from nllb.io.progress import Progress
from nllb.model.configuration import read_document
from nllb.model.formats.hugging_face import SETTINGS_VERSION, write_hugging_face
from nllb.model.formats.model_directory import ModelDirectory
from nllb.model.formats.settings import SETTINGS_FILE
from nllb.model.formats.weight_files import FLOAT_TYPES, MAX_SHARD_BYTES, StorageType, storage_bytes
from nllb.model.known_models import find_known_model

COMPANIONS = ("shortlists.safetensors", "LICENSE", "README.md")
"""Files that travel with a model when it is converted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """What a conversion does or did."""

    source: str
    """The model that was asked for."""
    output: Path
    """The directory that is written."""
    storage: StorageType
    """Type that the weights are stored as."""
    num_bytes: int
    """Bytes of the weights."""
    state: Literal["planned", "written", "already there"]
    """`already there`: an earlier call wrote the same."""


def convert(
    source: ModelDirectory,
    output: Path,
    *,
    storage: StorageType | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    dry_run: bool = False,
    quiet: bool = False,
) -> Conversion:
    """Write a checkpoint as a Hugging Face directory; `storage` None keeps the type it has.

    Raises:
        CheckpointError: the output is something else already, or the source is damaged.
        ResourceError: the disk has no room.
    """
    storage = storage or stored_type(source)
    tokenizer = source.tokenizer()
    work = _name_of_work(source, storage, max_shard_bytes)
    conversion = Conversion(
        source=source.name,
        output=output,
        storage=storage,
        num_bytes=storage_bytes(source.config, storage),
        state="planned",
    )
    if (output / SETTINGS_FILE).is_file():
        if read_document(output / SETTINGS_FILE).get("conversion") == work:
            return replace(conversion, state="already there")
        raise CheckpointError(
            f"{output} is a model already, and not this conversion of {source.name}: remove it or "
            f"name another place"
        )
    if dry_run:
        return conversion
    companions = companion_files(source)
    with Progress(
        f"convert to {storage}", total=conversion.num_bytes, unit="bytes", quiet=quiet
    ) as progress:
        write_hugging_face(
            output,
            source.config,
            source.weights,
            tokenizer,
            settings={**source.settings, **_provenance(source), "conversion": work},
            storage=storage,
            companions=companions,
            work=work,
            max_shard_bytes=max_shard_bytes,
            advance=progress.advance,
        )
    return replace(conversion, state="written")


def companion_files(source: ModelDirectory) -> list[Path]:
    """Return the files beside a model that travel with it.

    Raises:
        CheckpointError: one is a link to a file elsewhere, which would be copied.
    """
    if not source.path.is_dir():
        return []
    return [path_inside(source.path, name) for name in COMPANIONS if (source.path / name).is_file()]


def stored_type(source: ModelDirectory) -> StorageType:
    """Return the type that a model's matrices are stored as."""
    if source.weights.is_quantized:
        return "int8"
    by_type = {dtype: name for name, dtype in FLOAT_TYPES.items()}
    return by_type.get(source.weights.dtype("embedding.weight"), "float32")


def _provenance(source: ModelDirectory) -> dict[str, Any]:
    provenance: dict[str, Any] = {"source": {"name": source.name, "format": source.format}}
    known = find_known_model(source.name)
    if known is not None and "licence" not in source.settings:
        provenance["licence"] = known.licence
    return provenance


def _name_of_work(source: ModelDirectory, storage: StorageType, max_shard_bytes: int) -> str:
    files = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in source.weights.files()]
    document = [SETTINGS_VERSION, files, source.config.to_hugging_face(), storage, max_shard_bytes]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
