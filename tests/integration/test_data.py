"""The whole pipeline by its commands: killed at any moment it ends where it would have ended."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nllb.cli import main
from nllb.io.manifest import read_manifest

CONFIG = """
kind: data
data_dir: {data_dir}
block_lines: 60
corpora:
  - {{name: first, format: tsv, path: "first/{{source}}-{{target}}.tsv", licence: CC0}}
  - {{name: second, format: moses, path: "second/{{source}}-{{target}}.{{language}}", licence: CC0}}
  - {{name: third, format: tsv, path: "first/{{source}}-{{target}}.tsv", max_rows: 50}}
decontamination:
  - {{name: own, path: evaluation}}
filter: {{preset: strict}}
dedup:
  passes: [{{by: pair}}, {{by: target, max_copies: 2}}]
monolingual:
  corpora: [{{name: docs, format: lines, path: "docs.{{language}}"}}]
  denoising: true
prepare:
  vocabulary: {{size: 60, name: "spm:standin"}}
  held_out_fraction: 0.05
"""
WORDS = {
    "eng_Latn": "the a small old red house tree river sings sees under over near it she".split(),
    "fra_Latn": "la un petit vieux rouge maison arbre rivière chante voit sous sur près".split(),
    "deu_Latn": "die ein kleines altes rotes haus baum fluss singt sieht unter über es".split(),
}


@pytest.fixture(scope="module")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    generator = random.Random(7)

    def sentence(code: str) -> str:
        return " ".join(generator.choices(WORDS[code], k=7)) + "."

    for name in ("first", "second", "evaluation"):
        (folder / name).mkdir()
    pairs = {
        code: [(sentence("eng_Latn"), sentence(code)) for _ in range(300)]
        for code in ("deu_Latn", "fra_Latn")
    }
    for code, rows in pairs.items():
        text = "".join(f"{source}\t{target}\n" for source, target in [*rows, *rows[:40]])
        (folder / "first" / f"eng_Latn-{code}.tsv").write_text(text, encoding="utf-8")
        for side, language in enumerate(("eng_Latn", code)):
            lines = [row[side] for row in rows[100:200]] + [
                f"{sentence(language)}" for _ in range(90)
            ]
            path = folder / "second" / f"eng_Latn-{code}.{language}"
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    held = [pairs["fra_Latn"][number][0] for number in (3, 77)] + [pairs["deu_Latn"][5][1]]
    (folder / "evaluation" / "mixed").write_text("\n".join(held) + "\n", encoding="utf-8")
    documents = "\n".join(f"{sentence('eng_Latn')} {sentence('eng_Latn')}" for _ in range(50))
    (folder / "docs.eng_Latn").write_text(documents + "\n", encoding="utf-8")
    (folder / "run.yaml").write_text(CONFIG.format(data_dir=folder), encoding="utf-8")
    return folder


def results(out: Path) -> dict[str, str]:
    """Return the hash of everything that a run has made, but what says when."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "hashes" not in path.parts
    }


@pytest.fixture(scope="module")
def finished(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert main(["data", "run", str(corpus_dir / "run.yaml"), str(out), "--quiet"]) == 0
    return out


def test_a_run_gives_shards_that_training_reads(finished: Path, corpus_dir: Path) -> None:
    manifest = read_manifest(finished / "prepare")
    manifest.verify()
    assert {entry.name for entry in manifest.directions} == {
        "deu_Latn-eng_Latn",
        "eng_Latn-deu_Latn",
        "eng_Latn-fra_Latn",
        "fra_Latn-eng_Latn",
        "eng_Latn-eng_Latn",
    }
    report = json.loads((finished / "stats" / "stats.json").read_text())
    stages = {row["stage"]: row for row in report["stages"]}
    assert stages["clean"]["rows_in"] == 2 * (340 + 190 + 50)
    for before, after in (("clean", "filter"), ("filter", "dedup"), ("dedup", "decontaminate")):
        assert stages[before]["rows_out"] == stages[after]["rows_in"]
    for row in stages.values():
        assert row["rows_in"] - row["rows_out"] == sum(row["reasons"].values())
    # 40 repeated in the file, 50 read again as the third corpus; the second's targets move against
    # its sources for half of its lines, so those are no duplicates.
    assert stages["dedup"]["reasons"]["duplicate_pair"] >= 2 * (40 + 50)
    assert stages["decontaminate"]["reasons"]["evaluation_whole"] >= 3
    pairs = sum(part.num_pairs for part in manifest.parts if part.origin == "primary")
    assert pairs == stages["decontaminate"]["rows_out"]
    page = (finished / "stats" / "stats.html").read_text()
    assert "duplicate_pair" in page and "Toxicity was not measured" in page
    assert (finished / "config.yaml").exists()


def test_workers_change_nothing(finished: Path, corpus_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["data", "run", str(corpus_dir / "run.yaml"), str(out), "--quiet"]
    assert main([*arguments, "--workers", "2", "--memory", "64KiB"]) == 0
    ours, theirs = results(out), results(finished)
    merged = {name for name in ours if "/merge/" in name}
    assert len(merged) > 6, "so little memory must part the hashes"
    assert {name: ours[name] for name in ours.keys() - merged} == {
        name: theirs[name] for name in theirs if "/merge/" not in name
    }


@pytest.mark.slow
def test_kill_9_at_any_moment_changes_nothing(
    finished: Path, corpus_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "nllb", "data", "run", str(corpus_dir / "run.yaml"), str(out)]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    generator = random.Random(11)
    kills = 0
    for goal in sorted(generator.sample(range(5, len(results(finished)) - 5), 5)):
        process = subprocess.Popen(
            [*command, "--quiet"], env=environment, stdout=subprocess.DEVNULL
        )
        # The moment is counted in files written, which a loaded machine does not move.
        while process.poll() is None and sum(1 for _ in out.rglob("*")) < goal:
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 3
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert stamps
    subprocess.run([*command, "--quiet"], env=environment, check=True, stdout=subprocess.DEVNULL)
    ours = {name: value for name, value in results(out).items() if not _is_left_over(name)}
    assert ours == results(finished)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def _is_left_over(name: str) -> bool:
    """Say whether a file is the half-written one of a killed process, which nothing reads."""
    return any(part.startswith(".") for part in name.split("/"))


def test_stages_one_by_one_and_in_shards(
    finished: Path, corpus_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    config = str(corpus_dir / "run.yaml")

    def stage(*words: str) -> list[dict[str, Any]]:
        arguments = [words[0], config, str(out), *words[1:]]
        assert main(["data", *arguments, "--quiet", "--json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert main(["data", "filter", config, str(out), "--quiet"]) == 1
    assert "nllb data ingest" in capsys.readouterr().err
    for name in ("ingest", "clean"):
        for shard in ("2/3", "1/3", "3/3"):
            (result,) = stage(name, "--shard", shard)
    assert result["finished"] == result["blocks"]
    for shard in ("1/2", "2/2"):
        stage("filter", "--shard", shard)
    for name in ("monolingual", "dedup"):
        assert main(["data", name, config, str(out), "--quiet", "--shard", "1/2"]) == 2
        assert "then with --phase merge" in capsys.readouterr().err
    for phase in ("split", "runs", "merge", "apply"):
        for shard in ("2/2", "1/2"):
            stage("monolingual", "--phase", phase, "--shard", shard)
    for phase in ("runs", "merge", "runs", "merge", "apply"):
        for shard in ("2/2", "1/2"):
            stage("dedup", "--phase", phase, "--shard", shard)
    # The deprecated name of the verb writes the same files.
    stage("decontaminate", "--shard", "1/2")
    stage("shield", "--shard", "2/2")
    assert stage("prepare", "--shard", "1/2")[0]["manifest"] is None
    assert stage("prepare", "--shard", "2/2")[0]["manifest"] is not None
    stage("stats")
    theirs = {name: value for name, value in results(finished).items() if "/" in name}
    assert results(out) == theirs


def test_a_dry_run_reads_nothing(
    corpus_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    config = str(corpus_dir / "run.yaml")
    assert main(["data", "run", config, str(out), "--dry-run", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["source"] for row in rows][:2] == [
        "first/eng_Latn-deu_Latn",
        "first/eng_Latn-fra_Latn",
    ]
    assert len(rows) == 7 and not out.exists()


@pytest.mark.slow
def test_the_shipped_tiny_run_on_real_data(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    overrides = [f"data_dir={data_dir}", "block_lines=4000"]
    assert main(["data", "run", "full-tiny", str(out), *overrides, "--quiet"]) == 0
    manifest = read_manifest(out / "prepare")
    manifest.verify()
    assert len(manifest.directions) == 18
    assert len(manifest.phases[0].directions) < len(manifest.phases[1].directions)
    report = json.loads((out / "stats" / "stats.json").read_text())
    bitext = [row for row in report["ingestion"] if row["corpus"] != "udhr"]
    read = sum(row["rows_read"] for row in bitext)
    assert report["stages"][0]["rows_in"] == read > 15_000


def test_a_run_of_monolingual_text_alone(
    corpus_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(
        f"kind: data\ndata_dir: {corpus_dir}\ncorpora: []\ndecontamination: []\n"
        'monolingual: {corpora: [{name: docs, format: lines, path: "docs.{language}"}]}\n'
    )
    out = tmp_path / "out"
    assert main(["data", "run", str(config), str(out), "--quiet", "--json"]) == 0
    rows = {row["stage"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["monolingual"]["finished"] == 1
    assert rows["prepare"]["manifest"] is None and "neither bitext" in rows["prepare"]["skipped"]
    assert list((out / "monolingual" / "sentences" / "eng_Latn").glob("*.parquet"))
    assert json.loads((out / "stats" / "stats.json").read_text())["manifest"] is None


@pytest.mark.parametrize("preset", ["strict", "reference"])
def test_a_shard_has_the_bytes_of_the_whole_run(
    data_dir: Path, tmp_path: Path, preset: str
) -> None:
    """With language identification, which caches what it has detected in earlier blocks."""
    config = tmp_path / "own.yaml"
    config.write_text(
        f"kind: data\ndata_dir: {data_dir}\nblock_lines: 150\ndecontamination: []\n"
        "corpora: [{name: seed, format: layout, path: nllb_seed, max_rows: 450,\n"
        "  languages: [eng_Latn, fur_Latn, lij_Latn, scn_Latn]}]\n"
        f"filter: {{preset: {preset}, language: {{threshold: 0.5}}}}\n"
    )
    whole, shard = tmp_path / "whole", tmp_path / "shard"
    for stage in ("ingest", "clean", "filter"):
        assert main(["data", stage, str(config), str(whole), "--quiet"]) == 0
    for stage in ("ingest", "clean"):
        assert main(["data", stage, str(config), str(shard), "--quiet"]) == 0
    for number in ("3/3", "1/3", "2/3"):
        assert main(["data", "filter", str(config), str(shard), "--quiet", "--shard", number]) == 0
    hashes = [
        {name: value for name, value in results(out).items() if name.startswith("filter/")}
        for out in (whole, shard)
    ]
    assert len(hashes[0]) == 9
    assert hashes[0] == hashes[1]
