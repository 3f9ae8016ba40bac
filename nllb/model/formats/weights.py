"""The tensors of a model in memory-mapped files of any format, which are read on access.

A tensor in a memory-mapped file uses no memory until it is read, and the operating system can drop
its pages again. The experts of a large model can therefore stay on disk.
"""

import os
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from nllb.errors import CheckpointError
from nllb.model.configuration import ModelConfig

from .quantized_storage import dequantize_rows, is_quantizable
from .weight_checks import check_finite
from .weight_names import Weight, list_weights

SCALE = ".scale"
"""Suffix of the scales' name for a weight that is stored as int8."""
_MAX_MISSING = 1000
"""Maximum number of missing tensors to collect: a configuration may describe a billion tensors."""


class TensorFile(Protocol):
    """A file of named tensors.

    Attributes:
        path: the path of the file.
    """

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
        """Return a tensor, which shares the memory of the mapped file."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorLocation:
    """The location of a tensor.

    Attributes:
        file: the file that contains the tensor.
        name: the name of the tensor in the file.
    """

    file: TensorFile
    name: str


class Weights(Mapping[str, Tensor]):
    """The tensors of a model by this package's names; each is read on access and not cached."""

    def __init__(self, places: Mapping[str, TensorLocation]) -> None:
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
        """Return the size of a tensor in bytes."""
        return prod(self.shape(name)) * self.dtype(name).itemsize

    def file(self, name: str) -> Path:
        """Return the file that contains a tensor."""
        return self._places[name].file.path

    def stored_name(self, name: str) -> str:
        """Return a tensor's name in its file."""
        return self._places[name].name

    def files(self) -> list[tuple[Path, os.stat_result]]:
        """Return the files that contain the tensors, each with its size and times."""
        paths = sorted({place.file.path for place in self._places.values()})
        return [(path, path.stat()) for path in paths]

    @property
    def is_quantized(self) -> bool:
        """Whether matrices are stored as int8 with one scale per row."""
        return any(name.endswith(SCALE) for name in self._places)


def gather_weights(
    config: ModelConfig, find: Callable[[Weight], TensorLocation | None], *, where: Path
) -> Weights:
    """Collect all weights of a model and their scales, if any; `find` locates a weight.

    Raises:
        CheckpointError: weights are missing, do not have the shape of the configuration, or have
            an unsupported storage type.
    """
    places: dict[str, TensorLocation] = {}
    missing: list[str] = []
    unusable: list[str] = []
    for weight in list_weights(config):
        place = find(weight)
        if place is None:
            missing.append(weight.name)
            if len(missing) > _MAX_MISSING:
                break
            continue
        places[weight.name] = place
        scale = TensorLocation(file=place.file, name=place.name + SCALE)
        has_scale = scale.name in place.file.names()
        if has_scale:
            places[weight.name + SCALE] = scale
        unusable += _unusable(weight, place, scale if has_scale else None)
    if missing:
        count = f"more than {_MAX_MISSING:,}" if len(missing) > _MAX_MISSING else f"{len(missing)}"
        raise CheckpointError(
            f"{where} lacks {count} of the model's tensors, including {', '.join(missing[:3])}; "
            f"the checkpoint is incomplete, or its configuration belongs to another model"
        )
    if unusable:
        raise CheckpointError(
            f"{where} does not match its configuration: {'; '.join(unusable[:3])}"
            + (f" and {len(unusable) - 3} more" if len(unusable) > 3 else "")
        )
    return Weights(places)


def _unusable(weight: Weight, place: TensorLocation, scale: TensorLocation | None) -> Iterator[str]:
    """Yield the reasons why a stored tensor cannot be used as the weight."""
    shape, dtype = place.file.shape(place.name), place.file.dtype(place.name)
    if shape != weight.shape:
        yield f"{weight.name} is {_by(shape)}, but must be {_by(weight.shape)}"
    elif dtype.is_floating_point and scale is None:
        return
    elif dtype != torch.int8:
        yield f"{weight.name} is stored as {dtype}" + (" and has scales" if scale else "")
    elif scale is None or not is_quantizable(weight.name, weight.shape):
        yield (
            f"{weight.name} is stored as int8 without the scales that it needs ({place.name}"
            f"{SCALE}, one float32 per row); convert the original checkpoint with "
            "'nllb convert --dtype int8'"
        )
    else:
        scale_shape, scale_dtype = scale.file.shape(scale.name), scale.file.dtype(scale.name)
        if scale_shape != shape[:1] or scale_dtype != torch.float32:
            yield (
                f"{scale.name} is {_by(scale_shape)} of {scale_dtype}, but must be {shape[0]} "
                "of torch.float32"
            )


def without_prefix(names: Iterable[str]) -> dict[str, str]:
    """Return name -> stored name without DistributedDataParallel and torch.compile prefixes."""
    found = {name: name for name in names}
    for prefix in ("module.", "_orig_mod.") * 2:
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): stored for name, stored in found.items()}
    return found


def read_weight(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Read one weight; a weight that is stored as int8 is returned as float32.

    Raises:
        CheckpointError: a value is not finite.
    """
    if name + SCALE in weights:
        return dequantize_rows(weights[name], check_finite(weights[name + SCALE], name + SCALE))
    return check_finite(weights[name], name)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
