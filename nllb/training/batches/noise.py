"""Noise for the denoising autoencoder (DAE): whole-word spans are masked on the source side.

Source: NLLB Team 2022, section 6.2, with fairseq's parameters: a fraction of the words is masked in
spans with Poisson-distributed lengths (mean 3.5). Each span becomes one mask token, a tenth of the
mask tokens become random tokens, and spans of length 0 insert a mask token.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nllb.config.schema import Fraction, Section

Ids = NDArray[np.int64]


class NoiseConfig(Section):
    """Noise of the source side of denoising pairs."""

    mask_ratio: Fraction = 0.3
    """Fraction of the words that are masked."""
    span_length: Annotated[float, Field(ge=0, le=100)] = 3.5
    """Mean length of a masked span in words (Poisson)."""
    random_ratio: Fraction = 0.1
    """Fraction of the mask tokens that are replaced with a random token."""


def add_noise(
    ids: Ids,
    starts_word: NDArray[np.bool_],
    config: NoiseConfig,
    *,
    mask_id: int,
    random_ids: tuple[int, int],
    draw: np.random.Generator,
) -> Ids:
    """Return a noisy copy of a sentence.

    Args:
        ids: tokens of the sentence, without language token and `</s>`.
        starts_word: for each token, whether it begins a word.
        config: amount and kind of noise.
        mask_id: id of `<mask>`.
        random_ids: range (first, end) that random tokens are drawn from.
        draw: random number generator; equal generators give equal noise.
    """
    words = np.flatnonzero(starts_word)
    if not len(words):
        words = np.zeros(min(1, len(ids)), dtype=np.int64)
    num_to_mask = int(np.ceil(len(words) * config.mask_ratio))
    if not num_to_mask:
        return ids
    lengths = _span_lengths(num_to_mask, config.span_length, draw)
    num_insertions = int((lengths == 0).sum())
    lengths = lengths[lengths > 0]
    bounds = np.append(words, len(ids))
    masked = np.zeros(len(ids), dtype=bool)
    opens = np.zeros(len(ids), dtype=bool)
    for first, length in zip(draw.permutation(len(words))[: len(lengths)], lengths, strict=False):
        begin, end = bounds[first], bounds[min(first + length, len(words))]
        opens[begin] = True
        masked[begin:end] = True
    # Overlapping spans merge into one; only its first position is kept, as the mask token.
    keep = ~masked | (opens & ~np.roll(masked, 1)) | (opens & (np.arange(len(ids)) == 0))
    noisy = np.where(masked, mask_id, ids)[keep]
    noisy = _insert(noisy, num_insertions, mask_id, draw)
    at = np.flatnonzero(noisy == mask_id)
    swapped = at[draw.random(len(at)) < config.random_ratio]
    noisy[swapped] = draw.integers(*random_ids, size=len(swapped))
    return noisy


def _span_lengths(total: int, mean: float, draw: np.random.Generator) -> Ids:
    """Draw Poisson span lengths that sum to `total` words; the last span is shortened to fit."""
    lengths = draw.poisson(mean, size=max(1, total))
    while lengths.sum() < total:
        lengths = np.append(lengths, draw.poisson(mean, size=max(1, total)))
    sums = np.cumsum(lengths)
    last = int(np.searchsorted(sums, total))
    lengths = lengths[: last + 1].copy()
    lengths[last] -= sums[last] - total
    return lengths.astype(np.int64)


def _insert(ids: Ids, count: int, mask_id: int, draw: np.random.Generator) -> Ids:
    places = np.sort(draw.integers(0, len(ids) + 1, size=count))
    return np.insert(ids, places, mask_id)
