from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from lid.detector import Detector
from lid.evaluate.lid_report import as_text, write_report
from lid.evaluate.measure import evaluate, first_words, read_labelled, read_out_of_set
from lid.identifier_card import ModelCard, read_card, write_card
from nllb.errors import DataError
from nllb.languages.detection import Detection


class EchoDetector:
    """Returns the labels in the text as its answer: `fra_Latn`, or `und fra_Latn` if rejected."""

    labels = ("eng_Latn", "fra_Latn", "bos_Latn", "hrv_Latn")
    card = ModelCard(name="echo", foreign=["xxb"])

    def detect_batch(self, texts: Sequence[str]) -> list[Detection]:
        answers = []
        for text in texts:
            first, *rest = text.split() or ["und"]
            best = tuple((label, 0.4) for label in rest)
            answers.append(Detection(language=first, probability=0.4, alternatives=best))
        return answers


DETECTOR = cast(Detector, EchoDetector())
TEXT = {
    "eng_Latn": ["eng_Latn"] * 8 + ["fra_Latn", "und eng_Latn"],
    "fra_Latn": ["fra_Latn"] * 10,
    "bos_Latn": ["hrv_Latn"] * 10,
    "hrv_Latn": ["hrv_Latn"] * 10,
    "luo_Latn": ["eng_Latn"] * 10,
}


def test_metrics_follow_their_definitions() -> None:
    result = evaluate(DETECTOR, TEXT, cuts=(None,), quiet=True)
    (full,) = result.cuts
    by_label = {score.label: score for score in result.labels}
    assert result.missing == ["luo_Latn"]
    english = by_label["eng_Latn"]
    assert english.precision == 1 and english.recall == 0.8 and english.undetermined == 0.1
    assert english.f1 == pytest.approx(16 / 18) and english.argmax_f1 == pytest.approx(18 / 19)
    assert by_label["fra_Latn"].false_positive_rate == pytest.approx(1 / 30)
    f1 = [16 / 18, 20 / 21, 0, 20 / 30]
    assert full.f1 == pytest.approx(sum(f1) / 4)
    with_luo = [16 / 28, 20 / 21, 0, 20 / 30, 0]
    assert full.all_f1 == pytest.approx(sum(with_luo) / 5)
    assert full.group_f1 == pytest.approx((16 / 18 + 20 / 21 + 2) / 4)
    assert full.determined == pytest.approx(39 / 40) and full.recall == pytest.approx(28 / 40)
    assert full.false_positive_rate == pytest.approx((1 / 30 + 10 / 30) / 4)
    assert full.all_false_positive_rate == pytest.approx((10 / 40 + 1 / 40 + 10 / 40) / 4)
    assert result.confusions[0] == ("bos_Latn", "hrv_Latn", 10)
    assert result.by_script == {"Latn": pytest.approx(sum(f1) / 4)}


def test_accepted_out_of_set_text_is_counted() -> None:
    out_of_set = {"xxa": ["und eng_Latn"] * 9 + ["fra_Latn"], "xxb": ["und"] * 10}
    score = evaluate(DETECTOR, TEXT, out_of_set, cuts=(None,), quiet=True).foreign
    assert score is not None and score.accepted == pytest.approx(0.05)
    assert score.unseen_languages == 1 and score.unseen_accepted == pytest.approx(0.1)
    assert score.by_language == {"xxa": pytest.approx(0.1), "xxb": 0.0}
    assert score.taken_for == {"xxa": "fra_Latn"}


def test_report_is_written_as_json_html_and_text(tmp_path: Path) -> None:
    result = evaluate(DETECTOR, TEXT, {"xxa": ["fra_Latn"]}, cuts=(None, 1), quiet=True)
    page = write_report(result, ModelCard(name="echo", labels=4), tmp_path).read_text("utf-8")
    assert "luo_Latn" in page and "first 1 words" in page and "xxa" in page
    assert (tmp_path / "lid.json").is_file()
    assert "100.00% of 1 lines" in as_text(result)


def test_text_is_read_from_flores_or_a_folder_of_codes(tmp_path: Path) -> None:
    (tmp_path / "eng_Latn.txt").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no language\n", encoding="utf-8")
    assert read_labelled(tmp_path) == {"eng_Latn": ["one", "two"]}
    with pytest.raises(DataError, match="FLORES"):
        read_labelled(tmp_path / "nothing")
    assert first_words(["a b c", ""], 2) == ["a b", ""]


def test_only_reserved_out_of_set_languages_are_evaluated(tmp_path: Path) -> None:
    for code in ("aaa", "aab", "aac", "aad", "aae", "aaf", "aag", "aah"):
        (tmp_path / f"{code}__{code}.tsv").write_text("1\ttext\n", encoding="utf-8")
    assert 0 < len(read_out_of_set(tmp_path)) < 8


def test_card_round_trip(tmp_path: Path) -> None:
    card = ModelCard(
        name="x",
        labels=2,
        normalised=True,
        thresholds={"eng_Latn": 0.9},
        counts={"eng_Latn": {"udhr": 3}, "fra_Latn": {"udhr": 4}},
        sources={"udhr": "public"},
        overlap={"udhr": 2},
        held_out={"lines not answered with `und`": 0.9},
    )
    write_card(card, tmp_path)
    assert read_card(tmp_path) == card
    assert read_card(tmp_path).threshold("fra_Latn") == 0.5
    markdown = (tmp_path / "CARD.md").read_text(encoding="utf-8")
    assert "| udhr | public | 7 |" in markdown and "(2 were removed" in markdown
