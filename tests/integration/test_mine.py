"""`nllb data mine` and `nllb data xsim` from files to files: shards, resume, bad input."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyarrow import parquet

from nllb.cli import main

WORDS = [
    f"{a}{b}{c}"
    for a in ("be", "ki", "lo", "mu", "sta")
    for b in "dgmnr"
    for c in ("as", "en", "ol", "u")
]


def make_lines(count: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=9)) + f" {seed}{n}." for n in range(count)]


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an encoder with a random table: equal words are near, others are not."""
    import numpy
    import torch

    from data_pipeline.mining.encoders.static_encoder import save_encoder

    folder = tmp_path_factory.mktemp("encoder")
    table = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))
    owners = numpy.arange(100, dtype=numpy.int32)
    save_encoder(folder, table=table, owners=owners, card={"name": "random"})
    return folder


@pytest.fixture
def config_path(tmp_path: Path, encoder_dir: Path) -> Path:
    """Return a configuration: 60 pairs hidden among ten times as many other lines."""
    shared = make_lines(60, 1)
    others = make_lines(600, 2), make_lines(600, 3)
    # The target's twin of a line has one word more; a line that stands twice is found once.
    sources = shared + others[0] + shared[:10]
    targets = [f"again {line}" for line in shared] + others[1]
    random.Random(0).shuffle(sources)
    random.Random(1).shuffle(targets)
    (tmp_path / "source.txt").write_text("\n".join([*sources, "", "  "]) + "\n", encoding="utf-8")
    (tmp_path / "target.txt").write_text("\n".join(targets) + "\n", encoding="utf-8")
    config: dict[str, Any] = {
        "kind": "mine",
        "data_dir": str(tmp_path),
        "encoder": str(encoder_dir),
        "text": [
            {"language": "fra_Latn", "path": "source.txt"},
            {"language": "eng_Latn", "path": "target.txt"},
        ],
        "pairs": [{"source": "fra_Latn", "target": "eng_Latn"}],
        "neighbours": 4,
        "threshold": 1.2,
        "block_sentences": 200,
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def mined(out: Path) -> Path:
    (path,) = (out / "mined").glob("*.parquet")
    return path


def test_hidden_pairs_are_found_in_the_projects_form(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["data", "mine", str(config_path), str(out), "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sentences"] == [660, 660]
    table = parquet.read_table(mined(out))
    right = sum(
        target == f"again {source}"
        for source, target in zip(
            table["source"].to_pylist(), table["target"].to_pylist(), strict=True
        )
    )
    assert right >= 58
    assert right >= 0.95 * len(table)
    assert len(table) == result["pairs"]
    assert set(table["origin"].to_pylist()) == {"mined"}
    assert set(table["source_language"].to_pylist()) == {"fra_Latn"}
    margins = table["margin"].to_pylist()
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] >= 1.2
    lines = (config_path.parent / "source.txt").read_text(encoding="utf-8").split("\n")
    for source, line in zip(
        table["source"].to_pylist(), table["source_line"].to_pylist(), strict=True
    ):
        assert lines[line - 1].strip() == source


def test_shards_in_any_order_and_a_second_start_give_the_same(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["data", "mine", str(config_path), str(whole), "--quiet"]) == 0
    for phase in ("text", "embed", "index", "search", "pairs"):
        for shard in ("3/3", "1/3", "2/3"):
            arguments = ["--phase", phase, "--shard", shard, "--quiet"]
            assert main(["data", "mine", str(config_path), str(parts), *arguments]) == 0
    assert mined(whole).name == mined(parts).name
    assert mined(whole).read_bytes() == mined(parts).read_bytes()
    before = {
        path: path.stat().st_mtime_ns for path in whole.rglob("*.*") if path.suffix != ".yaml"
    }
    # What is missing is made again, and nothing else.
    mined(whole).unlink()
    assert main(["data", "mine", str(config_path), str(whole), "--quiet"]) == 0
    after = {path: path.stat().st_mtime_ns for path in whole.rglob("*.*") if path.suffix != ".yaml"}
    assert after.keys() == before.keys()
    assert {path.parent.name for path in after if after[path] != before[path]} == {"mined"}
    capsys.readouterr()


def test_an_index_changes_little(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def pairs(name: str, *overrides: str) -> set[tuple[str, str]]:
        out = tmp_path / name
        assert main(["data", "mine", str(config_path), str(out), *overrides, "--quiet"]) == 0
        table = parquet.read_table(mined(out))
        return set(zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True))

    exact = pairs("exact", "index=exact")
    found = pairs("index", "index=IVF16,SQ8", "probes=8")
    assert len(exact) >= 58
    assert len(exact & found) >= 0.95 * len(exact)
    capsys.readouterr()


def test_documents_of_the_same_name_are_aligned(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = make_lines(12, 7)
    for code in ("fra_Latn", "eng_Latn"):
        (tmp_path / code).mkdir()
    (tmp_path / "fra_Latn" / "a.txt").write_text("\n\n".join(lines[:8]), encoding="utf-8")
    english = [*lines[:3], f"{lines[3]} {lines[4]}", *lines[5:8]]
    (tmp_path / "eng_Latn" / "a.txt").write_text("\n".join(english), encoding="utf-8")
    for code in ("fra_Latn", "eng_Latn"):
        (tmp_path / code / "b.txt").write_text("\n".join(lines[8:]), encoding="utf-8")
    config = yaml.safe_load(config_path.read_text(encoding="utf-8"))
    config["documents"] = True
    for section in config["text"]:
        section["path"] = f"{section['language']}/*.txt"
    config_path.write_text(yaml.safe_dump(config), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["data", "mine", str(config_path), str(out), "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["documents"], result["sentences"], result["pairs"]) == (2, [12, 11], 11)
    table = parquet.read_table(mined(out))
    assert table["source"].to_pylist() == table["target"].to_pylist()
    assert table["source_line"].to_pylist() == [1, 3, 5, 7, 11, 13, 15, 1, 2, 3, 4]
    assert table["source_file"].to_pylist() == ["a.txt"] * 7 + ["b.txt"] * 4
    (tmp_path / "eng_Latn" / "a.txt").rename(tmp_path / "eng_Latn" / "c.txt")
    (tmp_path / "eng_Latn" / "b.txt").unlink()
    assert main(["data", "mine", str(config_path), str(out), "--quiet"]) == 1
    assert "do not share any document" in capsys.readouterr().err


def test_a_phase_too_early_and_missing_text_are_errors(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["data", "mine", str(config_path), str(out), "--phase", "search", "--quiet"]) == 1
    assert "phase 'text' are missing" in capsys.readouterr().err
    (config_path.parent / "target.txt").unlink()
    assert main(["data", "mine", str(config_path), str(out), "--quiet"]) == 1
    assert "no text of eng_Latn" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "\n\n", "one line only\n"])
def test_an_empty_or_tiny_side_gives_what_there_is(
    config_path: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (config_path.parent / "target.txt").write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    assert main(["data", "mine", str(config_path), str(out), "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sentences"][1] == len(text.split("\n")[0:1]) * bool(text.strip())
    assert parquet.read_table(mined(out)).num_rows == result["pairs"] <= 1


def test_xsim_of_two_files_and_of_a_set(
    tmp_path: Path, encoder_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    lines = make_lines(80, 4)
    (folder / "eng_Latn").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "fra_Latn").write_text("".join(f"le {line}\n" for line in lines), encoding="utf-8")
    # Another order: nothing but chance is found.
    (folder / "deu_Latn").write_text(
        "".join(f"{line}\n" for line in lines[1:] + lines[:1]), encoding="utf-8"
    )
    files = ["--source", str(folder / "fra_Latn"), "--target", str(folder / "eng_Latn")]
    assert main(["data", "xsim", "--encoder", str(encoder_dir), *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "sentences": 80,
        "forward": 0.0,
        "backward": 0.0,
    }
    config = {
        "kind": "xsim",
        "directory": str(folder),
        "pivot": "eng_Latn",
        "encoder": str(encoder_dir),
    }
    path = tmp_path / "xsim.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["data", "xsim", str(path), str(out), "--json", "--quiet"]) == 0
    capsys.readouterr()
    report = json.loads((out / "xsim.json").read_text(encoding="utf-8"))
    errors = {row["language"]: row["forward"] for row in report["languages"]}
    assert errors == {"deu_Latn": 1.0, "fra_Latn": 0.0}
    page = (out / "xsim.html").read_text(encoding="utf-8")
    assert "deu_Latn" in page
    assert "100.00" in page
    assert main(["data", "xsim", "--source", str(folder / "fra_Latn")]) == 2
    assert "--source F and --target F" in capsys.readouterr().err


def test_mining_uses_the_threshold_that_is_stored_with_the_encoder(
    config_path: Path,
    tmp_path: Path,
    encoder_dir: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from data_pipeline.mining.calibration import (
        Calibration,
        OperatingPoint,
        PoolPoint,
        save_calibration,
    )
    from data_pipeline.mining.encoders.load_encoder import load_encoder

    def run(name: str, *overrides: str) -> dict[str, Any]:
        out = tmp_path / name
        arguments = ["data", "mine", str(config_path), str(out), "threshold=null", *overrides]
        assert main([*arguments, "--json", "--quiet"]) == 0
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    assert run("without")["threshold"] == 1.06
    assert "is not calibrated" in caplog.text
    arguments = ["data", "mine", str(config_path), str(tmp_path / "x"), "threshold=null"]
    assert main([*arguments, "margin=distance", "--quiet"]) == 2
    assert "`threshold` must be set" in capsys.readouterr().err
    encoder = load_encoder(encoder_dir)
    points = [
        PoolPoint(threshold=value, precision=0.9, recall=0.8, f1=0.85, sentences=size, languages=2)
        for value, size in ((1.2, 100), (1.4, 660), (1.6, 9000))
    ]
    calibration = Calibration(
        encoder=encoder.name,
        key=encoder.key,
        text="own",
        margins={"ratio/4": tuple(points)},
        similarity=OperatingPoint(threshold=0.5),
    )
    path = encoder_dir / "calibration.json"
    save_calibration(calibration, path)
    try:
        result = run("with")
        assert result["threshold"] == 1.4
        assert (result["calibrated_precision"], result["calibrated_recall"]) == (0.9, 0.8)
        assert run("fixed", "threshold=1.3")["threshold"] == 1.3
    finally:
        path.unlink()
