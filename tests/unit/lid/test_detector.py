import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lid.detector import DEFAULT_MODEL_DIR, Detector
from nllb.errors import CheckpointError, ConfigError, LanguageError


@pytest.fixture(scope="session")
def detector(model_paths: dict[str, Path]) -> Detector:
    return Detector.load(model_paths["bin"], normalised=True)


def test_detects_the_language(detector: Detector, sentences: dict[str, list[str]]) -> None:
    for code, lines in sentences.items():
        assert [one.language for one in detector.detect_batch(lines)] == [code] * len(lines)
    one = detector.detect("Die Kinder spielten im Garten.")
    assert one.language == "deu_Latn" and one.probability > 0.5 and one.alternatives == ()


def test_top_and_candidates(detector: Detector) -> None:
    text = "Die Kinder spielten im Garten."
    ranked = detector.detect(text, top=3)
    assert len(ranked.alternatives) == 2
    assert ranked.probability >= ranked.alternatives[0][1] >= ranked.alternatives[1][1]
    only = detector.detect(text, candidates=["English", "fr"])
    assert only.language in {"eng_Latn", "fra_Latn"} and only.accepted
    hashtag = detector.detect("#Garten", candidates=["German", "fr"])
    assert hashtag.language == "deu_Latn" and detector.detect("#Garten").language == "und"
    assert detector.detect("123", candidates=["German"]).language == "und"
    for candidates, message in (
        (["xyz"], "unknown language"),
        (["ita_Latn"], "no label"),
        ([], "list of candidates"),
    ):
        with pytest.raises(LanguageError, match=message):
            detector.detect(text, candidates=candidates)


def test_the_threshold_applies_to_the_acceptance_score(detector: Detector) -> None:
    text = "Die Kinder spielten im Garten."
    score = detector.detect(text).acceptance
    assert 0 < score <= 1
    rejected = detector.detect(text, threshold=1.0)
    assert not rejected.accepted and rejected.language == "und"
    assert rejected.best == "deu_Latn" and rejected.acceptance == score
    assert detector.detect("tlh qqq wvx", threshold=0.0).accepted
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            detector.detect(text, threshold=threshold)


def test_a_single_text_is_not_a_batch(detector: Detector) -> None:
    with pytest.raises(ConfigError, match="expects a list"):
        detector.detect_batch("hello")


def test_addresses_and_markup_do_not_change_the_answer(detector: Detector) -> None:
    plain = detector.detect("Die Kinder spielten im Garten.")
    for text in (
        "Die Kinder spielten im Garten. https://example.org/the/children/played/in/the/garden",
        "@jane_doe Die Kinder spielten im Garten. #garden",
        '<p class="children">Die Kinder spielten im Garten.</p>',
    ):
        found = detector.detect(text)
        assert (found.language, found.probability) == (plain.language, plain.probability)


def test_label_is_always_in_the_script_of_the_text(detector: Detector) -> None:
    assert detector.detect("дети играли в саду").language == "rus_Cyrl"
    assert detector.detect("Das ist ein Haus, und das ist ein Garten").language != "rus_Cyrl"
    restricted = detector.detect("дети играли в саду", candidates=["deu_Latn", "rus_Cyrl"])
    assert restricted.language == "rus_Cyrl"


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "\x00", "12 345", "!?", "\U0001f600", "\ud800", "\u200d"]
)
def test_text_without_letters_is_undetermined(detector: Detector, text: str) -> None:
    one = detector.detect(text)
    assert (one.language, one.probability, one.alternatives) == ("und", 0.0, ())


def test_rejected_text_has_the_best_label_as_first_alternative(detector: Detector) -> None:
    one = detector.detect("tlh qqq wvx")
    if one.language == "und":
        assert one.alternatives[0][1] == pytest.approx(one.probability)
        assert one.macro_group is None


def test_lines_of_ten_megabytes(detector: Detector) -> None:
    long = "Die Kinder spielten im Garten. " * 330_000
    answers = detector.detect_batch([long, "x" * 10_000_000, "La mer est belle."])
    assert answers[0].language == "deu_Latn" and len(answers) == 3


@given(st.lists(st.text(max_size=40), max_size=30))
def test_answers_do_not_depend_on_the_batch(detector: Detector, texts: list[str]) -> None:
    answers = detector.detect_batch(texts)
    assert len(answers) == len(texts)
    assert [one.language for one in answers] == [detector.detect(text).language for text in texts]
    assert all(0 <= one.probability <= 1.000001 for one in answers)


def test_labels_outside_the_table_are_kept_and_reported(tmp_path: Path) -> None:
    import fasttext

    text = tmp_path / "train.txt"
    text.write_text(
        "__label__cmn_Hani 你好 世界\n__label__tlh_Latn nuqneh qaplah\n__label__en hello world\n"
        * 20,
        encoding="utf-8",
    )
    path = tmp_path / "other-labels.bin"
    fasttext.train_supervised(
        str(text), dim=4, epoch=5, minn=1, maxn=2, bucket=500, thread=1, verbose=0
    ).save_model(str(path))
    detector = Detector.load(path)
    assert set(detector.labels) == {"zho_Hans", "tlh_Latn", "eng_Latn"}
    assert detector.unknown_labels == ("tlh_Latn",)


def test_invalid_models_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"card\.json"):
        Detector.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"nothing\.ftz"):
        Detector.load(tmp_path / "nothing.ftz")
    (tmp_path / "card.json").write_text('{"name": "x", "format": 99, "thresholds": {}}')
    with pytest.raises(CheckpointError, match="update nllb"):
        Detector.load(tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"card\.json"):
        Detector.load(tmp_path)


@pytest.mark.parametrize(
    "name", ["model.ftz", "grams.bin", "words.bin", "card.json", "experts/malay.ftz"]
)
def test_links_out_of_the_model_folder_are_rejected(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(DEFAULT_MODEL_DIR, tmp_path / "model"))
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(CheckpointError, match="is a link that leaves"):
        Detector.load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"thresholds": {"eng_Latn": "high"}}, "thresholds is"),
        ({"thresholds": {"eng_Latn": float("nan")}}, "not finite"),
        ({"limits": [1e308] * 6}, "too large"),
        ({"acceptance": [1.0]}, "1 weights and"),
        ({"grams": [1]}, "grams is"),
        ({"normalised": 1}, "normalised is"),
        ({"labels": "many"}, "labels is"),
    ],
)
def test_invalid_cards_are_rejected(tmp_path: Path, values: Any, message: str) -> None:
    folder = Path(shutil.copytree(DEFAULT_MODEL_DIR, tmp_path / "model"))
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | values))
    with pytest.raises(CheckpointError, match=message):
        Detector.load(folder)
    (folder / "card.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="nests too deeply"):
        Detector.load(folder)
