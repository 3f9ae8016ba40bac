"""The header of a safetensors file is believed only where the file agrees with it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nllb.errors import CheckpointError
from nllb.model.formats.safetensors_files import SafetensorsFile


def write(path: Path, header: Any, data: bytes = b"\0" * 8) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2], dtype=torch.int8)}
    save_file(tensors, tmp_path / "a", metadata={"card": "x"})
    file = SafetensorsFile(tmp_path / "a")
    assert file.metadata == {"card": "x"} and set(file.names()) == {"a", "b"}
    assert (file.shape("a"), file.dtype("b")) == ((2, 3), torch.int8)
    assert torch.equal(file.read("a"), tensors["a"])


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([1], "not a safetensors file"),
        (b"[" * 100_000, "not a safetensors file"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not a safetensors file"),
        ({"a": 3}, "invalid entry for the tensor 'a'"),
        ({"a": GOOD | {"shape": [1 << 40, 1 << 40]}}, "has 8 bytes"),
        ({"a": GOOD | {"shape": [-2, -1]}}, "invalid entry"),
        ({"a": GOOD | {"shape": [2.0]}}, "invalid entry"),
        ({"a": GOOD | {"shape": [1] * 40}}, "invalid entry"),
        ({"a": GOOD | {"data_offsets": [8, 0]}}, "has -8 bytes"),
        ({"a": GOOD | {"data_offsets": [0, 1 << 80]}}, "invalid entry"),
        ({"a": GOOD | {"data_offsets": [0, 80]}}, "has 80 bytes"),
        ({"a": GOOD | {"dtype": ["F32"]}}, "invalid entry"),
        ({"a": GOOD | {"dtype": "F8_E4M3"}}, "type F8_E4M3, which are not supported"),
        ({"a": GOOD, "__metadata__": [1]}, "metadata"),
        ({"a": GOOD, "__metadata__": {"card": {}}}, "metadata"),
    ],
)
def test_invalid_headers(tmp_path: Path, header: Any, message: str) -> None:
    path = write(tmp_path / "a", header)
    with pytest.raises(CheckpointError, match=message) as error:
        SafetensorsFile(path)
    assert str(path) in str(error.value)


def test_tensors_that_overlap_are_refused_when_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {"a": GOOD, "b": GOOD})
    with pytest.raises(CheckpointError, match="damaged"):
        SafetensorsFile(path).read("a")


@pytest.mark.parametrize("length", [0, 1, 9, 1 << 20, (1 << 64) - 1])
def test_a_length_that_the_file_does_not_have(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="its header is truncated"):
        SafetensorsFile(path)


def test_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 123\n")
    with pytest.raises(CheckpointError, match=r"git-lfs pointer.*git lfs pull"):
        SafetensorsFile(path)
