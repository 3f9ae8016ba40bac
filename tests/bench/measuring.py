"""Comparative measurements: runs are interleaved in one process, and every run is recorded."""

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("nllb", "torch", "transformers", "ctranslate2", "numpy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One timed call."""

    case: str
    """The computation, which is the same for all contestants."""
    contestant: str
    """Name of the implementation."""
    round: int
    """Number of the interleaved round."""
    wall_s: float
    """Wall-clock seconds."""
    process_s: float
    """Seconds of processor time of all threads."""
    tokens: int
    """Number of output tokens without language and end tokens."""


def interleave(
    case: str, contestants: Mapping[str, Callable[[int], int]], *, rounds: int
) -> list[Run]:
    """Run every contestant once per round; each receives the round and returns its tokens.

    A first round warms up and is not recorded.
    """
    runs = []
    names = list(contestants)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            wall, process = time.perf_counter(), time.process_time()
            tokens = contestants[name](number)
            process, wall = time.process_time() - process, time.perf_counter() - wall
            if number:
                runs.append(
                    Run(
                        case=case,
                        contestant=name,
                        round=number,
                        wall_s=wall,
                        process_s=process,
                        tokens=tokens,
                    )
                )
                print(f"{case}: {name}: {process:.2f} s of processor, {wall:.2f} s", flush=True)
    return runs


def summarize(runs: list[Run], ours: str) -> list[dict[str, Any]]:
    """Return the ratios of seconds per token for each case and peer, above 1 if we are faster."""
    rows = []
    for case in dict.fromkeys(run.case for run in runs):
        here = [run for run in runs if run.case == case]
        mine = [run for run in here if run.contestant == ours]
        for peer in dict.fromkeys(run.contestant for run in here if run.contestant != ours):
            theirs = [run for run in here if run.contestant == peer]
            row: dict[str, Any] = {"case": case, "peer": peer, "ours": ours}
            for clock in ("wall_s", "process_s"):
                a, b = ([getattr(run, clock) / run.tokens for run in x] for x in (theirs, mine))
                row[f"{clock[:-2]}_ratio_of_medians"] = statistics.median(a) / statistics.median(b)
                row[f"{clock[:-2]}_ratio_of_minima"] = min(a) / min(b)
            row["our_tokens_per_s"] = 1 / min(run.wall_s / run.tokens for run in mine)
            row["peer_tokens_per_s"] = 1 / min(run.wall_s / run.tokens for run in theirs)
            rows.append(row)
    return rows


def environment(**settings: Any) -> dict[str, Any]:
    """Return the versions, the processor and the settings."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = f"{len(names)} x {names[0]}" if names else processor
    return {
        "versions": {"python": platform.python_version(), **versions},
        "processor": processor,
        "processors": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "settings": settings,
    }


def write_results(name: str, runs: list[Run], summary: list[dict[str, Any]], **more: Any) -> Path:
    """Write tests/bench/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"summary": summary, **more, "runs": [asdict(run) for run in runs]}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def print_summary(summary: list[dict[str, Any]]) -> None:
    """Print the ratios as a table."""
    print(f"{'case':32} {'peer':24} wall: median min   process: median min   ours tokens/s")
    for row in summary:
        print(
            f"{row['case']:32} {row['peer']:24}"
            f" {row['wall_ratio_of_medians']:11.2f} {row['wall_ratio_of_minima']:5.2f}"
            f" {row['process_ratio_of_medians']:13.2f} {row['process_ratio_of_minima']:5.2f}"
            f" {row['our_tokens_per_s']:12.0f}"
        )
