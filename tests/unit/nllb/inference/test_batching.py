"""Batches: everything once, within bounds, longest first."""

from hypothesis import given
from hypothesis import strategies as st

from nllb.inference.batching import plan_batches


@given(st.lists(st.integers(1, 600), max_size=80), st.integers(1, 2000), st.integers(1, 40))
def test_every_item_once_within_the_bounds(lengths, max_tokens, max_sentences) -> None:
    batches = plan_batches(lengths, max_tokens=max_tokens, max_sentences=max_sentences)
    assert sorted(item for batch in batches for item in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[item] for item in batch)
        assert len(batch) == 1 or len(batch) * longest <= max_tokens
        assert len(batch) <= max_sentences
    flat = [lengths[item] for batch in batches for item in batch]
    assert flat == sorted(flat, reverse=True)


def test_like_lengths_go_together() -> None:
    lengths = [3, 40, 4, 41, 5, 39]
    batches = plan_batches(lengths, max_tokens=1000, max_sentences=3)
    assert [sorted(lengths[item] for item in batch) for batch in batches] == [
        [39, 40, 41],
        [3, 4, 5],
    ]
