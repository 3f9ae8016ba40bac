"""The store of vectors: keys, half precision, reading across blocks, damage."""

from collections.abc import Sequence
from pathlib import Path

import numpy
import pytest

from data_pipeline.blocks import read_facts
from data_pipeline.mining.encoders.encoder import Vectors
from data_pipeline.mining.sentences import gather_sentences
from data_pipeline.mining.store import EmbeddingTask, StoredVectors, embed
from nllb.errors import DataError


class Counting:
    """Encodes a sentence as its length and initial."""

    name, key, dimension = "counting", "1", 2

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        rows = [[len(text), ord(text[0])] for text in sentences]
        return numpy.array(rows, numpy.float32).reshape(-1, 2) * self.factor


def task(folder: Path, sentences: list[str], **changes: object) -> EmbeddingTask:
    """Return the task of the one block of a file of sentences."""
    lines, text = folder / "lines.txt", folder / f"{'-'.join(sentences)}.parquet"
    lines.write_text("\n".join(sentences), encoding="utf-8")
    gather_sentences([lines], text, 1000)
    (digest,) = read_facts(text)["blocks"]
    fields = {"language": "eng_Latn", "number": 0, "encoder_key": "1", "directory": folder}
    return EmbeddingTask(text=text, digest=digest, **{**fields, **changes})  # type: ignore[arg-type]


def test_names_change_with_whatever_the_vectors_depend_on(tmp_path: Path) -> None:
    outputs = {
        task(tmp_path, ["a", "b"]).output,
        task(tmp_path, ["ab"]).output,
        task(tmp_path, ["a", "c"]).output,
        task(tmp_path, ["a", "b"], encoder_key="2").output,
        task(tmp_path, ["a", "b"], language="fra_Latn").output,
    }
    assert len(outputs) == 5
    assert task(tmp_path, ["a", "b"]).output == task(tmp_path, ["a", "b"]).output


def test_blocks_are_read_as_one(tmp_path: Path) -> None:
    sentences, text = ["a", "bb", "ccc", "dddd", "e"], tmp_path / "text.parquet"
    (tmp_path / "lines.txt").write_text("\n".join(sentences), encoding="utf-8")
    gather_sentences([tmp_path / "lines.txt"], text, 3)
    tasks = [
        EmbeddingTask(
            text=text,
            digest=digest,
            number=number,
            language="eng_Latn",
            encoder_key="1",
            directory=tmp_path,
        )
        for number, digest in enumerate(read_facts(text)["blocks"])
    ]
    for one in tasks:
        embed(one, Counting())
    numpy.save(tmp_path / "empty.npy", numpy.zeros((0, 2), numpy.float16))
    stored = StoredVectors([tasks[0].output, tmp_path / "empty.npy", tasks[1].output])
    assert stored.shape == (5, 2)
    whole = Counting().encode(sentences, "")
    assert stored[0:5].dtype == numpy.float16
    for first, last in [(0, 5), (1, 4), (3, 3), (4, 9), (2, 4)]:
        assert (stored[first:last] == whole[first:last]).all()
    assert (stored[numpy.array([4, 0, 3])] == whole[[4, 0, 3]]).all()


def test_vectors_too_large_for_half_precision_keep_their_direction(tmp_path: Path) -> None:
    one = task(tmp_path, ["abc"])
    embed(one, Counting(1e5))
    row = StoredVectors([one.output])[0:1][0].astype(float)
    assert numpy.isfinite(row).all()
    assert row[0] / row[1] == pytest.approx(3 / ord("a"), rel=1e-2)


def test_nan_and_damage_are_errors(tmp_path: Path) -> None:
    one = task(tmp_path, ["a", "b"])
    with pytest.raises(DataError, match=r"2 of 2 vectors contain NaN.*first is number 1"):
        embed(one, Counting(float("nan")))
    assert not one.output.exists()
    embed(one, Counting())
    one.output.write_bytes(one.output.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        StoredVectors([one.output])


def test_vectors_of_another_shape_are_an_error(tmp_path: Path) -> None:
    one = task(tmp_path, ["a", "b"])
    encoder = Counting()
    encoder.dimension = 3
    with pytest.raises(DataError, match=r"shape \(2, 2\) for 2 sentences.*dimension is 3"):
        embed(one, encoder)
    assert not one.output.exists()
