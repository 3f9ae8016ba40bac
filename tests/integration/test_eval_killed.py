"""`nllb eval flores --model` killed with -9: nothing is lost, nothing whole is done twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODES = ("eng_Latn", "fra_Latn", "deu_Latn")
LINES = 260
"""More than one window of lines, so that a kill falls inside a direction."""
DIRECTIONS = ("eng_Latn-fra_Latn", "fra_Latn-deu_Latn", "deu_Latn-fra_Latn")


@pytest.fixture
def command(tmp_path: Path, random_model_dir: Path) -> list[str]:
    (tmp_path / "set").mkdir()
    for code in CODES:
        lines = [f"{code[:3]} {number} {'xyz'[number % 3]}" for number in range(LINES)]
        (tmp_path / "set" / code).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [
        sys.executable, "-m", "nllb", "eval", "flores", "OUT", "--flores", str(tmp_path / "set"),
        "--model", str(random_model_dir), "--beam", "1", "--no-retry", "--threads", "1",
        "--workers", "1", "--quiet", "--metrics", "chrf++", "bleu", "--directions", *DIRECTIONS,
    ]  # fmt: skip


def into(command: list[str], out: Path) -> list[str]:
    return [str(out) if word == "OUT" else word for word in command]


def outputs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "outputs").glob("*.txt"))}


def scores(out: Path) -> dict:
    evaluation = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    for name in ("provenance", "outputs", "settings"):
        del evaluation[name]
    return evaluation


def kill_when(command: list[str], reached, environment: dict[str, str]) -> None:
    """Start the command, and kill it without warning once the condition is reached."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not reached():
            try:
                process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail("it ended before it could be killed")
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_changes_nothing(command, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    subprocess.run(into(command, quiet), env=environment, check=True, capture_output=True)
    assert len(outputs(quiet)) == len(DIRECTIONS)

    folder = killed / "outputs"
    moments = (
        lambda: any(part.stat().st_size for part in folder.glob("*.part")),  # inside a direction
        lambda: any(folder.glob("*.txt")),  # between directions
    )
    done: dict[str, int] = {}
    for reached in moments:
        kill_when(into(command, killed), reached, environment)
        assert not (killed / "evaluation.json").exists()
        for name, changed in done.items():
            assert (folder / name).stat().st_mtime_ns == changed, f"{name} was translated again"
        done = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.txt")}
    subprocess.run(into(command, killed), env=environment, check=True, capture_output=True)
    assert outputs(killed) == outputs(quiet)
    assert scores(killed) == scores(quiet)
    assert not list(folder.glob("*.part*"))
