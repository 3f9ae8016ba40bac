"""The whole way in one command: raw corpora in, mining, training, scores, card and page out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ABOVE_COPYING = 4.0
"""chrF++ on held-out lines; a run had 10 and 14 above."""


def run(data_dir: Path, out: Path) -> subprocess.CompletedProcess[str]:
    words = [f"variables.data={data_dir}", f"variables.flores={data_dir / 'flores200_dataset'}"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "nllb",
            "run",
            "nllb-small-tiny",
            str(out),
            *words,
            "--workers",
            "1",
        ],
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def check_held_out_lines_are_translated_better_than_by_copying(finished: Path) -> None:
    from sacrebleu.metrics.chrf import CHRF

    from nllb.io.manifest import read_manifest
    from nllb.model.formats.open_model import open_model
    from nllb.training.batches.reader import held_out_text

    last = json.loads((finished / "train/metrics/valid.jsonl").read_text().splitlines()[-1])
    manifest = read_manifest(finished / "data/prepare")
    tokenizer = open_model(finished / "train/model").tokenizer()
    texts = list(held_out_text(manifest, tokenizer, max_pairs=100))
    assert len(texts) == 2
    for direction, sources, references in texts:
        copying = CHRF(word_order=2).corpus_score(sources, [references]).score
        assert last["chrf_by_direction"][direction.name] > copying + ABOVE_COPYING


def check_mined_sentences_are_part_of_it_and_no_evaluation_sentence_is(finished: Path) -> None:
    statistics = json.loads((finished / "data/stats/stats.json").read_text())
    corpora = {each["corpus"]: each["pairs"] for each in statistics["manifest"]["corpora"]}
    assert corpora["mined"] >= 20 and corpora["tatoeba"] > 10_000
    assert statistics["shield"]["by_set"]["laser_tatoeba, whole"] > 500


def check_the_card_tells_what_was_done(finished: Path) -> None:
    card = (finished / "model/README.md").read_text()
    for said in (
        "| tatoeba | primary | CC BY 2.0 FR |",
        "Toxicity: **not measurable**",
        "450 steps",
    ):
        assert said in card
    settings = json.loads((finished / "model/nllb.json").read_text())
    assert settings["licence"] == "CC BY-SA 4.0"
    assert settings["evaluation"]["search"].startswith("beam 1")
    assert str(finished) not in card + json.dumps(settings)
    header, *rows = (finished / "model/scores.tsv").read_text().splitlines()[1:]
    assert len(rows) == 2 and "copying.chrf++" in header.split("\t")
    page = (finished / "report.html").read_text()
    assert "eng_Latn" in page and "copying the source" in page


def check_a_second_start_does_nothing(finished: Path, data_dir: Path) -> None:
    again = run(data_dir, finished)
    said = again.stdout + again.stderr
    assert again.returncode == 0 and said.count("already completed") == 11, said


def test_one_command_goes_from_corpora_to_the_report(data_dir: Path, tmp_path: Path) -> None:
    """Run the pipeline from nothing; one test, because it takes minutes on each worker."""
    out = tmp_path / "out"
    done = run(data_dir, out)
    assert done.returncode == 0, done.stdout + done.stderr
    check_held_out_lines_are_translated_better_than_by_copying(out)
    check_mined_sentences_are_part_of_it_and_no_evaluation_sentence_is(out)
    check_the_card_tells_what_was_done(out)
    check_a_second_start_does_nothing(out, data_dir)
