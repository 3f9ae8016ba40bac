"""Kills training at random moments, resumes it, and compares the result with an undisturbed run.

    python -m tests.bench kills -- --trials 20

Every trial starts a run, kills it at up to three random moments, and lets it finish. Weights and
Adam's moments must be bitwise equal to those of an undisturbed run. Ranks are forked from a process
that has imported everything, so that the moments fall into training and the writing of checkpoints
instead of imports. A moment is a processor time, so that the load of the machine has no effect: the
kernel's timer ends the rank without any cleanup, and the other ranks get SIGKILL.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from multiprocessing.connection import wait
from pathlib import Path
from runpy import run_path

import torch
import torch._dynamo  # imported here because the optimizer and the log import it on first use
import torch.utils.tensorboard

from nllb.config import load_config
from nllb.training.checkpoints.tensor_files import TensorReader
from nllb.training.train_config import TrainConfig
from nllb.training.trainer import train
from tests.bench.measuring import RESULTS, environment

CONFIG = """
kind: train
data: {data}
model: {{architecture: moe-tiny, model_dim: 32, heads: 2, ffn_dim: 64}}
reader: {{max_tokens: 160, batches_per_step: 2, max_length: 80}}
optimizer: {{learning_rate: 0.01, warm_up_steps: 10, clip_norm: 1.0}}
schedule: {{steps: {steps}, checkpoint_every: 2, validate_every: 10, log_every: 1}}
parallel: {{runner: plain}}
device: cpu
"""
MODES = {"ddp": (), "fsdp2": ("parallel.data=fsdp2",), "experts": ("parallel.experts=true",)}
FORKING = multiprocessing.get_context("forkserver")


def run_rank(
    rank: int, size: int, moment: float, port: int, config: Path, folder: Path, mode: str
) -> None:
    """Train as one of several ranks; die after `moment` seconds of processor time, if above 0."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.setitimer(signal.ITIMER_PROF, moment)  # SIGPROF has no handler: it ends the process
    train(load_config(TrainConfig, config, MODES[mode]), folder, quiet=True)
    folder.with_name(f"{folder.name}.seconds").write_text(str(time.process_time()))


def run(size: int, moment: float, config: Path, folder: Path, mode: str) -> bool:
    """Run all ranks to their end, or one to its moment; return whether the run was killed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    ranks = [
        FORKING.Process(target=run_rank, args=(rank, size, after, port, config, folder, mode))
        for rank, after in enumerate([moment] * size)
    ]
    for process in ranks:
        process.start()
    wait([process.sentinel for process in ranks])
    if any(process.exitcode for process in ranks):  # the others would wait for the dead rank
        for process in ranks:
            process.kill()
    for process in ranks:
        process.join()
    return any(process.exitcode for process in ranks)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return weights and moments of the newest checkpoint."""
    reader = TensorReader(max((folder / "checkpoints").glob("step_*[0-9]")))
    return {name: reader.read(name) for name in reader.names()}


def measure(data: Path, folder: Path, trials: int, steps: int) -> list[dict[str, object]]:
    """Run all trials, alternating over one and two ranks and every mode."""
    FORKING.set_forkserver_preload(["tests.bench.kills"])
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(data=data, steps=steps))
    cases = [(size, mode) for size in (1, 2) for mode in MODES]
    chance, rows = random.Random(0), []
    whole: dict[tuple[int, str], tuple[dict[str, torch.Tensor], float]] = {}
    for trial in range(trials):
        size, mode = case = cases[trial % len(cases)]
        if case not in whole:
            alone = folder / f"{mode}{size}"
            if run(size, 0, config, alone, mode):
                raise SystemExit(f"an undisturbed run failed ({size} ranks, {mode})")
            seconds = float(alone.with_name(f"{alone.name}.seconds").read_text())
            whole[case] = tensors(alone), seconds
        expected, seconds = whole[case]
        out, killed = folder / f"trial{trial}", []
        while len(killed) < 3 and run(size, seconds * chance.random(), config, out, mode):
            checkpoints = out / "checkpoints"
            left = [path.name for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
            newest = max((name for name in left if not name.endswith(".tmp")), default="none")
            in_saving = any(name.endswith(".tmp") for name in left)
            killed.append({"after": newest, "while_saving": in_saving})
        if run(size, 0, config, out, mode):
            raise SystemExit(f"a killed run does not resume ({size} ranks, {mode}): {killed}")
        found = tensors(out)
        wrong = [name for name in expected if not torch.equal(found[name], expected[name])]
        row = {"ranks": size, "mode": mode, "killed": killed, "tensors": len(found)}
        rows.append({**row, "different": len(wrong) + abs(len(found) - len(expected))})
        print(json.dumps(rows[-1]), flush=True)
        record(rows, steps)
    return rows


def record(rows: list[dict[str, object]], steps: int) -> dict[str, int]:
    """Write the trials so far to tests/bench/results/kills.json and return their summary."""
    kills = [kill for row in rows for kill in row["killed"]]  # type: ignore[attr-defined]
    summary = {
        "trials": len(rows),
        "kills": len(kills),
        "kills_while_saving": sum(kill["while_saving"] for kill in kills),
        "trials_that_differ": sum(bool(row["different"]) for row in rows),
    }
    RESULTS.mkdir(exist_ok=True)
    document = {"summary": summary, **environment(steps=steps), "trials": rows}
    (RESULTS / "kills.json").write_text(json.dumps(document, indent=1) + "\n")
    return summary


def main(argv: list[str]) -> int:
    """Run the trials; the exit code is 1 if a tensor differs."""
    parser = argparse.ArgumentParser(prog="kills")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        script = Path(__file__).parents[1] / "token_data.py"
        data = run_path(str(script))["write_token_data"](folder / "data")
        rows = measure(data, folder, options.trials, options.steps)
    summary = record(rows, options.steps)
    print(json.dumps(summary))
    return int(summary["trials_that_differ"] > 0 or not summary["kills"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
