"""Several ranks: expert parallelism, FSDP2, kills, and resuming on another number of ranks."""

import json
import multiprocessing
import socket
from pathlib import Path
from runpy import run_path

import pytest
import torch

from nllb.training.checkpoints.tensor_files import TensorReader

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(
    ["nllb.training.trainer", "torch._dynamo", "torch.utils.tensorboard", "torch.distributed.fsdp"]
)
PROGRAM = Path(__file__).with_name("ranks_program.py")
CONFIG = """
kind: train
data: {data}
model:
  {{architecture: moe-tiny, model_dim: 16, heads: 2, ffn_dim: 32, dropout: 0.0,
  attention_dropout: 0.0, expert_output_masking: 0.2}}
reader: {{max_tokens: 160, batches_per_step: 4, max_length: 80}}
optimizer: {{learning_rate: 0.01, warm_up_steps: 10, clip_norm: 1.0}}
schedule: {{steps: 10, checkpoint_every: 5, validate_every: 10, log_every: 1}}
device: cpu
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def config(token_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(data=token_data))
    return path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(
    config: Path, folder: Path, *overrides: str, size: int = 1, kill_step: int = -1
) -> list[tuple[int, str]]:
    """Train on some ranks; return the exit code and the output of each."""
    port = free_port()
    said = [folder.with_name(f"{folder.name}.{rank}.txt") for rank in range(size)]
    running = [
        FORKING.Process(
            target=run_path,
            args=(
                str(PROGRAM),
                {
                    **{"RANK": rank, "SIZE": size, "PORT": port, "KILL_STEP": kill_step},
                    **{"CONFIG": config, "FOLDER": folder, "OVERRIDES": overrides},
                    "OUTPUT": str(said[rank]),
                },
            ),
        )
        for rank in range(size)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=250)
        process.kill()
        process.join()
    return [
        (process.exitcode or 0, path.read_text())
        for process, path in zip(running, said, strict=True)
    ]


def succeed(config: Path, folder: Path, *overrides: str, size: int = 1) -> None:
    for code, text in start(config, folder, *overrides, size=size):
        assert code == 0, text[-3000:]


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics" / "train.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    reader = TensorReader(folder / "checkpoints" / f"step_{step:08d}")
    return {name: reader.read(name) for name in reader.names()}


@pytest.mark.parametrize(
    ("size", "data"), [(2, "ddp"), (4, "ddp"), (2, "fsdp2")], ids=["2-ddp", "4-ddp", "2-fsdp2"]
)
def test_spread_experts_train_like_replicated_ones(
    config: Path, tmp_path: Path, size: int, data: str
) -> None:
    succeed(config, tmp_path / "copied", size=size)
    mode = ("parallel.experts=true", f"parallel.data={data}")
    succeed(config, tmp_path / "spread", *mode, size=size)
    copied, spread = losses(tmp_path / "copied"), losses(tmp_path / "spread")
    assert len(copied) == len(spread) == 10
    assert spread == pytest.approx(copied, rel=1e-6)
    ours, theirs = weights(tmp_path / "copied", 10), weights(tmp_path / "spread", 10)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        if name.startswith("weight/"):
            torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    "mode",
    [
        (),
        ("parallel.experts=true",),
        ("parallel.data=fsdp2",),
        ("parallel.data=fsdp2", "parallel.experts=true", "routing.balance_by=bias"),
    ],
    ids=["ddp", "ep", "fsdp2", "fsdp2-ep-bias"],
)
def test_killed_ranks_resume_bitwise(config: Path, tmp_path: Path, mode: tuple[str, ...]) -> None:
    succeed(config, tmp_path / "whole", *mode, size=2)
    killed = start(config, tmp_path / "killed", *mode, size=2, kill_step=7)
    assert all(code != 0 for code, _ in killed)
    succeed(config, tmp_path / "killed", *mode, size=2)
    ours, theirs = weights(tmp_path / "whole", 10), weights(tmp_path / "killed", 10)
    assert ours.keys() == theirs.keys() and len(ours) > 100
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")


def test_another_number_of_ranks_resumes(config: Path, tmp_path: Path) -> None:
    more = ("schedule.steps=20", "parallel.experts=true", "routing.mode=dropless")
    alone = ("schedule.steps=20", "routing.mode=dropless", "model.expert_output_masking=0")
    masked = "model.expert_output_masking=0"
    succeed(config, tmp_path / "alone", *alone)
    first = ("schedule.steps=5", "routing.mode=dropless", masked)
    succeed(config, tmp_path / "changing", *first)
    succeed(config, tmp_path / "changing", *more, masked, "schedule.steps=10", size=2)
    succeed(config, tmp_path / "changing", *more, masked, "schedule.steps=15", size=4)
    succeed(config, tmp_path / "changing", *alone)
    assert losses(tmp_path / "changing") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)


def test_another_number_of_ranks_resumes_a_sharded_run(config: Path, tmp_path: Path) -> None:
    dropless = ("routing.mode=dropless", "model.expert_output_masking=0", "schedule.log_every=1")
    sharded = ("parallel.data=fsdp2", *dropless)
    succeed(config, tmp_path / "alone", "schedule.steps=15", *dropless)
    succeed(config, tmp_path / "changing", "schedule.steps=5", *sharded, size=2)
    spread = ("parallel.experts=true", *sharded)
    succeed(config, tmp_path / "changing", "schedule.steps=10", *spread, size=4)
    # No tensor was gathered: every rank wrote a file of its own.
    checkpoint = tmp_path / "changing" / "checkpoints" / "step_00000010"
    assert len(list(checkpoint.glob("shard-*.safetensors"))) == 4
    succeed(config, tmp_path / "changing", "schedule.steps=15", *dropless)
    assert losses(tmp_path / "changing") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)


def test_experts_that_ranks_cannot_share_are_refused(config: Path, tmp_path: Path) -> None:
    wanted = ("parallel.experts=true", "model.experts=3", "reader.batches_per_step=4")
    done = start(config, tmp_path / "run", *wanted, size=2)
    assert all(code == 1 for code, _ in done)
    assert "3 experts cannot be shared equally by 2 ranks" in done[0][1]


def test_fairseq2_trains_on_two_ranks(config: Path, tmp_path: Path) -> None:
    pytest.importorskip("fairseq2")
    succeed(config, tmp_path / "plain", "parallel.experts=true", size=2)
    runner = ("parallel.experts=true", "parallel.runner=fairseq2")
    succeed(config, tmp_path / "fairseq2", *runner, size=2)
    ours, theirs = weights(tmp_path / "plain", 10), weights(tmp_path / "fairseq2", 10)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
