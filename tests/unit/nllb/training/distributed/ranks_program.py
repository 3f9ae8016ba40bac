"""Trains on one rank of several; run by the tests in processes forked from one that has torch.

Its globals: RANK, SIZE, PORT, CONFIG, FOLDER, OVERRIDES, OUTPUT (a file for its messages), and
KILL_STEP, a step at which the process is killed.
"""

import os
import signal
import sys
import traceback

import torch

from nllb.config import load_config
from nllb.training.train_config import TrainConfig
from nllb.training.trainer import train
from nllb.training.training_run import TrainingRun

given = globals()
said = os.open(given["OUTPUT"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.dup2(said, 1)
os.dup2(said, 2)
os.environ |= {
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": str(given["PORT"]),
    "WORLD_SIZE": str(given["SIZE"]),
    "RANK": str(given["RANK"]),
    "LOCAL_RANK": str(given["RANK"]),
}
torch.set_num_threads(1)
original = TrainingRun.begin_step


def begin_step(run: TrainingRun) -> None:
    """Kill the process in the middle of a step."""
    original(run)
    if run.state.step == given["KILL_STEP"]:
        os.kill(os.getpid(), signal.SIGKILL)


TrainingRun.begin_step = begin_step
config = load_config(TrainConfig, given["CONFIG"], given["OVERRIDES"])
try:
    train(config, given["FOLDER"], quiet=True)
except Exception:
    traceback.print_exc()
    sys.exit(1)
