"""Denoising: the masked fraction, whole words, and determinism."""

import numpy as np
import pytest
from pydantic import ValidationError

from nllb.training.batches.noise import NoiseConfig, add_noise

MASK = 999
IDS = np.arange(100, 200, dtype=np.int64)
STARTS = np.arange(100) % 3 == 0  # words of three pieces, the last of one


def noisy(seed: int, config: NoiseConfig) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return add_noise(IDS, STARTS, config, mask_id=MASK, random_ids=(10, 20), draw=draw)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_the_configured_fraction_of_words_is_masked(ratio: float) -> None:
    config = NoiseConfig(mask_ratio=ratio, random_ratio=0.0)
    lost = [1 - np.isin(IDS, noisy(seed, config)).mean() for seed in range(200)]
    # Spans that run into one another or over the end mask fewer.
    assert 0.7 * ratio < np.mean(lost) <= np.ceil(34 * ratio) / 33


def test_whole_words_are_masked_and_the_order_stays() -> None:
    for seed in range(100):
        kept = [token for token in noisy(seed, NoiseConfig(random_ratio=0.0)) if token != MASK]
        assert kept == sorted(kept)
        words = {(token - 100) // 3 for token in kept}
        assert all(
            (100 + 3 * word + part in kept) for word in words for part in range(3) if word < 33
        )


def test_a_span_becomes_one_mask_and_empty_spans_are_insertions() -> None:
    config = NoiseConfig(mask_ratio=0.3, random_ratio=0.0)
    masks = [int((noisy(seed, config) == MASK).sum()) for seed in range(300)]
    # 34 words, 11 masked, spans of 3.5 words on average: about 3 spans.
    assert 2 < np.mean(masks) < 5
    inserted = [
        len(noisy(seed, NoiseConfig(span_length=0.01, random_ratio=0.0))) for seed in range(20)
    ]
    assert max(inserted) > len(IDS)


def test_some_masks_are_random_tokens() -> None:
    config = NoiseConfig(random_ratio=0.5)
    together = np.concatenate([noisy(seed, config) for seed in range(300)])
    randoms, masks = ((together >= 10) & (together < 20)).sum(), (together == MASK).sum()
    assert randoms / (randoms + masks) == pytest.approx(0.5, abs=0.06)


def test_equal_generators_give_equal_noise() -> None:
    assert np.array_equal(noisy(3, NoiseConfig()), noisy(3, NoiseConfig()))
    assert not np.array_equal(noisy(3, NoiseConfig()), noisy(4, NoiseConfig()))
    assert np.array_equal(noisy(3, NoiseConfig(mask_ratio=0.0)), IDS)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_sentences(length: int) -> None:
    for seed in range(30):
        draw = np.random.default_rng(seed)
        result = add_noise(
            IDS[:length],
            np.zeros(length, dtype=bool),
            NoiseConfig(),
            mask_id=MASK,
            random_ids=(10, 20),
            draw=draw,
        )
        assert len(result) <= length + 3


def test_ratios_out_of_range_are_refused() -> None:
    with pytest.raises(ValidationError) as caught:
        NoiseConfig(mask_ratio=1.5, random_ratio=-0.1)
    assert [error["loc"] for error in caught.value.errors()] == [("mask_ratio",), ("random_ratio",)]
