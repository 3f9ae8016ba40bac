from unicodedata import normalize

import pytest

from eval.metrics.registry import MetricChoice, Reference, choose_metrics
from nllb.errors import ConfigError
from nllb.io.benchmarks import load_flores


def test_unicode_form_changes_the_raw_score_only():
    sentences = ["Cafe\u0301 et the\u0301 a\u0300 midi.", "Voila\u0300 une the\u0301ie\u0300re."]
    metric = MetricChoice().metric("chrf++", "fra_Latn")
    reference = Reference(sentences, "fra_Latn")
    measured = reference.measure(metric, [normalize("NFC", sentence) for sentence in sentences])
    assert measured.nfc_score == 100
    assert measured.score < 80
    assert measured.unicode_matters
    same = reference.measure(metric, sentences)
    assert (same.score, same.nfc_score, same.unicode_matters) == (100, 100, False)


def test_hypothesis_alone_in_another_form_is_composed():
    reference = Reference(["Café à midi."], "fra_Latn")
    measured = reference.measure(
        MetricChoice().metric("chrf++", "fra_Latn"), ["Cafe\u0301 a\u0300 midi."]
    )
    assert measured.nfc_score == 100 > measured.score


def test_nfc_score_is_the_score_of_composed_files(data_dir, perturb):
    flores = load_flores(data_dir)
    metric = MetricChoice().metric("chrf++", "eng_Latn")
    for code in ("ben_Beng", "vie_Latn", "fon_Latn"):
        sentences = list(flores.sentences(code)[:150])
        hypothesis = [
            normalize("NFD", line) if number % 7 == 0 else line
            for number, line in enumerate(perturb(sentences))
        ]
        found = Reference(sentences, code).measure(metric, hypothesis).nfc_score
        references, composed = (
            [normalize("NFC", line) for line in lines] for lines in (sentences, hypothesis)
        )
        expected = Reference(references, code).measure(metric, composed)
        assert found == expected.score == expected.nfc_score


def test_choice_of_metrics():
    assert choose_metrics(None, spm=None, spm_name="flores200", spm_sha256=None).names == (
        "chrf++",
    )
    with pytest.raises(ConfigError, match="spbleu requires a SentencePiece model"):
        choose_metrics("spbleu", spm=None, spm_name="flores200", spm_sha256=None)
    with pytest.raises(ConfigError, match=r"did you mean chrf"):
        MetricChoice(names=("chrf+++",))


def test_spbleu_joins_where_a_model_is_given(spm_standin):
    choice = choose_metrics(None, spm=spm_standin, spm_name="standin", spm_sha256=None)
    assert choice.names == ("chrf++", "spbleu")
    assert "tok:spm:standin" in choice.signatures("eng_Latn")["spbleu"]
