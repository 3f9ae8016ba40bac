"""The verdict on meaning: coverage of the source, thresholds by direction, unknown languages."""

import pickle

import numpy as np
import pytest

from nllb.errors import DataError
from nllb.inference import meaning_thresholds
from nllb.inference.meaning_thresholds import Thresholds, find_threshold, read_thresholds
from nllb.inference.sentence_encoder import SentenceEncoder
from nllb.languages import parse_language
from nllb.translation import Translator
from nllb.translation.meaning import MeaningCheck, coverage
from nllb.translation.quality import FLAGS

ENGLISH, FRENCH, GERMAN = map(parse_language, ("eng_Latn", "fra_Latn", "deu_Latn"))
SENTENCE = "the old dog sleeps in the house by the river"


@pytest.fixture
def thresholds(monkeypatch):
    """Two known languages with made-up thresholds."""
    table = {
        "fra_Latn": Thresholds(as_source=0.9, as_target=0.999),
        "deu_Latn": Thresholds(as_source=0.7, as_target=0.95),
    }
    monkeypatch.setattr(meaning_thresholds, "read_thresholds", lambda: table)


@pytest.fixture(scope="module")
def encoder(encoder_dir) -> SentenceEncoder:
    return SentenceEncoder.load(encoder_dir, num_threads=1)


def judge_one(encoder, source: str, output: str, target=FRENCH):
    check = MeaningCheck(load=lambda: encoder)
    [found] = check.judge([source], [output], source=ENGLISH, target=target)
    return found


def test_every_token_of_the_source_counts() -> None:
    axes = np.eye(4, dtype=np.float32)
    assert coverage(axes, axes) == pytest.approx(1.0)
    assert coverage(axes, axes[:3]) == pytest.approx(0.75)
    assert coverage(axes, axes[:1]) == pytest.approx(0.25)
    assert coverage(axes[:1], axes) == pytest.approx(1.0)
    assert coverage(axes, axes[:0]) is None


def test_the_lower_threshold_of_both_languages_is_used(thresholds) -> None:
    assert find_threshold("fra_Latn", "eng_Latn") == 0.9
    assert find_threshold("eng_Latn", "fra_Latn") == 0.999
    assert find_threshold("fra_Latn", "deu_Latn") == 0.9
    assert find_threshold("deu_Latn", "fra_Latn") == 0.7
    assert find_threshold("kab_Latn", "eng_Latn") is None
    assert find_threshold("eng_Latn", "eng_Latn") is None


def test_the_same_text_is_kept_and_another_is_changed(thresholds, encoder) -> None:
    kept = judge_one(encoder, SENTENCE, SENTENCE)
    assert (kept.verdict, kept.similarity) == ("kept", pytest.approx(1.0, abs=1e-3))
    changed = judge_one(encoder, SENTENCE, "zzz xxx qqq yyy vvv zzz")
    assert changed.verdict == "changed"
    assert changed.similarity < 0.999


def test_unknown_languages_and_short_outputs_are_not_judged(thresholds, encoder) -> None:
    kabyle = parse_language("kab_Latn")
    for found in (
        judge_one(encoder, SENTENCE, SENTENCE, target=kabyle),
        judge_one(encoder, SENTENCE, "OK 12345 !"),
    ):
        assert (found.verdict, found.similarity) == ("unknown", None)


def test_verdicts_do_not_depend_on_the_batch(thresholds, encoder) -> None:
    check = MeaningCheck(load=lambda: encoder)
    outputs = [" ".join(SENTENCE.split()[:n]) for n in range(10)] * 8
    sources = [SENTENCE] * len(outputs)
    together = check.judge(sources, outputs, source=ENGLISH, target=FRENCH)
    assert together[:10] == together[70:]
    for number in (3, 9):
        [alone] = check.judge([SENTENCE], [outputs[number]], source=ENGLISH, target=FRENCH)
        assert alone == together[number]


def test_a_changed_meaning_is_flagged_in_the_trust_record(thresholds, encoder, stand_in) -> None:
    wrong = "zzz xxx qqq yyy vvv zzz"
    generator = stand_in(lambda segment, search: wrong if "dog" in segment else segment)
    translator = Translator(generator, meaning=MeaningCheck(load=lambda: encoder))
    first, second = (
        translator.translate(text, "eng_Latn", "fra_Latn", retry=False).segments[0].trust
        for text in ("the dog sleeps in a house", "the man is in the house")
    )
    assert first.meaning == "changed"
    assert "meaning" in first.flags
    assert list(first.flags) == sorted(first.flags, key=FLAGS.index)
    assert second.meaning == "kept"
    assert "meaning" not in second.flags
    plain = Translator(generator).translate("the dog sleeps", "eng_Latn", "fra_Latn", retry=False)
    assert plain.segments[0].trust.meaning is None


def test_the_encoder_is_loaded_only_when_it_is_needed(thresholds, encoder) -> None:
    calls = []
    check = MeaningCheck(load=lambda: calls.append(1) or encoder)
    check.judge([SENTENCE], [SENTENCE], source=ENGLISH, target=parse_language("kab_Latn"))
    check.judge([], [], source=ENGLISH, target=FRENCH)
    assert calls == []
    check.judge([SENTENCE], [SENTENCE], source=ENGLISH, target=FRENCH)
    assert calls == [1]


def test_the_shipped_table_is_valid() -> None:
    table = read_thresholds()
    assert len(table) >= 60
    assert {"fra_Latn", "rus_Cyrl", "zho_Hans", "hin_Deva"} <= table.keys()


def test_a_wrong_table_is_an_error(tmp_path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("language\tas_source\tas_target\nfra_Latn\t0.5\t1.5\n")
    with pytest.raises(DataError, match="fra_Latn"):
        read_thresholds(path)


def test_the_choice_is_pickled(random_model_dir) -> None:
    translator = Translator.load(random_model_dir, device="cpu", num_threads=1, similarity=False)
    assert translator.meaning is None
    assert pickle.loads(pickle.dumps(translator)).meaning is None
