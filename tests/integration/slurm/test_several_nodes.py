"""A cluster of three nodes on this machine: arrays, the death of a node, distributed training."""

import sys
from pathlib import Path

import pytest

from slurm.cluster import ClusterConfig
from slurm.status import report, wait
from slurm.submission import submit
from slurm.tasks import RunDirectory, shard_tasks

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(400)]

COUNTS = """
import pathlib, sys, time
state = pathlib.Path(sys.argv[1] + sys.argv[-1].replace("/", "-of-"))
step = int(state.read_text()) if state.exists() else 0
print("starts at", step, flush=True)
while step < 100:
    step += 1
    time.sleep(0.1)
    state.write_text(str(step))
"""

TRAINS = """
import os, pathlib, sys, time
import torch
import torch.distributed as dist

state = pathlib.Path(sys.argv[1])
dist.init_process_group("gloo")
rank = dist.get_rank()
weights, first = torch.zeros(8), 0
if state.exists():
    saved = torch.load(state, weights_only=True)
    weights, first = saved["weights"], saved["step"]
print("rank", rank, "starts at", first, flush=True)
for step in range(first, 30):
    generator = torch.Generator().manual_seed(1000 * step + rank)
    gradient = torch.randn(8, generator=generator)
    dist.all_reduce(gradient)
    weights -= 0.1 * gradient
    if rank == 0:
        torch.save({"weights": weights, "step": step + 1}, f"{state}.new")
        os.replace(f"{state}.new", state)
    time.sleep(float(sys.argv[2]))
dist.destroy_process_group()
"""


def finish(run: RunDirectory) -> dict[str, str]:
    for rows in wait(run, poll_s=1.0):
        last = rows
    return {row.key: row.state for row in last}


def test_an_array_spreads_over_nodes_and_survives_the_death_of_one(
    three_nodes, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")
    command = [sys.executable, "-c", COUNTS, str(tmp_path / "state-")]
    tasks = shard_tasks(command, name="work", cwd=tmp_path, shards=6)
    run.add_tasks(tasks)
    submit(run, tasks, ClusterConfig(time_min=5, signal_delay_s=20), name="work")
    three_nodes.until(
        lambda: len({row.host for row in report(run) if row.state == "RUNNING"}) == 3,
        "tasks run on all nodes",
    )
    three_nodes.until(
        lambda: len(list(tmp_path.glob("state-*"))) == 6, "all tasks have started working"
    )
    three_nodes.kill_node("n2")
    assert set(finish(run).values()) == {"COMPLETED"}
    rows = report(run)
    assert any(row.requeues for row in rows)
    assert all(path.read_text() == "100" for path in tmp_path.glob("state-*"))


def test_training_on_two_nodes_resumes_bitwise_after_one_died(three_nodes, tmp_path: Path) -> None:
    import torch

    final = {}
    for name in ("undisturbed", "disturbed"):
        run, state = RunDirectory(tmp_path / name), tmp_path / f"{name}.pt"
        delay = "0" if name == "undisturbed" else "0.3"
        command = [sys.executable, "-c", TRAINS, str(state), delay]
        tasks = shard_tasks(command, name="train", cwd=tmp_path, shards=0, num_ranks=2)
        run.add_tasks(tasks)
        cluster = ClusterConfig(
            nodes=2, time_min=5, signal_delay_s=20, setup=("export MASTER_ADDR=127.0.0.1",)
        )
        submit(run, tasks, cluster, name="train")
        if name == "disturbed":
            three_nodes.until(state.exists, "the first checkpoint is written")
            second = next(row for row in report(run)).host
            assert "," in second or "[" in second
            three_nodes.kill_node("n2")
        assert finish(run) == {"train": "COMPLETED"}
        final[name] = torch.load(state, weights_only=True)
    assert final["disturbed"]["step"] == final["undisturbed"]["step"] == 30
    assert torch.equal(final["disturbed"]["weights"], final["undisturbed"]["weights"])
