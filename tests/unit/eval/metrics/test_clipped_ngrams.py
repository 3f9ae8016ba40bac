"""Vectorised n-gram matches against plain counting."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import clipped_ngrams as ngrams
from eval.metrics.clipped_ngrams import ReferenceNgrams, totals

SENTENCES = st.lists(st.lists(st.integers(0, 6), max_size=12), min_size=1, max_size=8)


def flat(sentences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    symbols = [symbol for sentence in sentences for symbol in sentence]
    return np.array(symbols, dtype=np.int32), np.array(list(map(len, sentences)), dtype=np.int32)


def plain(mine: list[int], theirs: list[int], order: int) -> list[int]:
    counts = []
    for n in range(1, order + 1):
        a, b = (Counter(tuple(s[i : i + n]) for i in range(len(s) - n + 1)) for s in (mine, theirs))
        counts.append(sum(min(count, b[ngram]) for ngram, count in a.items()))
    return counts


@given(SENTENCES, st.data(), st.sampled_from([1, 2, 4, 6]))
@settings(max_examples=120, deadline=None)
def test_matches_equal_plain_counting(references, data, order):
    lines = st.lists(st.integers(-1, 9), max_size=14)
    hypotheses = [data.draw(lines) for _ in references]
    found = ReferenceNgrams(*flat(references), order).matches(*flat(hypotheses))
    assert found.tolist() == [
        plain(mine, theirs, order) for mine, theirs in zip(hypotheses, references, strict=True)
    ]


@pytest.mark.parametrize("cells", [0, 1 << 24])
def test_every_way_of_looking_up_codes_agrees(monkeypatch, cells):
    monkeypatch.setattr(ngrams, "TABLE_CELLS", cells)
    monkeypatch.setattr(ngrams, "BLOCK", 3)  # and several blocks
    rng = np.random.default_rng(3)
    references = [rng.integers(0, 40, size=30).tolist() for _ in range(10)]
    hypotheses = [rng.integers(-1, 45, size=25).tolist() for _ in range(10)]
    hypotheses[4], references[7] = [], []
    found = ReferenceNgrams(*flat(references), 4).matches(*flat(hypotheses))
    assert found.tolist() == [plain(a, b, 4) for a, b in zip(hypotheses, references, strict=True)]


def test_sentences_with_more_symbols_than_bits_are_exact():
    rng = np.random.default_rng(4)
    references = [
        rng.permutation(2000)[:600].tolist(),
        list(range(20)),
        rng.permutation(300).tolist(),
    ]
    hypotheses = [[*references[0][50:400], 5, 6], list(range(5, 30)), references[2][::-1]]
    found = ReferenceNgrams(*flat(references), 6).matches(*flat(hypotheses))
    assert found.tolist() == [plain(a, b, 6) for a, b in zip(hypotheses, references, strict=True)]
    assert found[0, 5] > 300


def test_totals_count_ngrams():
    assert totals(np.array([0, 1, 5], dtype=np.int32), 3).tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [5, 4, 3],
    ]
