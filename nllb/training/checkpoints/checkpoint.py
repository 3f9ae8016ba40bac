"""Checkpoints that survive a kill at any moment, and that any number of ranks can resume.

    checkpoints/step_00000120/
        *.safetensors    weights and Adam's moments (see `tensor_files`)
        state.json       the step, counters, and the best result so far
        manifest.json    size and XXH3-128 hash of each file

A checkpoint is written to a folder `.tmp`, synced to disk file by file, and renamed. Tensors are
stored under the names of the model's weights and experts by their number, independent of ranks. No
RNG state is stored: seeds are derived from the step.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from nllb.config.fingerprints import file_fingerprint
from nllb.errors import CheckpointError, DataError, ResourceError
from nllb.io.paths import is_plain_name
from nllb.io.text import parse_json
from nllb.training.distributed.ranks import Ranks

from .tensor_files import is_sharded, write_shards, write_whole

FORMAT_VERSION = 1
_STATE, _MANIFEST = "state.json", "manifest.json"
_STEP = re.compile(r"step_(\d{8})")
StatePrecision = Literal["", "auto", "float32", "bfloat16"]
_log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class RunState:
    """The state of a run apart from its tensors.

    Attributes:
        step: number of completed optimizer steps.
        tokens: number of labels trained on.
        seconds: time spent in training.
        best: best validation result so far; lower is better (chrF++ is negated).
        best_step: step of the best result.
        without_better: number of validations since the best result.
        constant_step: last step of a constant learning rate, once the cool-down has begun; its
            checkpoint is kept so that the run can be extended.
        learning_rate: peak learning rate of the configuration that wrote the checkpoint.
        precision: number type of the matrix products; empty in checkpoints of earlier versions.
        first_loss: first recorded training loss: negative log-likelihood per label.
        lowest_loss: lowest recorded training loss.
        last_loss: last recorded training loss.
        made_by: fingerprints of the data and the configuration that the run belongs to.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int | None = None
    without_better: int = 0
    constant_step: int | None = None
    learning_rate: float = 0.0
    precision: StatePrecision = ""
    first_loss: float | None = None
    lowest_loss: float | None = None
    last_loss: float | None = None
    made_by: dict[str, str] = field(default_factory=dict)


_FIELD_TYPES: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    float | None: (int, float, NoneType),
    int | None: (int, NoneType),
    dict[str, str]: (dict,),
    StatePrecision: (str,),
}


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self.folder, self._ranks = folder, ranks

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, in ascending order."""
        if not self.folder.is_dir():
            return []
        found = (_STEP.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.folder / f"step_{step:08d}"

    def save(
        self, tensors: Mapping[str, Tensor], state: RunState, *, spread_experts: bool = False
    ) -> Path:
        """Write a checkpoint; all ranks must call it.

        Args:
            tensors: the tensors of this rank, by KIND/NAME.
            state: the counters.
            spread_experts: whether each rank has its own experts and therefore writes them.

        Raises:
            ResourceError: The checkpoint cannot be written; earlier checkpoints are kept.
        """
        final = self.path(state.step)
        part = final.with_name(final.name + ".tmp")
        if self._ranks.is_first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        self._ranks.wait()
        error = ""
        try:
            if is_sharded(tensors.values()):
                write_shards(part, tensors, rank=self._ranks.rank)
            elif self._ranks.is_first or spread_experts:
                for path in write_whole(part, tensors, experts_only=not self._ranks.is_first):
                    _sync(path)
        except (OSError, SafetensorError, CheckpointException) as reason:
            error = getattr(reason, "strerror", None) or str(reason)
        errors = [text for text in self._ranks.gather(error) if text]
        if not errors and self._ranks.is_first:
            try:
                self._finish(part, final, state)
            except OSError as reason:
                errors = [reason.strerror or str(reason)]
        errors = self._ranks.broadcast(errors)
        if errors:
            if self._ranks.is_first:
                shutil.rmtree(part, ignore_errors=True)
            raise ResourceError(
                f"cannot write the checkpoint {final}: {errors[0]}. Earlier checkpoints are "
                f"intact: free some disk space and run the same command again"
            )
        return final

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
        """Return the step of the newest intact checkpoint.

        A warning lists damaged checkpoints and the step that the run actually resumes from.
        The remains of an interrupted save are deleted.
        """
        found: int | None = None
        if self._ranks.is_first and self.folder.is_dir():
            for path in self.folder.glob("*.tmp"):
                shutil.rmtree(path)
            damaged = []
            for step in reversed(self.steps()):
                reason = find_damage(self.path(step))
                if reason is None:
                    found = step
                    break
                damaged.append(f"the checkpoint of step {step:,} is damaged ({reason})")
            if damaged:
                start = "from the beginning" if found is None else f"from step {found:,}"
                _log.warning("%s; training resumes %s", "; ".join(damaged), start)
        step_found: int | None = self._ranks.broadcast(found)
        return step_found

    def prune(self, *, keep_last: int, keep_steps: Collection[int | None]) -> None:
        """Delete all checkpoints except the newest ones and those of `keep_steps`."""
        if self._ranks.is_first:
            steps = self.steps()
            for step in steps[:-keep_last]:
                if step not in keep_steps:
                    shutil.rmtree(self.path(step))
        self._ranks.wait()

    def rewind(self, step: int) -> bool:
        """Delete all checkpoints after a step, and return whether that step has an intact one.

        Without an intact checkpoint of the step, nothing is deleted.
        """
        can_rewind = False
        if self._ranks.is_first and find_damage(self.path(step)) is None:
            can_rewind = True
            for later in self.steps():
                if later > step:
                    shutil.rmtree(self.path(later))
        found: bool = self._ranks.broadcast(can_rewind)
        return found


def find_damage(path: Path) -> str | None:
    """Return a description of the damage to a checkpoint, or None if it is intact."""
    try:
        manifest = parse_json((path / _MANIFEST).read_bytes(), path / _MANIFEST)
        if manifest["format_version"] != FORMAT_VERSION:
            return (
                f"it has format version {repr(manifest['format_version'])[:40]}, but this program "
                f"reads version {FORMAT_VERSION}"
            )
        for name, record in manifest["files"].items():
            if not is_plain_name(name):
                return f"its manifest lists {name[:80]!r}, which is not one of its files"
            size = (path / name).stat().st_size
            if size != record["bytes"]:
                return f"{name} has {size:,} bytes instead of {record['bytes']:,}"
            if file_fingerprint(path / name) != record["xxh3_128"]:
                return f"the hash of {name} differs from the one in its manifest"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        return str(error) or type(error).__name__
    return None


def read_state(path: Path) -> RunState:
    """Read the counters of a checkpoint.

    Raises:
        CheckpointError: The path is not a checkpoint, or its counters are damaged.
    """
    try:
        values = parse_json((path / _STATE).read_bytes(), path / _STATE)
        state = RunState(**values)
    except (OSError, TypeError, DataError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of a training run: {error}") from error
    for item in fields(RunState):
        value = getattr(state, item.name)
        if not isinstance(value, _FIELD_TYPES[item.type]) or isinstance(value, bool):
            raise CheckpointError(f"{path / _STATE} is damaged: {item.name} is {repr(value)[:40]}")
    return state


def find_checkpoint(path: Path) -> Path | None:
    """Return `path` if it is a checkpoint, or the newest checkpoint of a run's output folder."""
    if (path / _STATE).is_file() and (path / _MANIFEST).is_file():
        return path
    found = sorted((path / "checkpoints").glob("step_????????"))
    return found[-1] if found else None


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
