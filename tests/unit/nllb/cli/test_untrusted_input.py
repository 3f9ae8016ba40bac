"""Verbs end with one message where an input takes all memory, or a model is of another kind."""

import json
from pathlib import Path

import pytest
import zstandard

from nllb.cli import main
from nllb.io.text import MAX_LINE_BYTES


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    path = tmp_path / "bomb.txt.zst"
    path.write_bytes(zstandard.compress(b"A line of text.\n" + b"x" * (2 * MAX_LINE_BYTES)))
    assert path.stat().st_size < 10_000
    return path


@pytest.mark.parametrize("verb", ["detect", "translate"])
def test_a_line_without_end(
    bomb: Path, random_model_dir: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    arguments = [verb, str(bomb)]
    if verb == "translate":
        arguments += ["--model", str(random_model_dir), "--source", "en", "--target", "fr"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert f"nllb: {bomb}:2: the line is longer than 16 MiB" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("verb", ["translate", "convert", "models"])
def test_a_model_of_another_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    name = str(tmp_path)
    arguments = {
        "translate": ["--model", name, "--source", "en", "--target", "fr", __file__],
        "convert": [name, str(tmp_path / "out")],
        "models": [name],
    }[verb]
    assert main([verb, *arguments]) == 2
    assert "it is a PEFT adapter" in capsys.readouterr().err


def test_settings_that_are_damaged_end_before_a_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nllb.json").write_text('{"added_languages": [[]]}')
    arguments = ["--model", str(tmp_path), "--source", "en", "--target", "fr", __file__]
    assert main(["translate", *arguments]) == 2
    assert "nllb.json: added_languages" in capsys.readouterr().err
