"""Small test sets, one per language with the same pivot: both directions are scored."""

from pathlib import Path

import pytest

from eval.flores.pair_sets import evaluate_pair_sets, open_pair_sets, summarize
from nllb.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for code in ("deu_Latn", "fra_Latn"):
        (tmp_path / "sets" / code).mkdir(parents=True)
        for name in (code, "eng_Latn"):
            text = "".join(f"{name} is line number {n}\n" for n in range(4))
            (tmp_path / "sets" / code / f"{name}.txt").write_text(text)
    return tmp_path / "sets"


def test_both_directions_are_scored_and_summed_up(folder: Path, tmp_path: Path) -> None:
    asked = []

    def translate(sentences, source: str, target: str) -> list[str]:
        asked.append((source, target))
        return [s.replace(source, target) for s in sentences] if target == "fra_Latn" else [""] * 3

    sets = open_pair_sets(folder, num_lines=3)
    scores = evaluate_pair_sets(sets, tmp_path / "out", translate=translate, made_by={"model": "m"})
    by_direction = {score.direction: score for score in scores}
    assert by_direction["eng_Latn-fra_Latn"].chrf == pytest.approx(100)
    assert by_direction["eng_Latn-deu_Latn"].empty == 3 and sets.pivot == "eng_Latn"
    assert (
        "all 2 languages: chrF++ 0.0 into eng_Latn, 50.0 from it"
        in list(summarize(sets, scores))[1]
    )
    assert (tmp_path / "out/pair_sets.tsv").read_text().count("\n") == 5
    evaluate_pair_sets(sets, tmp_path / "out", translate=translate, made_by={"model": "m"})
    assert len(asked) == 4  # nothing is translated twice


def test_a_folder_without_a_pivot_is_refused(folder: Path) -> None:
    (folder / "fra_Latn/eng_Latn.txt").rename(folder / "fra_Latn/spa_Latn.txt")
    with pytest.raises(DataError, match="with the same pivot"):
        open_pair_sets(folder)
