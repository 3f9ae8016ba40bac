from pathlib import Path

import pytest

from lid.train.lid_config import WordListConfig
from lid.train.word_lists import word_lines
from nllb.errors import DataError


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    rows = {
        "one.eng_Latn.tsv": "the\t0.5\nOK\t0.3\nhouse\t0.2\n",
        "one.deu_Latn.tsv": "das\t50\nok\t30\n12\t20\nHaus\t5\nselten\t1\n",
        "two.deu_Latn.tsv": "das\t0.9\n",
        "one.hbs_Latn.tsv": "da\t1\n",
    }
    for name, text in rows.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_lines_consist_of_one_to_three_frequent_words(lists: Path) -> None:
    config = WordListConfig(path=str(lists), max_words=4, max_shared_rank=2, lines=200)
    lines = word_lines(config, lists, seed=1)
    assert set(lines) == {"deu_Latn", "eng_Latn"}
    assert {len(line.split()) for line in lines["deu_Latn"]} == {1, 2, 3}
    words = [word for line in lines["deu_Latn"] for word in line.split()]
    assert set(words) == {"das", "haus"}  # "ok" is English, "selten" is beyond max_words
    assert words.count("das") > words.count("haus")
    assert lines == word_lines(config, lists, seed=1) != word_lines(config, lists, seed=2)
    assert "the" in lines["eng_Latn"]


def test_a_folder_without_lists_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no word lists"):
        word_lines(WordListConfig(path="."), tmp_path, seed=1)
