"""Times short calls on an idle machine and beside busy processes.

    python -m tests.bench busy_machine -- --busy 8

On a busy machine every program waits for its turn, but a call whose threads wait for each other
takes far longer. A loop of plain Python that needs as much processor time as a call therefore runs
by turns with it: `beyond_the_scheduler` is the slowdown of the call divided by that of the loop.
Other programs of the machine disturb both sides; the load is recorded.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess

from nllb import Translator
from tests.bench.measuring import RESULTS, environment

GOAL = 1.5
"""Highest slowdown of a call beside busy processes, beyond that of the loop."""
PAUSE_S = 0.1
"""Time between calls, as a person or a client leaves it."""
LINES = [f"Open the settings menu {number}." for number in range(12)]


def spin() -> None:
    """Keep a processor busy."""
    while True:
        pass


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run processes that are always ready to run."""
    context = multiprocessing.get_context("spawn")
    running: list[BaseProcess] = [context.Process(target=spin, daemon=True) for _ in range(count)]
    for process in running:
        process.start()
    try:
        time.sleep(2)  # until all of them are in their loop
        yield
    finally:
        for process in running:
            process.kill()
            process.join()


def timed(call: Callable[[], object]) -> dict[str, float]:
    """Return the time on the clock and the processor time of one call."""
    time.sleep(PAUSE_S)
    wall, process = time.perf_counter(), time.process_time()
    call()
    return {
        "process_s": time.process_time() - process,
        "wall_s": time.perf_counter() - wall,
    }


def loop_of(seconds: float) -> Callable[[], object]:
    """Return a loop that takes so many seconds of processor time."""
    steps = 100_000
    while True:
        start = time.process_time()
        for _ in range(steps):
            pass
        taken = time.process_time() - start
        if taken > 0.01:
            break
        steps *= 2
    length = max(1, round(steps * seconds / taken))

    def run() -> None:
        for _ in range(length):
            pass

    return run


def median(runs: list[dict[str, float]], clock: str) -> float:
    """Return the median of one clock."""
    return statistics.median(run[clock] for run in runs)


def measure(model: str, *, busy: int, rounds: int) -> dict[str, object]:
    """Time all calls in both conditions, by turns, and return the ratios of their medians."""
    translator = Translator.load(model)

    def call(line: str) -> None:
        translator.translate(line, "eng_Latn", "fra_Latn", retry=False)

    for line in LINES:
        call(line)
    loop = loop_of(statistics.median(timed(partial(call, line))["process_s"] for line in LINES))
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for condition, count in (("idle", 0), ("busy", busy)):
            with busy_processes(count):
                for line in LINES:
                    found.setdefault(f"call {condition}", []).append(timed(partial(call, line)))
                    found.setdefault(f"loop {condition}", []).append(timed(loop))
    ratios = {
        f"{what}_{clock[:-2]}": median(found[f"{what} busy"], clock)
        / median(found[f"{what} idle"], clock)
        for what in ("call", "loop")
        for clock in ("wall_s", "process_s")
    }
    ratios["beyond_the_scheduler"] = ratios["call_wall"] / ratios["loop_wall"]
    medians = {
        name: {clock: median(runs, clock) for clock in ("wall_s", "process_s")}
        for name, runs in found.items()
    }
    return {"ratios": ratios, "medians": medians, "runs": found}


def main(argv: list[str]) -> int:
    """Measure and write tests/bench/results/busy_machine.json; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="busy_machine")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--busy", type=int, default=8, help="number of busy processes")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    load = os.getloadavg()
    result = measure(options.model, busy=options.busy, rounds=options.rounds)
    settings = environment(**vars(options), goal=GOAL, niceness=os.nice(0), load_before=load)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "busy_machine.json"
    path.write_text(json.dumps({**settings, **result}, indent=1) + "\n")
    ratios = result["ratios"]
    print(json.dumps({"ratios": ratios, "medians": result["medians"]}, indent=1))
    assert isinstance(ratios, dict)
    return int(ratios["beyond_the_scheduler"] > GOAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
