"""Turns what came back from a GPU into a checkpoint that a run resumes from or exports."""

import dataclasses
from pathlib import Path

import torch

from nllb.errors import CheckpointError, DataError
from nllb.training.checkpoints.checkpoint import CheckpointFolder, RunState, read_state
from nllb.training.checkpoints.tensor_files import WEIGHT, TensorReader
from nllb.training.distributed.ranks import Ranks

from .archive_file import read_payload
from .parts import PartsError, read_parts, read_progress


def merge(run_dir: Path, archive: Path, back: Path) -> RunState:
    """Write a checkpoint into the run that was packed, and return its counters.

    Its step is that of the packed checkpoint plus the steps on the GPU. The optimizer's moments
    begin anew, as in the first steps of a run.

    Raises:
        DataError: the parts are damaged, or belong to another archive.
        CheckpointError: the run is not the one that was packed.
    """
    try:
        progress = read_progress(back)
        if progress is None:
            raise DataError(f"{back} has no weights: nothing came back from the GPU")
        found, settings, _ = read_payload(archive)
        if found != progress.archive:
            raise DataError(f"{back} was trained with another archive than {archive}")
        weights = read_parts(back)
    except PartsError as error:
        raise DataError(str(error)) from error
    ranks = Ranks(rank=0, size=1, device=torch.device("cpu"))
    folder = CheckpointFolder(run_dir / "checkpoints", ranks)
    packed = folder.path(settings["step"])
    before = read_state(packed)
    if before.made_by != settings["made_by"]:
        raise CheckpointError(f"{run_dir} is not the run that {archive} was packed from")
    reader = TensorReader(packed)
    names = {name.partition("/")[2] for name in reader.names() if name.startswith(f"{WEIGHT}/")}
    if odd := sorted(names ^ weights.keys()):
        raise CheckpointError(f"{back} has other weights than {packed}: {', '.join(odd[:3])}")
    state = dataclasses.replace(
        before,
        step=before.step + progress.steps,
        tokens=before.tokens + progress.labels,
        seconds=before.seconds + progress.seconds,
        last_loss=progress.loss,
    )
    folder.save({f"{WEIGHT}/{name}": value.float() for name, value in weights.items()}, state)
    return state
