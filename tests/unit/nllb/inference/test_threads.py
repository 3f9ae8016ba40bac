"""Threads: torch has as many as the model was loaded with, and forked processes do not hang."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nllb.errors import ConfigError
from nllb.inference.generator import SearchOptions
from nllb.inference.kernels.library import MAX_THREADS, load_kernel
from nllb.inference.model_generator import ModelGenerator
from nllb.inference.threads import ForkSafeLock, resolve_threads, with_torch_threads
from nllb.languages import parse_language

ROOT = Path(__file__).parents[4]


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize(
    "scenario", ["forked", "forked_twice", "forked_while_busy", "spawned", "threads"]
)
def test_processes_and_threads_give_the_same_outputs(random_model_dir, dtype, scenario) -> None:
    program = Path(__file__).with_name("processes_program.py")
    done = subprocess.run(
        [sys.executable, str(program), str(random_model_dir), dtype, scenario],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0 and "the same outputs" in done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize(("dtype", "expected"), [("int8", 1), ("float32", 2)])
def test_the_number_of_threads_reaches_torch(
    random_model_dir, monkeypatch, three_threads, dtype, expected
) -> None:
    if dtype == "int8" and load_kernel() is None:
        expected = 2  # plain torch takes the kernel's place
    generator = ModelGenerator.load(random_model_dir, dtype=dtype, device="cpu", num_threads=2)
    seen = []
    encode = type(generator.engine).encode
    monkeypatch.setattr(
        type(generator.engine),
        "encode",
        lambda engine, sources: (seen.append(torch.get_num_threads()), encode(engine, sources))[1],
    )
    generator.generate(
        ["Arabic"],
        source=parse_language("eng_Latn"),
        target=parse_language("fra_Latn"),
        search=SearchOptions(max_output_tokens=3),
    )
    assert seen == [expected]
    assert torch.get_num_threads() == 3


def test_torchs_number_is_restored_after_errors_and_overlapping_calls(three_threads) -> None:
    with pytest.raises(ZeroDivisionError):
        with_torch_threads(1, lambda: 1 / 0)
    assert torch.get_num_threads() == 3
    both_inside = threading.Barrier(2)

    def inside() -> int:
        both_inside.wait(60)
        return torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(with_torch_threads, count, inside) for count in (1, 2)]
        assert sorted(call.result() for call in calls) == [1, 2]
    assert torch.get_num_threads() == 3
    with ThreadPoolExecutor(1) as pool:  # what a thread sees that begins now
        assert pool.submit(torch.get_num_threads).result() == 3


def test_the_number_of_threads_is_bounded() -> None:
    assert resolve_threads(7) == 7
    assert 1 <= resolve_threads(None) <= MAX_THREADS
    for number in (0, -1, MAX_THREADS + 1):
        with pytest.raises(ConfigError, match=rf"num_threads is {number}; it must be 1 to 1024"):
            resolve_threads(number)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_finds_locks_open() -> None:
    lock = ForkSafeLock()
    with lock:
        child = os.fork()
        if child == 0:
            with lock:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with lock:
        pass
