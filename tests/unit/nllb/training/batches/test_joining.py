"""Concatenated pairs: no text is lost, and directions and tags are never mixed."""

from itertools import chain

import numpy as np
import pytest

from nllb.training.batches.gathering import EOS_ID, Pairs, Ragged
from nllb.training.batches.joining import join_pairs

LANGUAGE, TAG = 2000, 2500


def ragged(rows: list[list[int]], heads: list[int]) -> Ragged:
    lengths = np.array([len(row) for row in rows])
    return Ragged(
        tokens=np.array(list(chain(*rows)), dtype=np.int32),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        prefix_lengths=np.array(heads),
    )


def rows_of(side: Ragged) -> list[list[int]]:
    return [
        side.tokens[start : start + length].tolist()
        for start, length in zip(side.starts, side.lengths, strict=True)
    ]


@pytest.fixture
def pairs() -> Pairs:
    """Return 60 pairs of three directions; half of the second direction have a tag."""
    draw = np.random.default_rng(1)
    directions = np.repeat([4, 7, 8], 20)
    tagged = (directions == 7) & (np.arange(60) >= 30)
    sources, targets = [], []
    for number, direction in enumerate(directions.tolist()):
        text = [number * 10 + 100 + n for n in range(draw.integers(1, 6))]
        head = [LANGUAGE + direction] + [TAG] * bool(tagged[number])
        sources.append([*head, *text, EOS_ID])
        targets.append([LANGUAGE, *text[::-1], EOS_ID])
    return Pairs(
        sources=ragged(sources, (1 + tagged).tolist()),
        targets=ragged(targets, [1] * 60),
        directions=directions,
        too_long=3,
    )


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_concatenated_texts_have_one_prefix_and_one_end(pairs: Pairs, share: float) -> None:
    joined = join_pairs(pairs, share, 24, np.random.default_rng(2))
    assert 8 < len(joined) < len(pairs) and joined.too_long == 3
    assert joined.max_lengths.max() <= 24
    for before, after in ((pairs.sources, joined.sources), (pairs.targets, joined.targets)):
        texts = [
            row[head:-1] for row, head in zip(rows_of(before), before.prefix_lengths, strict=True)
        ]
        joined_texts = []
        for row, head in zip(rows_of(after), after.prefix_lengths, strict=True):
            assert row.count(EOS_ID) == 1 and row[-1] == EOS_ID
            assert all(token >= LANGUAGE for token in row[:head])
            assert all(token < LANGUAGE for token in row[head:])
            joined_texts.append(row[head:-1])
        assert list(chain(*joined_texts)) == list(chain(*texts))
    languages = [row[0] - LANGUAGE for row in rows_of(joined.sources)]
    assert languages == joined.directions.tolist()
    # The same sentences are on both sides, and those with a tag under it.
    for source, target, head in zip(
        rows_of(joined.sources), rows_of(joined.targets), joined.sources.prefix_lengths, strict=True
    ):
        sentences = [{token // 10 - 10 for token in row} for row in (source[head:-1], target[1:-1])]
        assert sentences[0] == sentences[1]
        if source[0] == LANGUAGE + 7:
            assert all((number >= 30) == (head == 2) for number in sentences[0])


def test_pairs_that_would_become_too_long_stay_separate(pairs: Pairs) -> None:
    longest = int(pairs.max_lengths.max())
    joined = join_pairs(pairs, 0.999, longest, np.random.default_rng(2))
    assert joined.max_lengths.max() <= longest and len(joined) >= 20
    assert len(join_pairs(pairs, 0.0, 100, np.random.default_rng(2))) == len(pairs)
