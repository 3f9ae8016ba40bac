"""Files of `torch.save`, from anywhere: the only place where a pickle is read.

* `weights_only=True` always: tensors, plain containers, numbers and text. Classes of the packages
  that fairseq's configurations come from are read as a `Record`, which runs nothing. The globals of
  a pickle are listed before torch reads it, and a smaller set is allowed than torch allows.
* A zip file must begin at byte 0, so that the file is not a pickle that a zip was appended to. Its
  members must be stored as they are, as torch writes them: they cannot be longer than the file.
* The format before torch 1.6 (a series of pickles, no zip) is read with the same rules. The tar
  format before that is refused.
* No tensor may claim more elements than its storage has.
"""

import io
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, KeysView, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

from nllb.errors import CheckpointError
from nllb.io.archives import check_archive
from nllb.io.pointers import refuse_pointer
from nllb.model.formats.pickle_check import named_globals

MAX_PICKLE_BYTES: Final = 256 << 20
"""Longest pickle that is read: it describes the tensors, whose numbers lie outside of it."""
RECORD_PACKAGES: Final = ("argparse", "enum", "fairseq", "omegaconf", "types", "typing")
"""Packages whose classes are read as a `Record`."""

_ZIP_MAGIC: Final = b"PK\x03\x04"
_LEGACY_MAGIC: Final = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_LEGACY_PICKLES: Final = 5
_CONTAINERS: Final[dict[str, type]] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": defaultdict,
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.set": set,
}
_TYPE_NAMES: Final = {
    f"builtins.{name}" for name in ("bool", "float", "int", "object", "str", "tuple")
}
_TENSOR_PARTS: Final = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.device",
}


class Record:
    """Stands in for a class of a configuration: its code is neither needed nor run."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


def record_fields(section: Any) -> dict[str, Any]:
    """Return a part of a configuration as fairseq saved it: a mapping, a namespace, omegaconf's."""
    if isinstance(section, Record):
        fields = {key: value for key, value in vars(section).items() if key != "arguments"}
        nodes = fields.get("_content")
        if isinstance(nodes, Mapping):
            fields = {key: _node_value(node) for key, node in nodes.items()}
        return fields
    return dict(section) if isinstance(section, Mapping) else {}


def record_items(section: Record) -> list[Any]:
    """Return the items of omegaconf's list."""
    nodes = vars(section).get("_content")
    return [_node_value(node) for node in nodes] if isinstance(nodes, list) else []


def _node_value(node: Any) -> Any:
    return vars(node).get("_val", node) if isinstance(node, Record) else node


def load_torch_file(path: Path, *, check_sums: bool = False) -> Any:
    """Return what was saved; tensors of a zip file stay in the file, which is memory-mapped.

    Args:
        path: the file.
        check_sums: read every byte at once and compare the checksums of a zip file.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, holds more than tensors and
            plain values, or tells of more than it has.
    """
    refuse_pointer(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_LEGACY_MAGIC))
        if head.startswith(_ZIP_MAGIC):
            content = _load_zip(path, check_sums=check_sums)
        elif head == _LEGACY_MAGIC:
            content = _load_legacy(path)
        else:
            raise CheckpointError(_NOT_TORCH.format(path=path))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    _check_tensors(content, path)
    return content


_NOT_TORCH = (
    "{path} is damaged or no torch file: it begins neither as the zip file that torch.save writes "
    "nor as what it wrote before torch 1.6; fetch it again, or save it anew where it was made"
)


def _load_zip(path: Path, *, check_sums: bool) -> Any:
    with _telling(path):
        names = _globals_of_zip(path, check_sums=check_sums)
    return _load(path, _stand_ins(names, path), path, mmap=True)


def _load_legacy(path: Path) -> Any:
    # From memory, since torch would take a file that also looks like a tar archive for one.
    stream = io.BytesIO(path.read_bytes())
    with _telling(path):
        names = _globals_of_legacy(stream)
    return _load(stream, _stand_ins(names, path), path, mmap=False)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turn what the archive's and the pickle's readers raise into an error that names the file."""
    try:
        with warnings.catch_warnings():  # of texts in a damaged pickle
            warnings.simplefilter("ignore")
            yield
    except (BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is cut short, damaged or no torch file: {_first_line(error)}; fetch it again"
        ) from error


def _globals_of_zip(path: Path, *, check_sums: bool) -> set[str]:
    with ZipFile(path) as archive:
        members = check_archive(archive, path, error=CheckpointError)
        if not members or min(member.header_offset for member in members) != 0 or archive.comment:
            raise CheckpointError(
                f"{path} is forged or damaged: bytes before or behind its zip file; torch.save "
                "writes none"
            )
        if packed := [
            m.filename for m in members if m.compress_type != ZIP_STORED or m.flag_bits & 1
        ]:
            raise CheckpointError(
                f"{path}: {packed[0][:80]!r} is compressed or encrypted, which torch.save never "
                "does; unpack the archive and save the checkpoint anew"
            )
        if any(m.filename.endswith("/constants.pkl") for m in members):
            raise CheckpointError(
                f"{path} is a program of TorchScript, which is refused; save the weights alone, as "
                "torch.save(model.state_dict(), path)"
            )
        pickles = [m for m in members if m.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
            raise CheckpointError(
                f"{path} is damaged or no torch file: it needs one data.pkl of at most "
                f"{MAX_PICKLE_BYTES >> 20} MiB"
            )
        if check_sums and (damaged := archive.testzip()):
            raise CheckpointError(f"{path}: {damaged} is damaged; fetch the file again")
        return named_globals(io.BytesIO(archive.read(pickles[0])))


def _globals_of_legacy(stream: BinaryIO) -> set[str]:
    names: set[str] = set()
    for _ in range(_LEGACY_PICKLES):  # magic number, version, machine, content, keys of storages
        names |= named_globals(stream)
    stream.seek(0)
    return names


def _stand_ins(names: set[str], path: Path) -> list[type | tuple[type, str]]:
    stand_ins: list[Any] = []
    for name in sorted(names):
        if name in _CONTAINERS:
            stand_ins.append((_CONTAINERS[name], name))
        elif name in _TYPE_NAMES or name.partition(".")[0] in RECORD_PACKAGES:
            stand_ins.append((Record, name))
        elif name not in _TENSOR_PARTS and not _is_storage_or_type(name):
            raise CheckpointError(
                f"{path} cannot be opened without running code from it, which is refused: it needs "
                f"{name[:80]}; convert it to safetensors where it was made"
            )
    return stand_ins


def _is_storage_or_type(name: str) -> bool:
    package, _, last = name.rpartition(".")
    if package in ("torch", "torch.storage") and last.endswith("Storage"):
        return True
    return package == "torch" and isinstance(getattr(torch, last, None), torch.dtype)


def _load(source: Path | BinaryIO, stand_ins: list[Any], path: Path, *, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")
            return torch.load(source, map_location="cpu", mmap=mmap, weights_only=True)
    except Exception as error:
        # The pickle is a program: a damaged one can fail in any of torch's and Python's ways.
        raise CheckpointError(
            f"{path} is damaged or no torch file: {_first_line(error)}; fetch it again"
        ) from error


def _check_tensors(content: Any, path: Path) -> None:
    size = path.stat().st_size
    storages: dict[int, int] = {}
    for tensor in _tensors(content):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise CheckpointError(
                f"{path} is forged or damaged: a tensor of shape {tuple(tensor.shape)} has "
                f"{storage.nbytes():,} bytes behind it"
            )
    if sum(storages.values()) > size:
        raise CheckpointError(
            f"{path} is forged or damaged: its tensors take {sum(storages.values()):,} bytes and "
            f"the file has {size:,}"
        )


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors of plain containers, each container once."""
    waiting, seen = [content], set[int]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (Mapping, list, tuple, set, Record)) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Record):
                waiting += vars(value).values()
            else:
                waiting += value.values() if isinstance(value, Mapping) else value


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


class TorchFile:
    """One file of `torch.save`, opened without running code from it, memory-mapped.

    `select` takes the dictionary of tensors out of what was saved.

    Raises:
        CheckpointError: it is damaged, of another kind, or needs code to be run.
    """

    def __init__(self, path: Path, select: Callable[[Any], Any] = lambda saved: saved) -> None:
        self.path = path
        self.content = load_torch_file(path)
        tensors = select(self.content)
        if not isinstance(tensors, Mapping):
            raise CheckpointError(f"{path} holds a {type(tensors).__name__}, not tensors by name")
        self._tensors = {
            name: value
            for name, value in tensors.items()
            if isinstance(name, str) and isinstance(value, Tensor)
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
