"""Distinct sentences on disk: order, duplicates, columns of several files, blocks and rows."""

from pathlib import Path

import numpy
import polars
import pytest

from data_pipeline.blocks import read_facts
from data_pipeline.mining import sentences
from data_pipeline.mining.sentences import gather_sentences, read_block, read_rows
from nllb.errors import DataError


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Return a text file and a Parquet file that share sentences."""
    text, table = tmp_path / "a.txt", tmp_path / "b.parquet"
    text.write_text("one\n\n two \none\nthree\n", encoding="utf-8")
    columns = {"text": ["two", "four", None, " ", "five"], "line": [7, 8, 9, 10, 11]}
    polars.DataFrame({**columns, "probability": [0.1, 0.2, 0.3, 0.4, 0.5]}).with_columns(
        kind=polars.Series(["x"] * 5, dtype=polars.Categorical)
    ).write_parquet(table)
    return [text, table]


@pytest.mark.parametrize(("block", "at_once"), [(2, 50_000), (3, 1), (100, 2)])
def test_the_first_of_equal_sentences_stays(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, at_once: int
) -> None:
    monkeypatch.setattr(sentences, "_ROWS_AT_ONCE", at_once)
    output = tmp_path / "out.parquet"
    gather_sentences(paths, output, block)
    facts = read_facts(output)
    assert (facts["rows_in"], facts["rows_out"]) == (10, 5)
    expected = ["one", "two", "three", "four", "five"]
    read = [read_block(output, number) for number in range(len(facts["blocks"]))]
    assert read == [expected[at : at + block] for at in range(0, 5, block)]
    rows = read_rows(output, numpy.array([4, 0, 4, 2]))
    assert rows["text"].to_list() == ["five", "one", "five", "three"]
    assert rows["line"].to_list() == [11, 1, 11, 5]
    assert rows["file"].to_list() == ["b.parquet", "a.txt", "b.parquet", "a.txt"]
    assert rows["probability"].to_list() == [0.5, None, 0.5, None]
    assert rows["kind"].to_list() == ["x", None, "x", None]


def test_a_hash_says_what_a_block_holds(paths: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    gather_sentences(paths, first, 2)
    paths[0].write_text("one\n\n two \none\nother\n", encoding="utf-8")
    gather_sentences(paths, second, 2)
    before, after = read_facts(first)["blocks"], read_facts(second)["blocks"]
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_no_sentences_and_bad_files(tmp_path: Path) -> None:
    empty, output = tmp_path / "empty.txt", tmp_path / "out.parquet"
    empty.write_text("\n \n", encoding="utf-8")
    gather_sentences([empty], output, 10)
    assert read_facts(output)["blocks"] == []
    assert len(read_rows(output, numpy.zeros(0, numpy.int64))) == 0
    bad = tmp_path / "bad.parquet"
    polars.DataFrame({"sentence": ["a"]}).write_parquet(bad)
    with pytest.raises(DataError, match="column `text` is missing; the file has sentence"):
        gather_sentences([bad], output, 10)
    bad.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot read"):
        gather_sentences([bad], output, 10)
