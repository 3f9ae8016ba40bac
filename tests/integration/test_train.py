"""`nllb train` from the command line: estimate, run, stop and resume, convert, translate."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nllb.cli import main

CONFIG = """
kind: train
data: {data}
model: {{architecture: moe-tiny, model_dim: 32}}
reader: {{max_tokens: 256, batches_per_step: 2, max_length: 80}}
optimizer: {{learning_rate: 0.01, warm_up_steps: 20}}
schedule:
  {{steps: 60, checkpoint_every: 20, validate_every: 30, translations: 2, log_every: 10}}
parallel: {{runner: plain}}
device: cpu
"""


@pytest.fixture
def config(token_data: Path, tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(data=token_data))
    return str(path)


def test_an_estimate_before_the_start(config: str, tmp_path: Path, capsys) -> None:
    assert main(["train", config, str(tmp_path / "run"), "--dry-run", "--json"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["steps"] == 60 and estimate["tokens_per_step"] == 512
    assert estimate["active_parameters"] < estimate["parameters"]
    assert not (tmp_path / "run").exists()
    big = ["model.architecture=moe-54b", "model.model_dim=null", "model.max_positions=512"]
    assert main(["train", config, str(tmp_path / "run"), *big, "--dry-run", "--json"]) == 0
    # Without NLLB's vocabulary of 256,206 rows: 54.5 billion less half a billion.
    assert json.loads(capsys.readouterr().out)["parameters"] == pytest.approx(54.0e9, rel=0.01)
    assert main(["train", config, str(tmp_path / "run"), "--dry-run"]) == 0
    assert "memory per rank" in capsys.readouterr().out


def test_errors_of_a_configuration_are_listed(config: str, tmp_path: Path, capsys) -> None:
    wrong = ["reader.max_tokens=10", "model.architecture=moe-huge", "schedule.step=4"]
    assert main(["train", config, str(tmp_path / "run"), *wrong]) == 2
    text = capsys.readouterr().err
    assert "must be at least max_length (80) to fit one pair" in text
    assert "'moe-huge' is unknown" in text and "did you mean steps?" in text


def test_missing_data_is_the_only_message(config: str, tmp_path: Path, capsys) -> None:
    assert main(["train", config, str(tmp_path / "run"), f"data={tmp_path / 'nowhere'}"]) == 1
    assert capsys.readouterr().err.startswith("nllb: the manifest ")


@pytest.mark.slow
def test_train_stop_resume_convert_translate(config: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "nllb", "train", config, str(out), "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # Many steps, so that the signal comes before the end.
    running = subprocess.Popen(
        [*command, "schedule.steps=100000"], env=environment, stderr=subprocess.PIPE, text=True
    )
    metrics = out / "metrics" / "train.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    _, error = running.communicate(timeout=120)
    assert running.returncode == 0 and "run the same command again to resume" in error
    stopped_at = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert [path.name for path in (out / "checkpoints").iterdir()][-1:]

    steps = f"schedule.steps={stopped_at + 10}"
    assert main(["train", config, str(out), steps, "--quiet", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ending"] == "finished" and result["step"] == stopped_at + 10
    valid = json.loads((out / "metrics" / "valid.jsonl").read_text().splitlines()[-1])
    assert set(valid["chrf_by_direction"]) == set(valid["loss_by_direction"])

    checkpoint = out / "checkpoints" / f"step_{stopped_at + 10:08d}"
    converted = tmp_path / "converted"
    assert main(["convert", str(checkpoint), str(converted), "--quiet", "--json"]) == 0
    capsys.readouterr()
    text = tmp_path / "text.txt"
    text.write_text("Italian\nEnglish French\n")
    languages = ["--source", "eng_Latn", "--target", "fra_Latn"]
    assert main(["translate", str(text), *languages, "--model", str(converted)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
