import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lid.ngrams import NgramSets, character_ngrams
from nllb.errors import CheckpointError
from nllb.languages.normalization import normalize_for_detection

SIZE = 16_384


def build(sentences: dict[str, list[str]]) -> NgramSets:
    lines = {
        code: {"own": [normalize_for_detection(line) for line in texts]}
        for code, texts in sentences.items()
    }
    return NgramSets.build(lines, max_ngrams=2000, size_bytes=SIZE)


def counts(ngrams: NgramSets, texts: list[str]) -> tuple[list[list[int]], list[int]]:
    every = np.tile(np.arange(len(ngrams.index), dtype=np.int32), (len(texts), 1))
    known, total = ngrams.count(texts, every)
    return known.tolist(), total.tolist()


def test_ngrams_of_a_word_have_five_characters_and_short_words_have_one() -> None:
    assert character_ngrams("house") == ["<hous", "house", "ouse>"]
    assert character_ngrams("of") == ["<of>"]
    assert character_ngrams("") == ["<>"]


def test_a_language_knows_all_of_its_own_ngrams_and_few_of_others(
    sentences: dict[str, list[str]],
) -> None:
    ngrams = build(sentences)
    known, total = counts(ngrams, sentences["deu_Latn"])
    shares = np.array(known).sum(axis=0) / sum(total)
    label_index = ngrams.index["deu_Latn"]
    assert shares[label_index] == 1  # a Bloom filter has no false negatives
    assert max(share for number, share in enumerate(shares) if number != label_index) < 0.15


def test_label_index_minus_one_is_not_looked_up(sentences: dict[str, list[str]]) -> None:
    known, total = build(sentences).count(["the library"], np.array([[-1, 0]], np.int32))
    assert known[0, 0] == 0 and total[0] == len(character_ngrams("the")) + len(
        character_ngrams("library")
    )


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_kernel_and_python_counts_are_equal(texts: list[str]) -> None:
    bits = np.random.default_rng(0).integers(0, 256, 4096).astype(np.uint8)
    slow = NgramSets(["a", "b", "c"], bits, prefer_kernel=False)
    assert counts(NgramSets(["a", "b", "c"], bits), texts) == counts(slow, texts)


def test_kernel_folds_like_python() -> None:
    """Cover all kinds of characters whose lower case or NFC form depends on their context."""
    pytest.importorskip("lid._kernel")
    odd = "aE\u0301\u0323\u0345\u00c9\u00ad\u200d\u0130\u01c5\u03a3\u03c3\u212b\u1112\u1161\u11ab"
    odd += (
        "\ud55c\u0939\u093c\u094d\u0915\u0651\u064e\u0653\u0627\U0001d518\U00010400\ud800\ufb01 ' x"
    )
    rng = random.Random(9)
    texts = ["".join(rng.choices(odd, k=rng.randrange(1, 12))) for _ in range(4000)]
    texts += [first + second for first in odd for second in odd]
    bits = np.full(64, 0b01101101, np.uint8)
    fast, slow = (NgramSets(["a", "b"], bits, prefer_kernel=kernel) for kernel in (True, False))
    assert counts(fast, texts) == counts(slow, texts)


def test_saved_filter_is_equal_and_errors_name_a_damaged_one(
    sentences: dict[str, list[str]], tmp_path: Path
) -> None:
    ngrams = build(sentences)
    path = tmp_path / "grams.bin"
    ngrams.save(path)
    texts = ["the library opens", "die Bibliothek"]
    assert path.stat().st_size == SIZE
    assert counts(NgramSets.load(path, sorted(sentences)), texts) == counts(ngrams, texts)
    path.write_bytes(path.read_bytes()[:-3])
    for damaged in (path, tmp_path / "missing.bin"):
        with pytest.raises(CheckpointError, match=damaged.name):
            NgramSets.load(damaged, sorted(sentences))
