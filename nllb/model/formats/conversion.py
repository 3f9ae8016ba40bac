"""Converts an opened checkpoint of any format to a Hugging Face directory.

After an interruption, the same call resumes the conversion; if the conversion is complete, the call
does nothing.
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
from nllb.model.known_models import find_known_model

from .hugging_face import SETTINGS_VERSION, write_hugging_face
from .model_directory import ModelDirectory
from .settings import SETTINGS_FILE
from .weight_files import FLOAT_TYPES, MAX_SHARD_BYTES, StorageType, storage_bytes

COMPANIONS = ("shortlists.safetensors", "LICENSE", "README.md")
"""Files that are copied with a model when it is converted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """A planned or completed conversion.

    Attributes:
        source: the name or path of the source model.
        output: the output directory.
        storage: dtype of the stored weights.
        num_bytes: size of the weights in bytes.
        state: `already there`: an earlier call completed the same conversion.
    """

    source: str
    output: Path
    storage: StorageType
    num_bytes: int
    state: Literal["planned", "written", "already there"]


def convert(
    source: ModelDirectory,
    output: Path,
    *,
    storage: StorageType | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    dry_run: bool = False,
    quiet: bool = False,
) -> Conversion:
    """Write a checkpoint as a Hugging Face directory; `storage` None keeps its storage type.

    Raises:
        CheckpointError: the output has other content, or the source is damaged.
        ResourceError: the disk has too little free space.
    """
    storage = storage or stored_type(source)
    tokenizer = source.tokenizer()
    work = _conversion_id(source, storage, max_shard_bytes)
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
            f"{output} already contains a model that is not this conversion of {source.name}: "
            f"remove it, or choose another output directory"
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
            generation=source.generation,
            storage=storage,
            companions=companions,
            work=work,
            max_shard_bytes=max_shard_bytes,
            advance=progress.advance,
        )
    return replace(conversion, state="written")


def companion_files(source: ModelDirectory) -> list[Path]:
    """Return the files of a model directory that are copied with the model.

    Raises:
        CheckpointError: a file is a link to a file outside the directory.
    """
    if not source.path.is_dir():
        return []
    return [path_inside(source.path, name) for name in COMPANIONS if (source.path / name).is_file()]


def stored_type(source: ModelDirectory) -> StorageType:
    """Return the storage type of a model's matrices."""
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


def _conversion_id(source: ModelDirectory, storage: StorageType, max_shard_bytes: int) -> str:
    files = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in source.weights.files()]
    document = [SETTINGS_VERSION, files, source.config.to_hugging_face(), storage, max_shard_bytes]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
