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
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from nllb.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
READ_ONLY = Path("/sys/kernel")
LINES = 400


@dataclass(frozen=True)
class Case:
    """A verb with the arguments that precede and follow its output."""

    words: Callable[[Path], list[str]]
    """The arguments, given the folder of inputs; `OUT` stands for the output."""
    output: str = "output"
    """Name of the output."""


def _translate(inputs: Path) -> list[str]:
    model = ["--model", str(inputs / "model"), "--dtype", "float32", "--threads", "1"]
    languages = ["-s", "en", "-t", "fr", "--no-retry", "--beam", "1", "-q"]
    return ["translate", str(inputs / "few.txt"), *model, *languages, "-o", "OUT"]


def _stage(verb: str) -> Callable[[Path], list[str]]:
    return lambda inputs: ["data", verb, str(inputs / "data.yaml"), "OUT", "--quiet"]


CASES = {
    "detect": Case(lambda i: ["detect", str(i / "text.txt"), "-o", "OUT"]),
    "translate": Case(_translate),
    "convert": Case(lambda i: ["convert", str(i / "model"), "OUT", "--quiet"]),
    "eval flores": Case(
        lambda i: [
            *("eval", "flores", "OUT"),
            *flores_words(i),
        ]
    ),
    "eval report": Case(
        lambda i: ["eval", "report", str(i / "scores"), "OUT", "--quiet"], output="report.html"
    ),
    "eval xsts sheet": Case(
        lambda i: ["eval", "xsts", "sheet", str(i / "items.csv"), "OUT", "--raters", "a", "b", "c"]
    ),
    "data ingest": Case(_stage("ingest")),
    "train": Case(lambda i: ["train", str(i / "train.yaml"), "OUT", "--quiet"]),
    "slurm submit": Case(
        lambda i: ["slurm", "submit", "local", "--run-dir", "OUT", "--", "nllb", "languages"]
    ),
}


@pytest.fixture(scope="module")
def inputs(random_model_dir: Path, token_data: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copytree(random_model_dir, folder / "model")
    shutil.copytree(token_data, folder / "shards")
    draw = random.Random(0)
    words = "the house is small and an old man lives in it by the river".split()
    lines = [" ".join(draw.choices(words, k=8)) + f" {number}." for number in range(LINES)]
    (folder / "text.txt").write_text("\n".join(lines) + "\n")
    (folder / "few.txt").write_text("\n".join(lines[:20]) + "\n")
    for name in ("set", "outputs", "raw"):
        (folder / name).mkdir()
    for code in ("eng_Latn", "fra_Latn"):
        (folder / "set" / code).write_text("\n".join(lines) + "\n")
    (folder / "outputs" / "eng_Latn-fra_Latn.txt").write_text("\n".join(lines) + "\n")
    rows = [f"{line}\t{line}" for line in lines]
    (folder / "raw" / "eng_Latn-fra_Latn.tsv").write_text("\n".join(rows) + "\n")
    (folder / "data.yaml").write_text(
        f"kind: data\ndata_dir: {folder}\ncorpora:\n  - name: own\n    format: tsv\n"
        "    path: raw/{source}-{target}.tsv\n    licence: MIT\n"
        "    languages: [eng_Latn, fra_Latn]\ndecontamination: []\n"
    )
    (folder / "train.yaml").write_text(
        f"kind: train\ndata: {folder / 'shards'}\n"
        "model: {architecture: moe-tiny, model_dim: 32, heads: 2, ffn_dim: 64}\n"
        "reader: {max_tokens: 160, batches_per_step: 1, max_length: 80}\n"
        "schedule: {steps: 4, checkpoint_every: 2, validate_every: 4, log_every: 1}\n"
        "parallel: {runner: plain}\ndevice: cpu\n"
    )
    header = "item_id,system,src_lang,tgt_lang,src_text,tgt_text\n"
    items = [f"i{n},s,eng_Latn,fra_Latn,{line},{line}\n" for n, line in enumerate(lines)]
    (folder / "items.csv").write_text(header + "".join(items))
    assert run_forked(["eval", "flores", str(folder / "scores"), *flores_words(folder)])[0] == 0
    return folder


def flores_words(folder: Path) -> list[str]:
    words = ["--outputs", str(folder / "outputs"), "--flores", str(folder / "set")]
    return [*words, "--workers", "1", "--quiet"]


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


def words_of(name: str, inputs: Path, output: Path) -> list[str]:
    return [str(output) if word == "OUT" else word for word in CASES[name].words(inputs)]


def test_the_verbs_run_where_there_is_room(inputs, tmp_path) -> None:
    for name, case in CASES.items():
        code, said = run_forked(words_of(name, inputs, tmp_path / name / case.output))
        assert code == 0, (name, said)


@pytest.mark.parametrize("name", list(CASES))
def test_a_full_disk(name, inputs, tmp_path) -> None:
    output = tmp_path / CASES[name].output
    code, said = run_forked(words_of(name, inputs, output), max_file_bytes=2000)
    assert (code in (1, 2)) and "Traceback" not in said, said
    assert "File too large" in said or "cannot write" in said
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    # Translations resume from their partial output.
    assert name == "translate" or not list(tmp_path.rglob("*.part"))


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
