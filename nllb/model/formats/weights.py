"""The tensors of a model in memory-mapped files, of whatever format, read when they are asked for.

A tensor from a memory-mapped file takes no memory of its own until it is read, and what was read of
it can be dropped again by the system: so the experts of a large model can stay on disk.
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
from nllb.model.formats.quantized_storage import dequantize_rows, is_quantizable
from nllb.model.formats.weight_checks import check_finite
from nllb.model.formats.weight_names import Weight, list_weights

SCALE = ".scale"
"""A weight stored as int8 has its scales under its own name and this ending."""
_MAX_MISSING = 1000
"""Missing tensors after which no more are looked for: a configuration may tell of a billion."""


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
        CheckpointError: weights are missing, or have another shape than the configuration says or
            another type than a model can be stored in.
    """
    places: dict[str, Place] = {}
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
        scale = Place(file=place.file, name=place.name + SCALE)
        has_scale = scale.name in place.file.names()
        if has_scale:
            places[weight.name + SCALE] = scale
        unusable += _unusable(weight, place, scale if has_scale else None)
    if missing:
        count = f"more than {_MAX_MISSING:,}" if len(missing) > _MAX_MISSING else f"{len(missing)}"
        raise CheckpointError(
            f"{where} lacks {count} of the model's tensors, among them "
            f"{', '.join(missing[:3])}; it is incomplete, or its configuration is of another model"
        )
    if unusable:
        raise CheckpointError(
            f"{where} and its configuration do not belong together: {'; '.join(unusable[:3])}"
            + (f" and {len(unusable) - 3} more" if len(unusable) > 3 else "")
        )
    return Weights(places)


def _unusable(weight: Weight, place: Place, scale: Place | None) -> Iterator[str]:
    """Yield what keeps a stored tensor from being the weight."""
    shape, dtype = place.file.shape(place.name), place.file.dtype(place.name)
    if shape != weight.shape:
        yield f"{weight.name} is {_by(shape)} and should be {_by(weight.shape)}"
    elif dtype.is_floating_point and scale is None:
        return
    elif dtype != torch.int8:
        yield f"{weight.name} is stored as {dtype}" + (" and has scales" if scale else "")
    elif scale is None or not is_quantizable(weight.name, weight.shape):
        yield (
            f"{weight.name} is stored as int8 without the scales that it needs ({place.name}"
            f"{SCALE}, one float32 for each row); use the original checkpoint, and "
            "'nllb convert --dtype int8'"
        )
    else:
        scale_shape, scale_dtype = scale.file.shape(scale.name), scale.file.dtype(scale.name)
        if scale_shape != shape[:1] or scale_dtype != torch.float32:
            yield (
                f"{scale.name} is {_by(scale_shape)} of {scale_dtype} and should be {shape[0]} "
                "of torch.float32"
            )


def without_prefix(names: Iterable[str]) -> dict[str, str]:
    """Return name -> stored name, without what DistributedDataParallel and torch.compile prefix."""
    found = {name: name for name in names}
    for prefix in ("module.", "_orig_mod.") * 2:
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): stored for name, stored in found.items()}
    return found


def read_weight(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Read one weight; one stored as int8 comes back as float32.

    Raises:
        CheckpointError: it has values that are not finite.
    """
    if name + SCALE in weights:
        return dequantize_rows(weights[name], check_finite(weights[name + SCALE], name + SCALE))
    return check_finite(weights[name], name)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
