"""Tensors of a checkpoint: whole and sharded files, any number of ranks, damage."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from nllb.errors import CheckpointError
from nllb.training.checkpoints.tensor_files import TensorReader, write_shards, write_whole

TENSORS = {
    "weight/layer.weight": torch.arange(35, dtype=torch.float32).view(7, 5),
    "exp_avg/layer.weight": torch.arange(35, dtype=torch.float32).view(7, 5) / 3,
    "weight/layer.bias": torch.tensor([1.5]),  # fewer rows than ranks
    "weight/moe.experts.0.inner.weight": torch.full((2, 2), 10.0),
    "weight/moe.experts.1.inner.weight": torch.full((2, 2), 11.0),
}
REPLICA = "weight/router.bias"
DENSE = [name for name in TENSORS if ".experts." not in name]


def write_as_rank(rank: int, size: int, folder: Path) -> None:
    """Write shards of the dense tensors and one expert per rank."""
    store = distributed.FileStore(str(folder.with_suffix(".store")), size)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    mesh = init_device_mesh("cpu", (size,))
    mine = {name: distribute_tensor(TENSORS[name], mesh, [Shard(0)]) for name in DENSE}
    name = f"weight/moe.experts.{rank}.inner.weight"
    write_shards(folder, {**mine, name: TENSORS[name], REPLICA: torch.ones(3)}, rank=rank)
    distributed.destroy_process_group()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Return a checkpoint that two ranks wrote."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=write_as_rank, args=(r, 2, folder)) for r in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    # Every rank wrote its own file, and no file contains pickled data.
    assert len(list(folder.glob("shard-*.safetensors"))) == 2
    assert {path.suffix for path in folder.iterdir()} == {".safetensors"}
    return folder


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Return a checkpoint of unsharded tensors."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    files = write_whole(folder, TENSORS, experts_only=False)
    names = ["dense.safetensors", "expert_000.safetensors", "expert_001.safetensors"]
    assert sorted(path.name for path in files) == names
    return folder


@pytest.fixture(params=["whole", pytest.param("shards", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def test_whole_tensors_are_read_from_either_form(folder: Path) -> None:
    reader = TensorReader(folder)
    assert set(reader.names()) - {REPLICA} == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(reader.read(name), tensor), name


@pytest.mark.slow
def test_a_missing_shard_is_found(shards: Path) -> None:
    assert torch.equal(TensorReader(shards).read(REPLICA), torch.ones(3))
    next(shards.glob("shard-00001-*")).unlink()
    with pytest.raises(CheckpointError, match="is damaged: shards of"):
        TensorReader(shards)


def test_a_missing_tensor_and_another_shape_are_named(folder: Path) -> None:
    reader = TensorReader(folder)
    with pytest.raises(CheckpointError, match=r"lacks weight/other"):
        reader.read_into({"weight/other": torch.empty(2)})
    with pytest.raises(CheckpointError, match=r"has shape \(7, 5\), but the configured model"):
        reader.read_into({"weight/layer.weight": torch.empty(7, 6)})


def test_damaged_and_missing_files_are_errors_of_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        TensorReader(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="contains no tensors"):
        TensorReader(tmp_path)
    path = tmp_path / "dense.safetensors"
    save_file(TENSORS, str(path))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        TensorReader(tmp_path)


def test_only_the_first_rank_writes_what_all_ranks_have(tmp_path: Path) -> None:
    files = write_whole(tmp_path, TENSORS, experts_only=True)
    assert all(path.name.startswith("expert_") for path in files)
