"""`nllb convert` and `nllb models` as commands."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from nllb.cli import main
from nllb.model.formats.open_model import load_model, open_model


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def run(capsys, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_convert_and_use(random_model_dir, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    planned, said, _ = run(capsys, "convert", random_model_dir, out, "--dry-run", "--json")
    assert planned == 0
    assert json.loads(said)["state"] == "planned"
    assert not out.exists()
    code, said, talk = run(capsys, "convert", random_model_dir, out, "--dtype", "int8", "--json")
    assert code == 0
    answer = json.loads(said)
    assert (answer["storage"], answer["state"]) == ("int8", "written")
    assert answer["bytes"] == open_model(out).num_bytes
    assert "convert to int8" in talk
    source = torch.tensor([[900, 20, 30, 2]])
    with torch.no_grad():
        exact = load_model(open_model(random_model_dir))(source, source)
        near = load_model(open_model(out))(source, source)
    assert torch.corrcoef(torch.stack([exact.flatten(), near.flatten()]))[0, 1] > 0.99
    code, said, _ = run(capsys, "convert", random_model_dir, out, "--dtype", "int8", "--quiet")
    assert (code, said.endswith(": already there\n")) == (0, True)
    code, _, talk = run(capsys, "convert", random_model_dir, out)
    assert code == 2
    assert "already contains a model" in talk


def test_the_shortlists_travel_along(random_model_dir, tmp_path, capsys) -> None:
    source = Path(shutil.copytree(random_model_dir, tmp_path / "source"))
    (source / "shortlists.safetensors").write_bytes(b"lists")
    settings = json.loads((source / "nllb.json").read_text())
    (source / "nllb.json").write_text(json.dumps(settings | {"shortlists": {"fra_Latn": 1}}))
    assert run(capsys, "convert", source, tmp_path / "out", "--quiet")[0] == 0
    assert (tmp_path / "out" / "shortlists.safetensors").read_bytes() == b"lists"
    assert open_model(tmp_path / "out").settings["shortlists"] == {"fra_Latn": 1}


def test_models_lists_the_published_ones(capsys) -> None:
    code, said, _ = run(capsys, "models")
    assert code == 0
    assert said.count("CC-BY-NC-4.0  not downloaded") == 5
    assert "facebook/nllb-moe-54b" in said
    assert "language identification" in said and "sentence encoder for mining" in said
    rows = [json.loads(line) for line in run(capsys, "models", "--json")[1].splitlines()]
    rows = [row for row in rows if row["state"] != "ships"]
    assert [row["name"] for row in rows if row["experts"]] == ["facebook/nllb-moe-54b"]
    small = rows[0]
    assert small["parameters"] == 615_073_792
    assert small["disk_bytes"] == 615_073_792 * 4
    assert small["memory_bytes"]["int8"] < 1.2e9 < small["memory_bytes"]["bfloat16"]


def test_models_lists_what_ships(random_model_dir, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("nllb.model.shipped.SHIPPED_DIR", tmp_path)
    assert not any(
        json.loads(line)["state"] == "ships"
        for line in run(capsys, "models", "--json")[1].splitlines()
    )
    shutil.copytree(random_model_dir, tmp_path / "mini")
    said = run(capsys, "models")[1].splitlines()[1].split()
    assert (said[0], said[-1]) == ("mini", "ships")
    row = json.loads(run(capsys, "models", "mini", "--json")[1])
    assert (row["name"], row["licence"], row["state"]) == ("mini", "MIT", "ships")
    assert row["memory_bytes"]["int8"] > row["disk_bytes"] / 4


def test_models_describes_one(random_model_dir, capsys) -> None:
    code, said, _ = run(capsys, "models", random_model_dir, "--json")
    row = json.loads(said)
    assert (code, row["licence"], row["languages"], row["state"]) == (0, "MIT", 202, "here")
    raw = (random_model_dir / "model.safetensors").read_bytes()
    assert row["disk_bytes"] == len(raw) - 8 - int.from_bytes(raw[:8], "little")
    assert "licence of the weights: CC-BY-NC-4.0" in run(capsys, "models", "nllb-200-3.3B")[1]
    code, _, talk = run(capsys, "models", "nllb-200-33B")
    assert code == 2
    assert "did you mean facebook/nllb-200-3.3B" in talk


def test_what_cannot_be_converted(tmp_path, capsys) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "marian"}')
    code, out, talk = run(capsys, "convert", tmp_path, tmp_path / "out")
    assert (code, out) == (2, "")
    assert "'marian'; supported are" in talk
    code, _, talk = run(capsys, "convert", "someone/else", tmp_path / "out")
    assert code == 2
    assert "is not in the cache" in talk


def test_the_bundled_model_ships(capsys) -> None:
    from nllb.model.shipped import SHIPPED_DIR

    if not (SHIPPED_DIR / "mini" / "config.json").is_file():
        pytest.skip("this installation has no bundled model")
    for words in (["models", "--json"], ["models", "mini", "--json"]):
        rows = [json.loads(line) for line in run(capsys, *words)[1].splitlines()]
        assert {row["name"]: row["state"] for row in rows}["mini"] == "ships"
    said = run(capsys, "models", "mini")[1]
    assert "ships" in said and str(SHIPPED_DIR / "mini") in said
