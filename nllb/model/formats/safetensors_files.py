"""Tensors in memory-mapped safetensors files, which are read on access.

The header is validated before the library maps the file: the dtypes, the shapes, and that the size
of each tensor matches its shape.
"""

from collections.abc import KeysView, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nllb.errors import CheckpointError, DataError
from nllb.io.pointers import refuse_pointer
from nllb.io.text import parse_json

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
MAX_HEADER_BYTES: Final = 64 << 20
"""Maximum size of a header; the largest NLLB model in one file would need 15 MB."""
_MAX_DIMENSIONS: Final = 8


class SafetensorsFile:
    """A safetensors file, whose length is validated against its header when it is opened.

    Raises:
        CheckpointError: the file is missing, truncated or not a safetensors file, or its header
            is invalid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata, self._header = _read_header(path)
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
        """Return a tensor, which shares the memory of the mapped file."""
        try:
            if self._opened is None:
                self._opened = safe_open(str(self.path), framework="pt")
            tensor: Tensor = self._opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self.path} is damaged: {error}; download or write it again"
            ) from error
        return tensor


def _read_header(path: Path) -> tuple[Mapping[str, str], dict[str, Any]]:
    refuse_pointer(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            raw = stream.read(length) if 2 <= length <= min(size - 8, MAX_HEADER_BYTES) else b""
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        header = parse_json(raw, path)
    except DataError:
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(
            f"{path} is not a safetensors file, or its header is truncated ({size:,} bytes); "
            f"download or write it again"
        )
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError(f"{path} is damaged: its metadata is not text; download it again")
    ends = [_check_entry(path, name, entry) for name, entry in header.items()]
    if size != (expected := 8 + length + max(ends, default=0)):
        raise CheckpointError(
            f"{path} is damaged or truncated: it has {size:,} bytes, but its header describes "
            f"{expected:,}; download or write it again"
        )
    if unknown := {entry["dtype"] for entry in header.values()} - set(SAFETENSORS_TYPES):
        raise CheckpointError(
            f"{path} contains tensors of type {', '.join(sorted(unknown))[:80]}, which are not "
            f"supported"
        )
    return metadata, header


def _check_entry(path: Path, name: str, entry: Any) -> int:
    """Validate a header entry; return the end offset of its tensor after the header."""
    values = entry if isinstance(entry, dict) else {}
    dtype: Any = values.get("dtype")
    shape: Any = values.get("shape")
    span: Any = values.get("data_offsets")
    is_entry = (
        isinstance(dtype, str)
        and _is_sizes(shape)
        and len(shape) <= _MAX_DIMENSIONS
        and _is_sizes(span)
        and len(span) == 2
    )
    if not is_entry:
        raise CheckpointError(
            f"{path} is not a safetensors file, or is damaged: its header has an invalid entry for "
            f"the tensor {name[:80]!r}; download or write it again"
        )
    num_bytes = span[1] - span[0]
    if dtype in SAFETENSORS_TYPES and prod(shape) * SAFETENSORS_TYPES[dtype].itemsize != num_bytes:
        raise CheckpointError(
            f"{path} is damaged: the tensor {name[:80]!r} of shape {shape} and type {dtype} has "
            f"{num_bytes:,} bytes; download or write it again"
        )
    return int(span[1])


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item < 1 << 62 for item in value
    )
