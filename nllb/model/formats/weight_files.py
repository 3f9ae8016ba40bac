"""Writes a model's weights as safetensors shards, with one tensor in memory at a time.

This module writes the files itself because the safetensors library would need a whole shard in
memory. Shards are written atomically, and an existing shard of the expected size is not written
again, so that writing can be resumed.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Literal

import torch
from torch import Tensor

from nllb.io.atomic import atomic_binary
from nllb.io.text import write_json
from nllb.model.configuration import ModelConfig

from .quantized_storage import is_quantizable, quantize_rows, row_scales
from .safetensors_files import SAFETENSORS_TYPES
from .weight_checks import check_finite
from .weight_names import Weight, list_weights
from .weights import SCALE, read_weight

StorageType = Literal["float32", "float16", "bfloat16", "int8"]
MAX_SHARD_BYTES = 5_000_000_000
FLOAT_TYPES: dict[StorageType, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_TYPE_NAMES = {dtype: name for name, dtype in SAFETENSORS_TYPES.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """One tensor to be stored in a file.

    Attributes:
        name: name of the tensor in the file.
        weight: the weight that is stored, or to which the stored scales belong.
        shape: shape of the tensor.
        dtype: dtype of the tensor.
    """

    name: str
    weight: Weight
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Size in the file in bytes."""
        return prod(self.shape) * self.dtype.itemsize


def plan_tensors(config: ModelConfig, storage: StorageType) -> list[StoredTensor]:
    """Return the tensors of a stored model with their Hugging Face names."""
    tensors = []
    for weight in list_weights(config):
        name = weight.name_in(config.architecture)
        dtype = FLOAT_TYPES.get(storage, torch.float32)
        if storage == "int8" and is_quantizable(weight.name, weight.shape):
            rows = weight.shape[:1]
            tensors.append(
                StoredTensor(name=name + SCALE, weight=weight, shape=rows, dtype=torch.float32)
            )
            dtype = torch.int8
        tensors.append(StoredTensor(name=name, weight=weight, shape=weight.shape, dtype=dtype))
    return tensors


def storage_bytes(config: ModelConfig, storage: StorageType) -> int:
    """Return the size of the weights in bytes, in a file or in memory."""
    return sum(tensor.num_bytes for tensor in plan_tensors(config, storage))


def write_weights(
    folder: Path,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    *,
    storage: StorageType,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    advance: Callable[[int], None] = lambda num_bytes: None,
) -> None:
    """Write the weights, with an index if there is more than one file.

    The keys of `weights` are this package's names, as in `ModelDirectory.weights` and
    `Transformer.state_dict()`. `advance` is called with the number of bytes written.
    """
    stem = "int8" if storage == "int8" else "model"
    shards = list(_cut(plan_tensors(config, storage), max_shard_bytes))
    files: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        part = f"-{number:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        path = folder / f"{stem}{part}.safetensors"
        _write_shard(path, shard, weights, advance)
        files |= dict.fromkeys((tensor.name for tensor in shard), path.name)
    if len(shards) > 1:
        total = sum(tensor.num_bytes for shard in shards for tensor in shard)
        write_json(
            folder / f"{stem}.safetensors.index.json",
            {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))},
        )


def _cut(tensors: list[StoredTensor], max_bytes: int) -> Iterator[list[StoredTensor]]:
    shard: list[StoredTensor] = []
    for tensor in tensors:
        if shard and sum(other.num_bytes for other in shard) + tensor.num_bytes > max_bytes:
            yield shard
            shard = []
        shard.append(tensor)
    yield shard


def _write_shard(
    path: Path,
    shard: list[StoredTensor],
    weights: Mapping[str, Tensor],
    advance: Callable[[int], None],
) -> None:
    ordered = sorted(shard, key=lambda tensor: -tensor.dtype.itemsize)  # keeps tensors aligned
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for tensor in ordered:
        header[tensor.name] = {
            "dtype": _TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, start + tensor.num_bytes],
        }
        start += tensor.num_bytes
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    if path.is_file() and path.stat().st_size == 8 + len(raw) + start:
        advance(start)
        return
    with atomic_binary(path) as stream:
        stream.write(len(raw).to_bytes(8, "little") + raw)
        for tensor in ordered:
            _write_tensor(stream, tensor, weights)
            advance(tensor.num_bytes)


def _write_tensor(stream: BinaryIO, tensor: StoredTensor, weights: Mapping[str, Tensor]) -> None:
    name = tensor.weight.name
    is_scale = tensor.name.endswith(SCALE)
    if name + SCALE in weights and (is_scale or tensor.dtype == torch.int8):
        value = weights[name + SCALE] if is_scale else weights[name]
    elif is_scale:
        value = check_finite(row_scales(weights[name]), name)
    elif tensor.dtype == torch.int8:
        value = quantize_rows(weights[name])[0]
    else:
        value = read_weight(weights, name).to(tensor.dtype)
    data: Tensor = value.detach().cpu().contiguous()
    stream.write(data.view(-1).view(torch.uint8).numpy().data)
