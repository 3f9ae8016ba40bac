"""The tensors of a checkpoint in safetensors files, which contain whole tensors or shards.

A tensor is named KIND/NAME: KIND is `weight`, `exp_avg` or `exp_avg_sq`, and NAME is the name of
the weight. Tensors that are not sharded go to `dense.safetensors` and `expert_003.safetensors`.
Sharded tensors (FSDP2) are written by `torch.distributed.checkpoint`: every rank writes its own
shards, and no rank ever gathers a whole tensor. No file contains pickled data.

Both kinds are read by `torch.distributed.checkpoint`, which resolves the shards: each rank reads
exactly its part, regardless of the number of ranks that wrote the checkpoint.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from nllb.errors import CheckpointError
from nllb.model.formats.write_errors import library_write_errors

WEIGHT, FIRST_MOMENT, SECOND_MOMENT = "weight", "exp_avg", "exp_avg_sq"
_DENSE = "dense.safetensors"
_EXPERT = re.compile(r"\.experts\.(\d+)\.")


def write_whole(folder: Path, tensors: Mapping[str, Tensor], *, experts_only: bool) -> list[Path]:
    """Write unsharded tensors: those of expert E to one file, all others to another.

    Args:
        folder: folder of the checkpoint.
        tensors: tensors by KIND/NAME.
        experts_only: omit `dense.safetensors`, which another rank writes.

    Returns:
        The files.
    """
    by_file: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _EXPERT.search(name)
        file = f"expert_{int(match[1]):03d}.safetensors" if match else _DENSE
        if match or not experts_only:
            by_file.setdefault(file, {})[name] = tensor.detach().cpu().contiguous()
    for file, group in by_file.items():
        with library_write_errors():
            save_file(group, str(folder / file))
    return [folder / file for file in by_file]


def write_shards(folder: Path, tensors: Mapping[str, Tensor], *, rank: int) -> None:
    """Write this rank's shards and its unsharded tensors to a separate file.

    Tensors that all ranks have in full are left to rank 0. Every rank plans its own file, so ranks
    do not communicate (torch would exchange pickles).
    """
    own = {
        name: tensor
        for name, tensor in tensors.items()
        if rank == 0 or isinstance(tensor, DTensor) or _EXPERT.search(name)
    }
    with _without_warnings():
        save(
            own,
            storage_writer=_RankFile(str(folder), rank=rank),
            planner=_LocalPlanner(),
            no_dist=True,
        )


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    """Return whether any of the tensors is sharded over ranks."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


class TensorReader:
    """Reads the tensors of one checkpoint."""

    def __init__(self, folder: Path) -> None:
        """Index the files of a checkpoint.

        Raises:
            CheckpointError: A file is missing or damaged.
        """
        self.folder = folder
        self._storage = _IndexedStorage(str(folder))
        try:
            self._index = {
                name: record
                for name, record in self._storage.index.state_dict_metadata.items()
                if isinstance(record, TensorStorageMetadata)
            }
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"cannot read the checkpoint {folder}: {error}") from error
        for name, record in self._index.items():
            if record.size.numel() != sum(chunk.sizes.numel() for chunk in record.chunks):
                raise CheckpointError(f"{folder} is damaged: shards of {name} are missing")
        if not self._index:
            raise CheckpointError(f"{folder} contains no tensors of a training run")

    def names(self) -> list[str]:
        """Return the names of all tensors, as KIND/NAME."""
        return list(self._index)

    def read(self, name: str) -> Tensor:
        """Return one whole tensor.

        Raises:
            CheckpointError: The checkpoint lacks it, or its file is damaged.
        """
        if name not in self._index:
            raise CheckpointError(f"{self.folder} lacks {name}: it belongs to a different model")
        record = self._index[name]
        tensor = torch.empty(record.size, dtype=record.properties.dtype)
        self.read_into({name: tensor})
        return tensor

    def read_into(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill tensors by name; of a sharded tensor, this rank's shard.

        Raises:
            CheckpointError: A tensor is missing or has a different shape, or a file is damaged.
        """
        for name, tensor in tensors.items():
            if name not in self._index:
                raise CheckpointError(
                    f"{self.folder} lacks {name}: it belongs to a different model; choose another "
                    f"output folder"
                )
            if self._index[name].size != tensor.shape:
                raise CheckpointError(
                    f"{self.folder}: {name} has shape {tuple(self._index[name].size)}, but the "
                    f"configured model requires {tuple(tensor.shape)}; choose another output "
                    f"folder for another model"
                )
        try:
            with _without_warnings():
                load(dict(tensors), storage_reader=self._storage, no_dist=True)
        except (OSError, SafetensorError, CheckpointException) as error:
            raise CheckpointError(f"cannot read the checkpoint {self.folder}: {error}") from error


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide torch's warnings about single-process loading and its deprecation warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        yield


class _RankFile(HuggingFaceStorageWriter):
    """Writes the tensors of one rank to one safetensors file."""

    def __init__(self, folder: str, *, rank: int) -> None:
        super().__init__(folder, save_distributed=True)
        self._rank = rank

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return [replace(plan, storage_data={"shard_index": self._rank + 1}) for plan in plans]


class _LocalPlanner(DefaultSavePlanner):
    """Plans the file of one rank; the default planner would require complete tensors."""

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        self.global_plan, self.metadata = all_plans, Metadata(state_dict_metadata={})
        return self.global_plan, self.metadata


class _IndexedStorage(HuggingFaceStorageReader):
    """A reader that scans the headers of the files only once."""

    @cached_property
    def index(self) -> Metadata:
        metadata: Metadata = super().read_metadata()
        return metadata

    def read_metadata(self) -> Metadata:
        return self.index
