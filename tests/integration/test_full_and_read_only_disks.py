"""Verbs on a full and on a read-only file system, and killed at a random moment.

A limit on the size of files stands in for a full disk, because mounting one needs a privilege.
Each verb runs in a forked process, so that the modules are imported only once.
"""

import multiprocessing
import os
import random
import resource
import shutil
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from nllb.cli import main
from tests.disk_cases import CASES, flores_words, make_inputs, words_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
READ_ONLY = Path("/sys/kernel")
EXPECTED = ("File too large", "cannot write", "disk I/O error")


@pytest.fixture(scope="module")
def inputs(random_model_dir: Path, token_data: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder, model=random_model_dir, shards=token_data)
    assert run_forked(["eval", "flores", str(folder / "scores"), *flores_words(folder)])[0] == 0
    return folder


def run_forked(
    words: list[str], *, max_file_bytes: int | None = None, kill_after_s: float = 0
) -> tuple[int, str]:
    """Run a verb in a process of its own; return its exit code and what it printed to stderr.

    The process is forked by a server without threads: a fork of this process, in which torch has
    computed, could wait forever for threads that it does not have.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nllb.training.trainer", "nllb.inference.model_generator"])
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(words, writer, max_file_bytes))
    process.start()
    writer.close()
    if kill_after_s:
        time.sleep(kill_after_s)
        process.kill()
    with os.fdopen(os.dup(reader.fileno()), "rb") as stream:
        said = stream.read().decode()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, said


def _run(words: list[str], stderr: Connection, max_file_bytes: int | None) -> None:
    os.dup2(stderr.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")
    try:
        if max_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
        code = main(words)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        code = 99
    os._exit(code)


def test_the_verbs_run_where_there_is_room(inputs, tmp_path) -> None:
    for name, case in CASES.items():
        (tmp_path / name).mkdir()
        code, said = run_forked(words_of(name, inputs, tmp_path / name / case.output))
        assert code == 0, (name, said)


@pytest.mark.parametrize("name", list(CASES))
def test_a_full_disk(name, inputs, tmp_path) -> None:
    for limit in CASES[name].limits:
        folder = tmp_path / str(limit)
        folder.mkdir()
        words = words_of(name, inputs, folder / CASES[name].output)
        code, said = run_forked(words, max_file_bytes=limit)
        assert (code in (1, 2)) and "Traceback" not in said, said
        assert any(sign in said for sign in EXPECTED), said
        assert not [path for path in folder.rglob(".*") if path.is_file()]
        # Translations resume from their partial output.
        assert name == "translate" or not list(folder.rglob("*.part"))


def test_a_full_disk_behind_the_tensors_of_a_run_and_a_shortlist(inputs, tmp_path) -> None:
    """The libraries report a full disk as errors of their own."""

    # JSON files fit, tensors do not.
    code, said = run_forked(words_of("train", inputs, tmp_path / "run"), max_file_bytes=30_000)
    assert code == 1 and "Traceback" not in said and "cannot write" in said, said
    model = Path(shutil.copytree(inputs / "model", tmp_path / "model"))
    before = content(model)
    words = ["shortlist", str(model), "--target", "fr", "--text", str(inputs / "text.txt"), "-q"]
    code, said = run_forked(words, max_file_bytes=100)
    assert code == 1 and "Traceback" not in said and "cannot write" in said, said
    assert content(model) == before


@pytest.mark.skipif(not READ_ONLY.is_dir(), reason="needs a file system without files")
@pytest.mark.parametrize("name", list(CASES))
def test_a_read_only_file_system(name, inputs) -> None:
    output = READ_ONLY / CASES[name].output
    code, said = run_forked(words_of(name, inputs, output))
    assert code in (1, 2) and "Traceback" not in said, said
    assert str(READ_ONLY) in said


WHOLE_OR_MISSING = ("detect", "convert")


def content(folder: Path) -> dict[str, bytes]:
    if folder.is_file():
        return {"": folder.read_bytes()}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", ["detect", "convert", "eval flores", "eval report"])
def test_killed_at_random_and_run_again(name, inputs, tmp_path) -> None:
    """What a killed run leaves does not change the result of the same command."""
    whole = tmp_path / "whole" / CASES[name].output
    start = time.monotonic()
    assert run_forked(words_of(name, inputs, whole))[0] == 0
    takes_s = time.monotonic() - start
    draw = random.Random(name)
    output = tmp_path / "killed" / CASES[name].output
    words = words_of(name, inputs, output)
    for _ in range(4):
        run_forked(words, kill_after_s=draw.uniform(0.05, 1) * takes_s)
        if name in WHOLE_OR_MISSING and output.exists():
            assert content(output) == content(whole)
    assert run_forked(words)[0] == 0
    expected, found = content(whole.parent), content(output.parent)
    stray = {path for path in found.keys() - expected.keys() if not Path(path).name.startswith(".")}
    assert stray == set()
    if name in WHOLE_OR_MISSING:
        assert {path: found.get(path) for path in expected} == expected
    else:
        assert expected.keys() <= found.keys()
