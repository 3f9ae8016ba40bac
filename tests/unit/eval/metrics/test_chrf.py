"""chrF and chrF++ against sacrebleu: all integers of all sentences."""

import numpy as np
import pytest
from sacrebleu.metrics import CHRF

from eval.metrics.chrf import Chrf
from nllb.io.benchmarks import load_flores

ODD = [
    ("", "A reference."),
    ("A hypothesis.", ""),
    ("", ""),
    ("  spaces\tand\u00a0more\u3000of\u2028them ", "spaces and more of them"),
    ('(hi) !!! "quoted," a \'b', "(hi) !! \"quoted\" , a 'b'"),
    ("a\nb", "a b"),
    ("\U0001f600\U0001f600 \ud83d", "\U0001f600 ok"),
    ("e\u0301t\u00e9", "\u00e9t\u00e9"),
    ("no no no no no no", "no no yes"),
    ("短い文", "短い文章です"),
]


def oracle(hypotheses, references, word_order):
    metric = CHRF(word_order=word_order, references=[references])
    statistics = metric._extract_corpus_statistics(hypotheses, None)
    return np.array(statistics), metric._aggregate_and_compute(statistics).score, metric


@pytest.mark.parametrize("word_order", [0, 2])
def test_odd_sentences_equal_sacrebleu(word_order):
    hypotheses, references = [list(side) for side in zip(*ODD, strict=True)]
    expected, score, metric = oracle(hypotheses, references, word_order)
    ours = Chrf(word_order=word_order)
    statistics = ours.statistics(hypotheses, ours.index(references))
    assert statistics.tolist() == expected.tolist()
    assert float(ours.score(statistics.sum(axis=0))) == pytest.approx(score, abs=1e-12)
    assert ours.signature == metric.get_signature().format()


def test_all_204_languages_equal_sacrebleu(data_dir, perturb):
    flores = load_flores(data_dir)
    assert len(flores.languages) == 204
    ours = Chrf()
    for number, code in enumerate(flores.languages):
        begin = number * 4  # other sentences in every language
        references = list(flores.sentences(code)[begin : begin + 40])
        hypotheses = perturb(references, seed=number)
        expected, score, _ = oracle(hypotheses, references, 2)
        statistics = ours.statistics(hypotheses, ours.index(references))
        assert (statistics == expected).all(), code
        assert float(ours.score(statistics.sum(axis=0))) == pytest.approx(score, abs=1e-12), code


@pytest.mark.parametrize("code", ["eng_Latn", "mya_Mymr", "zho_Hans"])
def test_whole_devtest_equals_sacrebleu(data_dir, perturb, code):
    references = list(load_flores(data_dir).sentences(code))
    hypotheses = perturb(references)
    expected, score, _ = oracle(hypotheses, references, 2)
    ours = Chrf()
    reference = ours.index(references)
    first = ours.statistics(hypotheses, reference)
    assert (first == expected).all()
    assert (ours.statistics(hypotheses, reference) == first).all()  # the index is not used up
    assert float(ours.score(first.sum(axis=0))) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("word_order", [0, 2])
def test_stored_columns_give_all_columns_back(word_order, perturb):
    references = [theirs for _, theirs in ODD] * 3
    ours = Chrf(word_order=word_order)
    statistics = ours.statistics(perturb(references), ours.index(references))
    stored, given = ours.pack(statistics), ours.reference_columns(statistics)
    assert stored.shape[1] < statistics.shape[1] / 2
    assert (ours.unpack(stored, given) == statistics).all()


def test_scores_of_many_sums_at_once_are_the_single_scores(perturb):
    references = [theirs for _, theirs in ODD] * 5
    ours = Chrf()
    statistics = ours.statistics(perturb(references), ours.index(references))
    sums = np.stack([statistics[:k].sum(axis=0) for k in (1, 3, 20, 50)])
    assert ours.score(sums).tolist() == [float(ours.score(row)) for row in sums]
    assert float(ours.score(np.zeros(24))) == 0.0
