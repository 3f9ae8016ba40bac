"""The bundled model's pipeline in small: raw corpora in; a model on the pretrained encoder out."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ABOVE_COPYING = 10.0
"""chrF++ of everyday sentences that are in no training text."""


@pytest.fixture(scope="module")
def finished(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the twin of the bundled model's pipeline from nothing."""
    out = tmp_path_factory.mktemp("mini-tiny") / "out"
    done = run(data_dir, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def run(data_dir: Path, out: Path) -> subprocess.CompletedProcess[str]:
    words = [f"variables.data={data_dir}", f"variables.flores={data_dir / 'flores200_dataset'}"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "nllb", "run", "mini-tiny", str(out), *words, "--workers", "1"],
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def everyday(folder: Path) -> dict[str, float]:
    with (folder / "pair_sets.tsv").open() as stream:
        return {
            row["direction"]: float(row["chrf"]) for row in csv.DictReader(stream, delimiter="\t")
        }


def test_everyday_sentences_are_translated_better_than_by_copying(finished: Path) -> None:
    copied = everyday(finished / "everyday-copying")
    scores = everyday(finished / "everyday")
    assert set(scores) == {"eng_Latn-rus_Cyrl", "rus_Cyrl-eng_Latn"}
    assert {name: score > copied[name] + ABOVE_COPYING for name, score in scores.items()} == (
        dict.fromkeys(scores, True)
    )


def test_held_out_sentences_are_in_no_training_text(finished: Path) -> None:
    from nllb.io.manifest import read_manifest
    from nllb.model.formats.open_model import open_model
    from nllb.training.batches.reader import held_out_text

    held_out = {
        line
        for path in (finished / "data/held_out_set").glob("*/*.txt")
        for line in path.read_text().splitlines()
    }
    assert len(held_out) == 200
    manifest = read_manifest(finished / "data/prepare")
    tokenizer = open_model(finished / "model").tokenizer()
    seen = {
        text
        for part in manifest.parts
        for shard in map(manifest.open, dict.fromkeys(part.files))
        for index in range(len(shard))
        for text in (
            tokenizer.decode(shard.source(index).tolist()),
            tokenizer.decode(shard.target(index).tolist()),
        )
    }
    assert len(seen) > 20_000 and not held_out & seen
    assert list(held_out_text(manifest, tokenizer, max_pairs=5))


def test_the_model_is_small_and_shares_the_encoder(finished: Path) -> None:
    names = {path.name for path in (finished / "model").iterdir()}
    assert "encoder" not in names and {"README.md", "nllb.json", "int8.safetensors"} <= names
    config = json.loads((finished / "model/config.json").read_text())
    assert config["model_type"] == "nllb-pretrained-encoder" and config["num_experts"] == 4
    assert (finished / "report.html").is_file()


def test_a_second_start_does_nothing(finished: Path, data_dir: Path) -> None:
    again = run(data_dir, finished)
    said = again.stdout + again.stderr
    assert again.returncode == 0 and said.count("already completed") == 9, said
