"""Reads untrusted files of `torch.save`. No other module reads pickles.

* Files are always loaded with `weights_only=True`, which permits tensors, plain containers, numbers
  and text. Classes of the packages in fairseq's configurations are loaded as a `Record`, whose
  creation runs none of their code. The globals of a pickle are checked against a smaller set than
  torch permits before torch loads it.
* A zip file must start at byte 0, so that the file cannot be a pickle with an appended zip file.
  Its members must be uncompressed, as torch writes them, and cannot be larger than the file.
* The format before torch 1.6 (a sequence of pickles without a zip file) is read with the same
  rules. The older tar format is rejected.
* A tensor must not claim more elements than its storage has.
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

from .pickle_check import named_globals

MAX_PICKLE_BYTES: Final = 256 << 20
"""Maximum size of a pickle, which describes the tensors but does not contain their data."""
RECORD_PACKAGES: Final = ("argparse", "enum", "fairseq", "omegaconf", "types", "typing")
"""Packages whose classes are loaded as a `Record`."""

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
    """Replaces a class in a saved configuration, whose code is neither needed nor run."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


def record_fields(section: Any) -> dict[str, Any]:
    """Return the fields of a configuration section: a mapping, a namespace or an omegaconf node."""
    if isinstance(section, Record):
        fields = {key: value for key, value in vars(section).items() if key != "arguments"}
        nodes = fields.get("_content")
        if isinstance(nodes, Mapping):
            fields = {key: _node_value(node) for key, node in nodes.items()}
        return fields
    return dict(section) if isinstance(section, Mapping) else {}


def record_items(section: Record) -> list[Any]:
    """Return the items of an omegaconf list."""
    nodes = vars(section).get("_content")
    return [_node_value(node) for node in nodes] if isinstance(nodes, list) else []


def _node_value(node: Any) -> Any:
    return vars(node).get("_val", node) if isinstance(node, Record) else node


def load_torch_file(path: Path, *, check_sums: bool = False) -> Any:
    """Return the saved object; the tensors of a zip file stay in the memory-mapped file.

    Args:
        path: the file.
        check_sums: read the complete file and verify the checksums of a zip file.

    Raises:
        CheckpointError: the file is missing, damaged or not a torch file, contains other objects
            than tensors and plain values, or describes more data than it has.
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
    "{path} is damaged or not a torch file: it starts neither like a zip file of torch.save nor "
    "like a file of torch.save before torch 1.6; download it again, or save it again with torch"
)


def _load_zip(path: Path, *, check_sums: bool) -> Any:
    with _checkpoint_errors(path):
        names = _globals_of_zip(path, check_sums=check_sums)
    return _load(path, _stand_ins(names, path), path, mmap=True)


def _load_legacy(path: Path) -> Any:
    # Loaded from memory, since torch would treat a path that looks like a tar archive as one.
    stream = io.BytesIO(path.read_bytes())
    with _checkpoint_errors(path):
        names = _globals_of_legacy(stream)
    return _load(stream, _stand_ins(names, path), path, mmap=False)


@contextmanager
def _checkpoint_errors(path: Path) -> Iterator[None]:
    """Convert the exceptions of the zip and pickle readers to an error that names the file."""
    try:
        with warnings.catch_warnings():  # about strings in a damaged pickle
            warnings.simplefilter("ignore")
            yield
    except (BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is truncated, damaged or not a torch file: {_first_line(error)}; download it "
            f"again"
        ) from error


def _globals_of_zip(path: Path, *, check_sums: bool) -> set[str]:
    with ZipFile(path) as archive:
        members = check_archive(archive, path, error=CheckpointError)
        if not members or min(member.header_offset for member in members) != 0 or archive.comment:
            raise CheckpointError(
                f"{path} is forged or damaged: it has bytes before or after its zip file, which "
                "torch.save never writes"
            )
        if packed := [
            m.filename for m in members if m.compress_type != ZIP_STORED or m.flag_bits & 1
        ]:
            raise CheckpointError(
                f"{path}: {packed[0][:80]!r} is compressed or encrypted, which torch.save never "
                "does; unpack the archive and save the checkpoint again"
            )
        if any(m.filename.endswith("/constants.pkl") for m in members):
            raise CheckpointError(
                f"{path} is a TorchScript program, which is not supported; save only the weights "
                "with torch.save(model.state_dict(), path)"
            )
        pickles = [m for m in members if m.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
            raise CheckpointError(
                f"{path} is damaged or not a torch file: it must have one data.pkl of at most "
                f"{MAX_PICKLE_BYTES >> 20} MiB"
            )
        if check_sums and (damaged := archive.testzip()):
            raise CheckpointError(f"{path}: {damaged} is damaged; download the file again")
        return named_globals(io.BytesIO(archive.read(pickles[0])))


def _globals_of_legacy(stream: BinaryIO) -> set[str]:
    names: set[str] = set()
    for _ in range(_LEGACY_PICKLES):  # magic number, version, machine, content, storage keys
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
                f"{path} cannot be opened without running code from it, which is refused: it "
                f"needs {name[:80]}; convert it to safetensors with the program that wrote it"
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
        # A pickle is a program, so a damaged one can raise any exception of torch or Python.
        raise CheckpointError(
            f"{path} is damaged or not a torch file: {_first_line(error)}; download it again"
        ) from error


def _check_tensors(content: Any, path: Path) -> None:
    size = path.stat().st_size
    storages: dict[int, int] = {}
    for tensor in _tensors(content):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise CheckpointError(
                f"{path} is forged or damaged: a tensor of shape {tuple(tensor.shape)} has a "
                f"storage of only {storage.nbytes():,} bytes"
            )
    if sum(storages.values()) > size:
        raise CheckpointError(
            f"{path} is forged or damaged: its tensors need {sum(storages.values()):,} bytes, but "
            f"the file has {size:,}"
        )


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested containers, visiting each container once."""
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
    """A memory-mapped file of `torch.save`, which is opened without running code from it.

    `select` returns the dictionary of tensors of the saved object.

    Raises:
        CheckpointError: the file is damaged, not supported, or cannot be opened without running
            code.
    """

    def __init__(self, path: Path, select: Callable[[Any], Any] = lambda saved: saved) -> None:
        self.path = path
        self.content = load_torch_file(path)
        tensors = select(self.content)
        if not isinstance(tensors, Mapping):
            raise CheckpointError(
                f"{path} contains a {type(tensors).__name__}; it must be a dictionary of tensors"
            )
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
        """Return a tensor, which shares the memory of the mapped file."""
        return self._tensors[name]
