"""Denoising: the source is the sentence with spans of whole words masked.

Source: NLLB Team 2022, 6.2 (DAE), with fairseq's numbers: masked fraction r, span lengths from a
Poisson distribution (3.5), each span replaced by one mask token, a tenth of the masks by random
tokens instead; spans of length 0 become insertions.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nllb.config.schema import Fraction, Section

Ids = NDArray[np.int64]


class NoiseConfig(Section):
    """How sentences are made noisy for denoising."""

    mask_ratio: Fraction = 0.3
    """Fraction of the words that is masked."""
    span_length: Annotated[float, Field(ge=0, le=100)] = 3.5
    """Mean length of a masked span in words (Poisson)."""
    random_ratio: Fraction = 0.1
    """Fraction of the masks that become a random token."""


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
        ids: its tokens, without language token and end.
        starts_word: for every token, whether a word begins with it.
        config: how much noise.
        mask_id: the mask token.
        random_ids: range (first, end) that random tokens are drawn from.
        draw: the source of chance; the result is a function of it and the sentence.
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
    # A span that another one runs into is one span: only its first token stays, as the mask.
    keep = ~masked | (opens & ~np.roll(masked, 1)) | (opens & (np.arange(len(ids)) == 0))
    noisy = np.where(masked, mask_id, ids)[keep]
    noisy = _insert(noisy, num_insertions, mask_id, draw)
    at = np.flatnonzero(noisy == mask_id)
    swapped = at[draw.random(len(at)) < config.random_ratio]
    noisy[swapped] = draw.integers(*random_ids, size=len(swapped))
    return noisy


def _span_lengths(total: int, mean: float, draw: np.random.Generator) -> Ids:
    """Draw Poisson lengths until they sum to `total` words; the last is cut to fit."""
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
