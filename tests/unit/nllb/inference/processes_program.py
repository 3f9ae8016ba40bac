"""A model that is used in threads, forked and spawned processes: all give the same outputs.

Run by the tests: `processes_program.py MODEL DTYPE SCENARIO`. A process that hangs is killed with
this one when the test's time is over.
"""

import multiprocessing
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import torch

from nllb.inference.generator import SearchOptions
from nllb.inference.model_generator import ModelGenerator
from nllb.languages import parse_language

SEGMENTS = ("English: eng.", "French: fra, Occitan.", "Hindi, Urdu and Bengali.")
NUM_THREADS = 2


def load(model: str, dtype: str) -> ModelGenerator:
    return ModelGenerator.load(model, device="cpu", dtype=dtype, num_threads=NUM_THREADS)


def outputs(generator: ModelGenerator) -> list[tuple[int, ...]]:
    found = generator.generate(
        SEGMENTS,
        source=parse_language("eng_Latn"),
        target=parse_language("fra_Latn"),
        search=SearchOptions(max_output_tokens=12),
    )
    return [hypotheses[0].token_ids for hypotheses in found]


def answer(pipe: Connection, make: Callable[[], ModelGenerator]) -> None:
    pipe.send(outputs(make()))


def load_and_answer(pipe: Connection, model: str, dtype: str) -> None:
    pipe.send(outputs(load(model, dtype)))


def ask(method: str, target: Callable[..., None], *arguments: object) -> list[tuple[int, ...]]:
    """Return what a new process answers."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    found: list[tuple[int, ...]] = ours.recv()
    process.join()
    assert process.exitcode == 0
    return found


def forked(generator: ModelGenerator, model: str, dtype: str) -> None:
    expected = outputs(generator)
    assert ask("fork", answer, lambda: generator) == expected
    assert ask("fork", answer, lambda: load(model, dtype)) == expected  # a model of its own
    assert outputs(generator) == expected


def forked_twice(generator: ModelGenerator, model: str, dtype: str) -> None:
    expected = outputs(generator)

    def grandchild() -> ModelGenerator:
        assert ask("fork", answer, lambda: generator) == expected
        return generator

    multiprocessing.process.current_process()._config["daemon"] = False  # daemons have no children
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs, grandchild))
    process.start()
    assert ours.recv() == expected
    process.join()


def forked_while_busy(generator: ModelGenerator, model: str, dtype: str) -> None:
    """Other threads translate, and hold locks, at the moment of each fork."""
    expected, done = outputs(generator), threading.Event()

    def translate() -> None:
        while not done.is_set():
            assert outputs(generator) == expected

    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(translate) for _ in range(2)]
        try:
            for _ in range(8):
                assert ask("fork", answer, lambda: generator) == expected
        finally:
            done.set()
        for each in busy:
            each.result()


def spawned(generator: ModelGenerator, model: str, dtype: str) -> None:
    assert ask("spawn", load_and_answer, model, dtype) == outputs(generator)


def threads(generator: ModelGenerator, model: str, dtype: str) -> None:
    expected = outputs(generator)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == expected for found in pool.map(outputs, [generator] * 24))


if __name__ == "__main__":
    scenarios = (forked, forked_twice, forked_while_busy, spawned, threads)
    torch.set_num_threads(NUM_THREADS + 1)  # the caller's own number, which is to stay
    a_1 = torch.ones(700, 700)
    a_1 @ a_1  # OpenMP's helpers of this thread are there before the fork
    model, dtype, name = sys.argv[1:]
    generator = load(model, dtype)
    {each.__name__: each for each in scenarios}[name](generator, model, dtype)
    assert torch.get_num_threads() == NUM_THREADS + 1
    print("the same outputs")
