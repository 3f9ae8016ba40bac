from pathlib import Path

import numpy as np
import pytest

from lid.word_frequencies import WordFrequencies
from nllb.errors import CheckpointError

LINES = {
    "deu_Latn": {"a": ["das haus", "das tor"], "b": ["das haus ist alt"] * 2},
    "eng_Latn": {"a": ["the house", "the gate is old"] * 2},
}
LABELS = sorted(LINES)


@pytest.fixture(scope="module")
def table() -> WordFrequencies:
    return WordFrequencies.build(LINES, max_words=10)


def test_frequent_words_score_higher_and_unknown_words_zero(table: WordFrequencies) -> None:
    scores, words = table.score(["Das Haus", "das", "haus", "the xyz", "xyz", "", "!"])
    assert words.tolist() == [2, 1, 1, 2, 1, 0, 0]
    assert scores[0, 0] == pytest.approx(scores[1, 0] + scores[2, 0])
    assert scores[1, 0] > scores[2, 0] > 0 and scores[0, 1] == 0
    assert scores[3, 1] > 0 and scores[3, 0] == 0
    assert not scores[4:].any()


def test_words_that_occur_once_are_left_out(table: WordFrequencies) -> None:
    assert not table.score(["tor"])[0].any()


def test_the_number_of_words_is_limited_and_lists_count_half() -> None:
    lists = {"eng_Latn": {"hello": 0.5, "the": 0.5}}
    table = WordFrequencies.build(LINES, lists, max_words=1, max_listed_words=2)
    scores, _ = table.score(["das", "haus", "the", "hello", "house"])
    assert (scores > 0).tolist() == [
        [True, False],
        [False, False],
        [False, True],
        [False, True],
        [False, False],
    ]
    assert scores[2, 1] > scores[3, 1]


def test_a_saved_table_gives_the_same_scores(table: WordFrequencies, tmp_path: Path) -> None:
    path = tmp_path / "words.bin"
    table.save(path)
    texts = ["das haus ist alt", "the old house"]
    loaded = WordFrequencies.load(path, LABELS)
    assert np.array_equal(loaded.score(texts)[0], table.score(texts)[0])


def test_damaged_tables_are_rejected(table: WordFrequencies, tmp_path: Path) -> None:
    path = tmp_path / "words.bin"
    with pytest.raises(CheckpointError, match="cannot read"):
        WordFrequencies.load(path, LABELS)
    table.save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole + b"x", b"\0" + whole[1:], whole[:12]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            WordFrequencies.load(path, LABELS)
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="more labels than the card"):
        WordFrequencies.load(path, LABELS[:1])
    swapped = whole[:12] + whole[16:20] + whole[12:16] + whole[20:]
    path.write_bytes(swapped)
    with pytest.raises(CheckpointError, match="not in order"):
        WordFrequencies.load(path, LABELS)
