"""Destinations of a run's records: JSON lines, TensorBoard, Weights & Biases, MLflow.

JSON lines are always written; they are the complete record. The other writers get the numbers and
are optional: their packages are imported only when the configuration names them.
"""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from nllb.errors import DataError, ResourceError
from nllb.io.text import json_line, parse_json, write_lines

METRICS_DIR, TENSORBOARD_DIR = "metrics", "tensorboard"
_MLFLOW_RUN_FILE = "mlflow_run_id.txt"
_log = logging.getLogger(__name__)


class MetricsWriter(Protocol):
    """Writes the records of one run."""

    def write(self, stream: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one record of a stream (`train` or `valid`)."""
        ...

    def close(self) -> None:
        """Flush the buffers and close the files and connections."""
        ...


class CombinedWriter:
    """Passes records on to several writers, possibly none."""

    def __init__(self, writers: Sequence[MetricsWriter]) -> None:
        self._writers = writers

    def write(self, stream: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one record with every writer."""
        for writer in self._writers:
            writer.write(stream, step, values)

    def close(self) -> None:
        """Close every writer."""
        for writer in self._writers:
            writer.close()


class JsonLinesWriter:
    """Appends records to `metrics/<stream>.jsonl`."""

    def __init__(self, out_dir: Path, *, from_step: int = 0) -> None:
        """Open the folder; records after `from_step`, left by an interrupted run, are removed."""
        self._folder = out_dir / METRICS_DIR
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob("*.jsonl"):
            _truncate(path, from_step)

    def write(self, stream: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one line."""
        with (self._folder / f"{stream}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json_line({"step": step, **values}) + "\n")

    def close(self) -> None:
        """Do nothing: every line is written at once."""


class TensorBoardWriter:
    """Writes scalars to `tensorboard/`."""

    def __init__(self, out_dir: Path, *, from_step: int = 0) -> None:
        """Open an event file; later scalars of an interrupted run are hidden.

        Raises:
            ImportError: TensorBoard is not installed.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(
            str(out_dir / TENSORBOARD_DIR), purge_step=from_step + 1 if from_step else None
        )

    def write(self, stream: str, step: int, values: Mapping[str, Any]) -> None:
        """Write the numbers of a record."""
        for name, value in scalars(stream, values).items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._board.close()


class WandbWriter:
    """Logs to Weights & Biases; WANDB_PROJECT, WANDB_MODE and WANDB_API_KEY apply as usual.

    The id of the run is derived from the output folder, so that a resumed run continues its curve.
    """

    def __init__(self, out_dir: Path, *, settings: Mapping[str, Any]) -> None:
        """Start or resume a run.

        Raises:
            ResourceError: The package is not installed.
        """
        wandb = _import("wandb", "wandb")
        folder = out_dir.resolve()
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "nllb"),
            name=folder.name,
            id=hashlib.sha256(str(folder).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(folder),
            config=dict(settings),
        )

    def write(self, stream: str, step: int, values: Mapping[str, Any]) -> None:
        """Log the numbers of a record."""
        self._run.log(scalars(stream, values), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MlflowWriter:
    """Logs to MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME apply as usual.

    The id of the run is stored in the output folder, so that a resumed run continues its curve.
    """

    def __init__(self, out_dir: Path, *, settings: Mapping[str, Any]) -> None:
        """Start or resume a run.

        Raises:
            ResourceError: The package is not installed.
        """
        self._mlflow = _import("mlflow", "mlflow-skinny")
        path = out_dir / _MLFLOW_RUN_FILE
        run_id = path.read_text(encoding="utf-8").strip() if path.is_file() else None
        run = self._mlflow.start_run(run_id=run_id, run_name=out_dir.resolve().name)
        if run_id is None:
            out_dir.mkdir(parents=True, exist_ok=True)
            path.write_text(run.info.run_id + "\n", encoding="utf-8")
            self._mlflow.log_params({name: str(value)[:500] for name, value in settings.items()})

    def write(self, stream: str, step: int, values: Mapping[str, Any]) -> None:
        """Log the numbers of a record."""
        self._mlflow.log_metrics(scalars(stream, values), step=step)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


def open_writers(
    names: Sequence[str], out_dir: Path, *, from_step: int = 0, settings: Mapping[str, Any]
) -> CombinedWriter:
    """Open JSON lines and the named writers.

    Args:
        names: any of `tensorboard`, `wandb` and `mlflow`.
        out_dir: output folder of the run.
        from_step: step that the run resumes from.
        settings: the configuration, which services show next to the curves.

    Raises:
        ResourceError: The package of a writer is not installed.
    """
    writers: list[MetricsWriter] = [JsonLinesWriter(out_dir, from_step=from_step)]
    for name in names:
        if name == "wandb":
            writers.append(WandbWriter(out_dir, settings=settings))
        elif name == "mlflow":
            writers.append(MlflowWriter(out_dir, settings=settings))
        else:
            try:
                writers.append(TensorBoardWriter(out_dir, from_step=from_step))
            except ImportError:
                _log.info("TensorBoard is not installed; records go to JSON lines only")
    return CombinedWriter(writers)


def scalars(stream: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record by `stream/name`, with one level of nesting."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, (int, float)):
            found[f"{stream}/{name}"] = value
        elif isinstance(value, Mapping):
            nested = {key: item for key, item in value.items() if isinstance(item, (int, float))}
            found |= {f"{stream}/{name}/{key}": item for key, item in nested.items()}
    return found


def _import(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ResourceError(
            f"metrics: {module} is configured, but its package cannot be imported ({error}); run: "
            f"pip install {package}, or remove {module} from `metrics`"
        ) from error


def _truncate(path: Path, last_step: int) -> None:
    """Remove the records after a step, and an incomplete last line."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if parse_json(line, path)["step"] <= last_step:
                kept.append(line)
        except (DataError, KeyError, TypeError):
            continue
    write_lines(path, kept)
