"""Files of `torch.save` are read without running code, and never beyond their size."""

import argparse
import io
import os
import pickle
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from nllb.errors import CheckpointError
from nllb.model.formats.torch_files import TorchFile, load_torch_file, record_fields


class Trap:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def archive(path: Path, program: bytes, *, kind: int = zipfile.ZIP_STORED, root: str = "a") -> Path:
    """Write a torch file with a pickle of our own."""
    with zipfile.ZipFile(path, "w", kind) as target:
        target.writestr(f"{root}/data.pkl", program)
        target.writestr(f"{root}/version", "3\n")
    return path


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_torch_file(path)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_was_saved_comes_back(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    saved = {
        "tensors": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2]).half()},
        "values": [1, "x", None, 2.5, True, {3}, b"", (1, 2)],
        "counts": defaultdict(list, {"a": [1]}),
        "parameter": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
    }
    del saved["values"][6]  # torch's weights_only needs a codec for bytes
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    found = load_torch_file(path, check_sums=True)
    assert torch.equal(found["tensors"]["a"], saved["tensors"]["a"])
    assert torch.equal(found["tensors"]["b"], saved["tensors"]["b"])
    assert found["values"] == saved["values"] and found["counts"] == saved["counts"]
    assert torch.equal(found["parameter"], saved["parameter"])


@pytest.mark.parametrize("zipped", [True, False])
def test_configurations_are_read_as_records(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    args = argparse.Namespace(heads=4, sub=argparse.Namespace(x=[1]))
    torch.save({"args": args}, path, _use_new_zipfile_serialization=zipped)
    fields = record_fields(load_torch_file(path)["args"])
    assert fields["heads"] == 4 and record_fields(fields["sub"]) == {"x": [1]}
    assert type(load_torch_file(path)["args"]) is not argparse.Namespace


def test_memory_is_the_files(tmp_path: Path) -> None:
    path = tmp_path / "mapped.pt"
    torch.save({"a": torch.zeros(5000)}, path)
    file = TorchFile(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert file.shape("a") == (5000,) and file.dtype("a") == torch.float32


def test_a_pickle_before_a_zip_is_not_run(tmp_path: Path) -> None:
    """The file passes as a zip for readers that look at its end, and as a pickle at its start."""
    trapped, path = tmp_path / "trapped", tmp_path / "laser2.pt"
    behind = io.BytesIO()
    with zipfile.ZipFile(behind, "w") as target:
        target.writestr("x", "y")
    path.write_bytes(pickle.dumps(Trap(trapped), protocol=2) + behind.getvalue())
    assert zipfile.is_zipfile(path)
    assert "not a torch file" in refused(path)
    good = tmp_path / "good.pt"
    torch.save({"a": torch.zeros(2)}, good)
    path.write_bytes(b"PK\x03\x04" + pickle.dumps(Trap(trapped), protocol=2) + good.read_bytes())
    assert "before or after" in refused(path)
    assert not trapped.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_not_run(tmp_path: Path, zipped: bool) -> None:
    trapped, path = tmp_path / "trapped", tmp_path / "a.pt"
    torch.save({"x": Trap(trapped)}, path, _use_new_zipfile_serialization=zipped)
    assert "mkdir" in refused(path) and "without running code" in refused(path)
    assert not trapped.exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
            "_codecs.encode",
        ),
        (b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "builtins.bytearray"),
        (b"\x80\x02ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R.", "torch.Tensor"),
        (b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.", "builtins.eval"),
        (b"\x80\x02(cos\nsystem\nX\x02\x00\x00\x00idR.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.", "STACK_GLOBAL"),
        (b"\x80\x02(S'id'\nios\nsystem\n.", "INST"),
    ],
)
def test_only_what_tensors_need_is_named(tmp_path: Path, program: bytes, message: str) -> None:
    assert message in refused(archive(tmp_path / "a.pt", program))


def test_a_tuple_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    # Its hash, as a key of a dictionary, would take 2 ** 60 steps.
    program = b"\x80\x02})q\x01" + b"h\x01\x86q\x01" * 60 + b"K\x01s."
    assert "expands to" in refused(archive(tmp_path / "a.pt", program))


def test_compressed_files_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    zeros = b"\x80\x02" + b"\0" * (64 << 20)
    path = archive(tmp_path / "bomb.pt", zeros, kind=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert "67,108,8" in refused(path)
    torch.save({"a": torch.arange(100)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            target.writestr("noise", os.urandom(50_000))
            for name in source.namelist():
                target.writestr(name, source.read(name))
    assert "compressed" in refused(path)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", b"\x80\x02N.")
    with zipfile.ZipFile(path, "a") as target:
        target.writestr("A/DATA.PKL", b"\x80\x02N.")
    assert "named" in refused(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_larger_than_the_file_are_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pt"
    wide = torch.zeros(1).expand(1 << 20, 1 << 10)
    torch.save({"a": wide}, path, _use_new_zipfile_serialization=zipped)
    assert "a storage of only 4 bytes" in refused(path)


@pytest.mark.parametrize("stored", [3, (1 << 31) - 1])
def test_storages_larger_than_the_file_are_refused(tmp_path: Path, stored: int) -> None:
    size = b"J" + ((1 << 31) - 1).to_bytes(4, "little")
    program = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ"
        + stored.to_bytes(4, "little")
        + b"tQK\x00" + size + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip
    path = archive(tmp_path / "a.pt", program)
    with zipfile.ZipFile(path, "a") as target:
        target.writestr("a/data/0", b"\0" * 12)
    refused(path)


def test_damage_is_found_by_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1000)}, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_torch_file(path, check_sums=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a torch file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"laser2.pt" + b"\0" * 248 + b"ustar\x0000" + b"\0" * 400, "not a torch file"),
        (b"PK\x03\x04", "truncated"),
        (b"<html>not found</html>", "not a torch file"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    assert message in refused(path)
    path.unlink()
    assert "cannot read" in refused(path)


def test_programs_of_torchscript_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", b"\x80\x02N.")
    with zipfile.ZipFile(path, "a") as target:
        target.writestr("a/constants.pkl", b"\x80\x02N.")
    assert "TorchScript" in refused(path)
