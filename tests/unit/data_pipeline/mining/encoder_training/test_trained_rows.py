"""Rows of a table in training: whose they are, and steps on those that occur."""

import numpy
import pytest
import torch

from data_pipeline.mining.encoder_training.trained_rows import (
    TrainedRows,
    extract_numbers,
    join_rows,
)
from data_pipeline.mining.encoders.features import extract
from data_pipeline.mining.encoders.static_encoder import feature_numbers


def test_each_sentence_keeps_its_rows() -> None:
    texts = ["one house", "", "two houses and a tree"]
    parts, counts = zip(*extract_numbers(texts, quiet=True), strict=True)
    rows, owner = join_rows(parts, counts).of(numpy.array([2, 1, 0, 2]))
    for place, text in ((0, texts[2]), (1, texts[1]), (2, texts[0]), (3, texts[2])):
        expected = feature_numbers(extract([text]).key)
        assert rows[owner == place].tolist() == expected.tolist()


def test_only_rows_that_occur_move_and_less_each_time() -> None:
    rows = TrainedRows(torch.zeros(6, 4))
    chosen, places = rows.gather(numpy.array([4, 1, 4]))
    assert chosen.tolist() == [1, 4]
    assert places.tolist() == [1, 0, 1]
    moved = []
    for _ in range(3):
        before = rows.values.clone()
        rows.step(chosen, torch.full((2, 4), 0.5), 0.1)
        moved.append((rows.values - before)[[1, 4]])
        assert not rows.values[[0, 2, 3, 5]].any()
    # A step is the rate over the root of the number of steps, whatever the size of the gradient.
    for number, step in enumerate(moved, start=1):
        assert step.flatten().tolist() == pytest.approx([-0.1 / number**0.5] * 8, rel=1e-5)
