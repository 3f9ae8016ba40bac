"""Trains on one rank of several; started by the tests with the launcher's variables set.

Arguments: configuration, run folder, overrides. `NLLB_TEST_KILL_STEP` kills the process at a step.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from nllb.config import load_config
from nllb.training.config import TrainConfig
from nllb.training.run import TrainingRun
from nllb.training.training import train

torch.set_num_threads(1)
kill_step = int(os.environ.get("NLLB_TEST_KILL_STEP", "-1"))
original = TrainingRun.begin_step


def begin_step(run: TrainingRun) -> None:
    """Kill the process in the middle of a step."""
    original(run)
    if run.state.step == kill_step:
        os.kill(os.getpid(), signal.SIGKILL)


TrainingRun.begin_step = begin_step
train(load_config(TrainConfig, sys.argv[1], sys.argv[3:]), Path(sys.argv[2]), quiet=True)
