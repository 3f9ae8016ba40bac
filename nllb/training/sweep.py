"""Runs a sweep: all variants train for the same time in separate processes.

    OUT/NAME/calibration/   a few steps, to measure the speed    OUT/NAME/run/   the run
    OUT/sweep.tsv           one row per finished variant

A variant with a result is not run again; an interrupted variant resumes with the same steps.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from nllb.errors import ResourceError
from nllb.io.text import read_json, read_json_lines, write_json, write_lines

from .sweep_config import SweepConfig, SweepVariant

TABLE_FILE: Final = "sweep.tsv"
_STEPS_FILE, _RESULT_FILE = "steps.json", "result.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepResult:
    """The outcome of one variant.

    Attributes:
        name: name of the variant.
        steps: number of steps within the time limit.
        labels: number of labels trained on.
        labels_per_second: median speed, excluding validations.
        loss: validation loss per label, mean over directions.
        loss_into_english: the same for directions into English.
        loss_from_english: the same for directions from English.
    """

    name: str
    steps: int
    labels: int
    labels_per_second: float
    loss: float
    loss_into_english: float
    loss_from_english: float


def run_sweep(config: SweepConfig, out: Path, *, quiet: bool = True) -> list[SweepResult]:
    """Run all variants, and return their results, the best first.

    Raises:
        ResourceError: a training run failed after printing its output.
    """
    results = []
    for variant in config.variants:
        folder = out / variant.name
        if not (folder / _RESULT_FILE).is_file():
            _log.info("%s: %s", variant.name, " ".join(variant.overrides) or "as configured")
            steps = _steps(config, variant, folder, quiet=quiet)
            _train(config, variant, folder / "run", _schedule(config, steps), quiet=quiet)
            write_json(folder / _RESULT_FILE, asdict(_result(variant.name, folder / "run")))
        results.append(SweepResult(**read_json(folder / _RESULT_FILE)))
        results.sort(key=lambda result: result.loss)
        _write_table(out / TABLE_FILE, results)
    return results


def _steps(config: SweepConfig, variant: SweepVariant, folder: Path, *, quiet: bool) -> int:
    """Return the number of steps that fit into the time, which is measured once."""
    path = folder / _STEPS_FILE
    if not path.is_file():
        calibration = folder / "calibration"
        shutil.rmtree(calibration, ignore_errors=True)
        # The first half warms up caches and is not counted.
        half = config.calibration_steps
        schedule = [
            *(f"schedule.steps={2 * half}", f"schedule.log_every={half}"),
            *("schedule.validate_every=0", "optimizer.cool_down_steps=0"),
        ]
        _train(config, variant, calibration, schedule, quiet=quiet)
        last = list(read_json_lines(calibration / "metrics" / "train.jsonl"))[-1]
        seconds = last["targets"] / max(1, last["targets_per_second"]) / half
        shutil.rmtree(calibration)
        write_json(path, {"steps": max(2, round(60 * config.minutes / seconds))})
    steps: int = read_json(path)["steps"]
    return steps


def _schedule(config: SweepConfig, steps: int) -> list[str]:
    return [
        f"schedule.steps={steps}",
        f"optimizer.cool_down_steps={round(steps * config.cool_down_share)}",
        f"optimizer.warm_up_steps={min(150, steps // 10)}",
        f"schedule.validate_every={steps}",
        f"schedule.checkpoint_every={max(1, steps // 4)}",
        f"schedule.log_every={max(1, steps // 20)}",
        "schedule.keep_last=1",
    ]


def _train(
    config: SweepConfig, variant: SweepVariant, out: Path, schedule: Sequence[str], *, quiet: bool
) -> None:
    command = [sys.executable, "-m"]
    if variant.processes > 1:
        count = f"--nproc-per-node={variant.processes}"
        command += ["torch.distributed.run", "--standalone", count, "-m"]
    command += [
        "nllb",
        "train",
        config.train,
        str(out),
        *config.overrides,
        *variant.overrides,
        *schedule,
    ]
    environment = dict(os.environ)
    if variant.threads is not None:
        environment["OMP_NUM_THREADS"] = str(variant.threads)
    done = subprocess.run([*command, *(["--quiet"] if quiet else [])], env=environment, check=False)
    if done.returncode:
        raise ResourceError(
            f"the variant {variant.name!r} ended with status {done.returncode}; see its messages "
            f"above. The same command resumes the sweep after that has been resolved"
        )


def _result(name: str, run: Path) -> SweepResult:
    records = list(read_json_lines(run / "metrics" / "train.jsonl"))
    losses = list(read_json_lines(run / "metrics" / "valid.jsonl"))[-1]["loss_by_direction"]
    speeds = sorted(record["targets_per_second"] for record in records)
    into = [loss for direction, loss in losses.items() if direction.endswith("-eng_Latn")]
    others = [loss for direction, loss in losses.items() if not direction.endswith("-eng_Latn")]
    return SweepResult(
        name=name,
        steps=records[-1]["step"],
        labels=records[-1]["tokens"],
        labels_per_second=speeds[len(speeds) // 2],
        loss=_mean(list(losses.values())),
        loss_into_english=_mean(into),
        loss_from_english=_mean(others),
    )


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / max(1, len(values)), 4)


def _write_table(path: Path, results: Sequence[SweepResult]) -> None:
    rows = [asdict(result) for result in results]
    header = "\t".join(rows[0])
    write_lines(path, [header, *("\t".join(map(str, row.values())) for row in rows)])


def describe_sweep(config: SweepConfig) -> str:
    """Return the variants as JSON lines, and the time that they take."""
    lines = [json.dumps(variant.model_dump(), ensure_ascii=False) for variant in config.variants]
    total = len(lines) * config.minutes
    return "\n".join([*lines, f"{len(lines)} variants of {config.minutes:g} minutes: {total:g}"])
