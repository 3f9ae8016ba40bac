"""Checkpoints that survive a kill at any moment, and another number of ranks.

    checkpoints/step_00000120/
        dense.safetensors        weights and Adam's moments of all that is no expert
        expert_003.safetensors   those of expert 3 of every sparse layer
        state.json               the step, counters, the best result
        manifest.json            size and XXH3-128 of each file

A checkpoint is written under the name `.tmp`, synced to disk file by file, and renamed. Experts lie
by their number, not by rank, and tensors by the names of the model's weights, so that any number of
ranks and experts a rank can read it. Chance has no state here: it is a function of the step.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from nllb.config.fingerprints import file_fingerprint
from nllb.errors import CheckpointError, DataError, ResourceError
from nllb.io.paths import is_plain_name
from nllb.io.text import parse_json
from nllb.model.formats.safetensors_files import SafetensorsFile
from nllb.training.ranks import Ranks

FORMAT_VERSION = 1
WEIGHT, FIRST, SECOND = "weight", "exp_avg", "exp_avg_sq"
_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_STEP = re.compile(r"step_(\d{8})")


@dataclass(kw_only=True, slots=True)
class RunState:
    """What a run knows beside its weights."""

    step: int = 0
    """Optimizer steps done."""
    tokens: int = 0
    """Labels trained on."""
    seconds: float = 0.0
    """Time spent in training."""
    best: float | None = None
    """Best validation result so far; lower is better (chrF++ is negated)."""
    best_step: int | None = None
    """Step of the best result."""
    without_better: int = 0
    """Validations since then."""
    learning_rate: float = 0.0
    """Peak learning rate of the configuration that wrote this."""
    made_by: dict[str, str] = field(default_factory=dict)
    """Data and configuration that the run belongs to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """Adam's state of one parameter."""

    first: Tensor
    """Mean of its gradients."""
    second: Tensor
    """Mean of their squares."""


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self.folder, self._ranks = folder, ranks

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, rising."""
        if not self.folder.is_dir():
            return []
        found = (_STEP.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"step_{step:08d}"

    def save(
        self, weights: Mapping[str, Tensor], moments: Mapping[str, Moments], state: RunState
    ) -> Path:
        """Write a checkpoint; all ranks call it, each with the experts that it has.

        Raises:
            ResourceError: the disk is full; the checkpoints before this one stay.
        """
        final = self.path(state.step)
        part = final.with_name(final.name + ".tmp")
        if self._ranks.is_first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        self._ranks.wait()
        error = ""
        try:
            for name, tensors in self._files(weights, moments):
                _write(part / name, tensors)
        except (OSError, SafetensorError) as fault:
            error = getattr(fault, "strerror", None) or str(fault)
        failed = [text for text in self._ranks.gather(error) if text]
        if not failed and self._ranks.is_first:
            try:
                self._finish(part, final, state)
            except OSError as fault:
                failed = [fault.strerror or str(fault)]
        failed = self._ranks.tell(failed)
        if failed:
            if self._ranks.is_first:
                shutil.rmtree(part, ignore_errors=True)
            raise ResourceError(
                f"cannot write the checkpoint {final}: {failed[0]}; the ones before it are whole: "
                f"make room and start the same command again"
            )
        return final

    def _files(
        self, weights: Mapping[str, Tensor], moments: Mapping[str, Moments]
    ) -> Iterator[tuple[str, dict[str, Tensor]]]:
        by_file: dict[str, dict[str, Tensor]] = {}
        for name, weight in weights.items():
            file = _file_of(name)
            if file == _DENSE and not self._ranks.is_first:
                continue
            tensors = by_file.setdefault(file, {})
            tensors[f"{WEIGHT}/{name}"] = weight
            if name in moments:
                tensors[f"{FIRST}/{name}"] = moments[name].first
                tensors[f"{SECOND}/{name}"] = moments[name].second
        for file, tensors in by_file.items():
            # Every rank has a copy of an expert that is not spread: the first writes it.
            if self._ranks.is_first or self._writes_experts:
                yield file, tensors

    _writes_experts = False

    def spread_experts(self) -> None:
        """Say that each rank has experts of its own, which it writes."""
        self._writes_experts = True

    def _finish(self, part: Path, final: Path, state: RunState) -> None:
        _write_json(part / _STATE, asdict(state))
        files = {
            path.name: {"bytes": path.stat().st_size, "xxh3_128": file_fingerprint(path)}
            for path in sorted(part.iterdir())
        }
        _write_json(part / _MANIFEST, {"format_version": FORMAT_VERSION, "files": files})
        _sync(part)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        _sync(self.folder)

    def newest(self) -> int | None:
        """Return the step of the newest whole checkpoint; warn of those that are damaged.

        What an interrupted save left is removed.
        """
        found: int | None = None
        if self._ranks.is_first and self.folder.is_dir():
            for path in self.folder.glob("*.tmp"):
                shutil.rmtree(path)
            for step in reversed(self.steps()):
                fault = damage(self.path(step))
                if fault is None:
                    found = step
                    break
                print(
                    f"warning: the checkpoint of step {step:,} is damaged ({fault}); going back to "
                    f"the one before",
                    file=sys.stderr,
                    flush=True,
                )
        step_found: int | None = self._ranks.tell(found)
        return step_found

    def prune(self, *, keep_last: int, best_step: int | None) -> None:
        """Delete all but the newest checkpoints and the best one."""
        if self._ranks.is_first:
            steps = self.steps()
            for step in steps[:-keep_last]:
                if step != best_step:
                    shutil.rmtree(self.path(step))
        self._ranks.wait()


def damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint's files, or nothing."""
    try:
        manifest = parse_json((path / _MANIFEST).read_bytes(), path / _MANIFEST)
        if manifest["format_version"] != FORMAT_VERSION:
            return (
                f"format {repr(manifest['format_version'])[:40]}, this program reads "
                f"{FORMAT_VERSION}"
            )
        for name, record in manifest["files"].items():
            if not is_plain_name(name):
                return f"its manifest names {name[:80]!r}, which is not a file of it"
            size = (path / name).stat().st_size
            if size != record["bytes"]:
                return f"{name} has {size:,} bytes instead of {record['bytes']:,}"
            if file_fingerprint(path / name) != record["xxh3_128"]:
                return f"{name} has another hash than its manifest records"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        return str(error) or type(error).__name__
    return None


def read_state(path: Path) -> RunState:
    """Read the counters of a checkpoint.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    try:
        values = parse_json((path / _STATE).read_bytes(), path / _STATE)
        state = RunState(**values)
    except (OSError, TypeError, DataError) as error:
        raise CheckpointError(f"{path} is no checkpoint of a training run: {error}") from error
    for item in fields(RunState):
        value = getattr(state, item.name)
        if not isinstance(value, _KINDS[item.type]) or isinstance(value, bool):
            raise CheckpointError(f"{path / _STATE} is damaged: {item.name} is {repr(value)[:40]}")
    return state


def read_tensors(path: Path, wanted: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Read the tensors of one kind (`weight`, `exp_avg`, `exp_avg_sq`) for the wanted names.

    Raises:
        CheckpointError: a tensor is missing or of another shape.
    """
    by_file: dict[str, list[str]] = {}
    for name in wanted:
        by_file.setdefault(_file_of(name), []).append(name)
    tensors = {}
    for file, names in by_file.items():
        opened = SafetensorsFile(path / file)
        for name in names:
            if f"{kind}/{name}" in opened.names():
                tensors[name] = opened.read(f"{kind}/{name}")
    for name, target in wanted.items():
        if kind == WEIGHT and name not in tensors:
            raise CheckpointError(f"{path} lacks {name}: it is of another model")
        if name in tensors and tensors[name].shape != target.shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)} and the model of the "
                f"configuration {tuple(target.shape)}; name another folder for another model"
            )
    return tensors


def read_moments(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Moments]:
    """Read Adam's state for the wanted names, as far as the checkpoint has it."""
    first, second = (read_tensors(path, wanted, kind) for kind in (FIRST, SECOND))
    return {
        name: Moments(first=first[name], second=second[name]) for name in first if name in second
    }


_KINDS: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    float | None: (int, float, NoneType),
    int | None: (int, NoneType),
    dict[str, str]: (dict,),
}
_DENSE, _STATE, _MANIFEST = "dense.safetensors", "state.json", "manifest.json"


def _file_of(name: str) -> str:
    match = _EXPERT.search(name)
    return f"expert_{int(match[1]):03d}.safetensors" if match else _DENSE


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, str(path))
    _sync(path)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
