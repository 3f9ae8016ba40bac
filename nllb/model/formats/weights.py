"""Tensors in memory-mapped files (safetensors and torch's own), read when they are asked for.

A tensor from a memory-mapped file takes no memory of its own until it is read, and what was read of
it can be dropped again by the system: so the experts of a large model can stay on disk.
"""

import json
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nllb.errors import CheckpointError
from nllb.model.configuration import ModelConfig
from nllb.model.formats.quantized_storage import dequantize_rows
from nllb.model.formats.weight_checks import check_finite, storage_error
from nllb.model.formats.weight_names import Weight, list_weights

SCALE = ".scale"
"""A weight stored as int8 has its scales under its own name and this ending."""

SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class TensorFile(Protocol):
    """A file of named tensors."""

    path: Path

    def names(self) -> KeysView[str]:
        """Return the names of its tensors."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        ...

    def dtype(self, name: str) -> torch.dtype:
        """Return a tensor's type without reading it."""
        ...

    def read(self, name: str) -> Tensor:
        """Return a tensor; its memory is the mapped file's."""
        ...


class SafetensorsFile:
    """One safetensors file. Its length is checked against its header at once.

    Raises:
        CheckpointError: it is cut short or not a safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header = _read_safetensors_header(path)
        self._opened: Any = None

    def names(self) -> KeysView[str]:
        """Return the names of its tensors."""
        return self._header.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return tuple(self._header[name]["shape"])

    def dtype(self, name: str) -> torch.dtype:
        """Return a tensor's type without reading it."""
        return SAFETENSORS_TYPES[self._header[name]["dtype"]]

    def read(self, name: str) -> Tensor:
        """Return a tensor; its memory is the mapped file's."""
        try:
            if self._opened is None:
                self._opened = safe_open(str(self.path), framework="pt")
            tensor: Tensor = self._opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self.path} is damaged: {error}; fetch or write it again"
            ) from error
        return tensor


def _read_safetensors_header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            raw = stream.read(length) if 2 <= length <= 100_000_000 else b""
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        header: dict[str, Any] = json.loads(raw)
        header.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in header.values()]
        unknown = {entry["dtype"] for entry in header.values()} - set(SAFETENSORS_TYPES)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{path} is no safetensors file, or is cut short in its header ({size:,} bytes); "
            f"fetch or write it again"
        ) from None
    if size != (expected := 8 + length + max(ends, default=0)):
        raise CheckpointError(
            f"{path} is damaged: it has {size:,} bytes and its header tells of {expected:,}; "
            f"fetch or write it again"
        )
    if unknown:
        raise CheckpointError(
            f"{path} holds tensors of type {', '.join(sorted(unknown))}, which are not read"
        )
    return header


class TorchFile:
    """One file of `torch.save`, opened without running code from it, memory-mapped.

    `select` takes the dictionary of tensors out of what was saved; `safe_classes` may occur beside
    the tensors, a pair being the class to take and the name that it is saved under.

    Raises:
        CheckpointError: it is damaged, in the format before torch 1.6, or needs code to be run.
    """

    def __init__(
        self,
        path: Path,
        select: Callable[[Any], Mapping[str, Any]] = lambda saved: saved,
        *,
        safe_classes: Iterable[type | tuple[type, str]] = (),
    ) -> None:
        self.path = path
        try:
            with torch.serialization.safe_globals(list(safe_classes)):
                self.content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except pickle.UnpicklingError as error:
            reason = str(error).splitlines()[0].strip()
            raise CheckpointError(
                f"{path} cannot be opened without running code from it, which is refused, or is no "
                f"torch file: {reason}; convert it to safetensors where it was made"
            ) from error
        except (RuntimeError, ValueError, OSError, EOFError, KeyError) as error:
            reason = str(error).splitlines()[0].strip()
            raise CheckpointError(
                f"{path} is damaged or no torch file: {reason}; fetch it again"
            ) from error
        tensors = select(self.content)
        if not isinstance(tensors, Mapping):
            raise CheckpointError(f"{path} holds a {type(tensors).__name__}, not tensors by name")
        self._tensors = {
            name: value for name, value in tensors.items() if isinstance(value, Tensor)
        }

    def names(self) -> KeysView[str]:
        """Return the names of its tensors."""
        return self._tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        """Return a tensor's type without reading it."""
        return self._tensors[name].dtype

    def read(self, name: str) -> Tensor:
        """Return a tensor; its memory is the mapped file's."""
        return self._tensors[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a tensor lies."""

    file: TensorFile
    """The file that holds it."""
    name: str
    """Its name in there."""


class Weights(Mapping[str, Tensor]):
    """The tensors of one model by our own names, each read when it is asked for and not kept."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        return place.file.read(place.name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        place = self._places[name]
        return place.file.shape(place.name)

    def dtype(self, name: str) -> torch.dtype:
        """Return a tensor's type without reading it."""
        place = self._places[name]
        return place.file.dtype(place.name)

    def num_bytes(self, name: str) -> int:
        """Return the bytes that a tensor takes."""
        return prod(self.shape(name)) * self.dtype(name).itemsize

    def file(self, name: str) -> Path:
        """Return the file that a tensor lies in."""
        return self._places[name].file.path

    def stored_name(self, name: str) -> str:
        """Return a tensor's name in its file."""
        return self._places[name].name

    def files(self) -> list[tuple[Path, os.stat_result]]:
        """Return the files that hold the tensors, each with its size and times."""
        paths = sorted({place.file.path for place in self._places.values()})
        return [(path, path.stat()) for path in paths]

    @property
    def is_quantized(self) -> bool:
        """Whether matrices are stored as int8 with a scale a row."""
        return any(name.endswith(SCALE) for name in self._places)


def gather_weights(
    config: ModelConfig, find: Callable[[Weight], Place | None], *, where: Path
) -> Weights:
    """Collect every weight of a model and its scales, if any; `find` says where a weight lies.

    Raises:
        CheckpointError: weights are missing, have another shape than the configuration says, or are
            stored in a type that is not read.
    """
    places: dict[str, Place] = {}
    missing, misshapen = [], []
    for weight in list_weights(config):
        place = find(weight)
        if place is None:
            missing.append(weight.name)
            continue
        places[weight.name] = place
        if (shape := place.file.shape(place.name)) != weight.shape:
            misshapen.append(f"{weight.name} is {_by(shape)} and should be {_by(weight.shape)}")
        scale = place.name + SCALE
        scaled = scale in place.file.names()
        if scaled:
            places[weight.name + SCALE] = Place(file=place.file, name=scale)
        of_scale = (place.file.shape(scale), place.file.dtype(scale)) if scaled else None
        if error := storage_error(weight.shape, place.file.dtype(place.name), of_scale):
            misshapen.append(f"{weight.name} {error}")
    if missing:
        raise CheckpointError(
            f"{where} lacks {len(missing)} of the model's tensors, among them "
            f"{', '.join(missing[:3])}; it is incomplete, or its configuration is of another model"
        )
    if misshapen:
        raise CheckpointError(
            f"{where} and its configuration do not belong together: {'; '.join(misshapen[:3])}"
            + (f" and {len(misshapen) - 3} more" if len(misshapen) > 3 else "")
        )
    return Weights(places)


def read_weight(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Read one weight; one stored as int8 comes back as float32.

    Raises:
        CheckpointError: it has values that are not finite.
    """
    if name + SCALE in weights:
        return dequantize_rows(weights[name], check_finite(weights[name + SCALE], name + SCALE))
    return check_finite(weights[name], name)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
