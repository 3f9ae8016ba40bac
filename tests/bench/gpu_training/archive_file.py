"""The archive that is carried to the GPU: tensors and settings in one compressed file."""

import hashlib
import io
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PAYLOAD = "payload.xz"
SCALE = ".scale"


def write_payload(folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """Write the file, and return its number of bytes."""
    data = compress(settings, tensors)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAYLOAD).write_bytes(data)
    return len(data)


def compress(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """Return the content of the file."""
    stream = io.BytesIO()
    text = torch.frombuffer(bytearray(json.dumps(settings).encode()), dtype=torch.uint8)
    torch.save({"settings": text, **tensors}, stream)
    return lzma.compress(stream.getvalue(), preset=6)


def read_payload(folder: Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Return the hash, the settings and the tensors of an archive."""
    data = (folder / PAYLOAD).read_bytes()
    tensors: dict[str, Tensor] = torch.load(io.BytesIO(lzma.decompress(data)), weights_only=True)
    settings = json.loads(bytes(tensors.pop("settings").tolist()))
    return hashlib.sha256(data).hexdigest()[:16], settings, tensors


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, without it."""
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def split_bytes(values: Tensor) -> Tensor:
    """Return integers below 2^24 as three rows of bytes, which compress better apart."""
    return torch.stack([(values >> shift & 255).to(torch.uint8) for shift in (0, 8, 16)])


def join_bytes(rows: Tensor) -> Tensor:
    """Return the integers of `split_bytes`."""
    low, middle, high = rows.long()
    return low | middle << 8 | high << 16
