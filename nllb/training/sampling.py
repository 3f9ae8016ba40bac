"""Which pairs a chunk of training steps sees: a pure function of seed, phase and chunk number.

Directions are drawn by their weights (p ~ (n / N) ^ (1 / T), NLLB Team 2022, 6.1.2). Over the
chunks of a phase, direction d has exactly floor(c * p_d * V) pairs before chunk c, so any chunk can
be computed without those before it. Within a direction the pairs are walked in the order of a keyed
permutation, a new one each time it is exhausted: no pair comes back before all have been seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.shards import Direction, Manifest, sampling_weights

ROUNDS = 4
_MIX = np.uint64(0x9E3779B97F4A7C15)
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivePhase:
    """A phase of the curriculum with what it draws from."""

    number: int
    """Its number, from 0."""
    begin: int
    """First optimizer step, counted from 0."""
    end: int | None
    """First step after it; None lasts to the end."""
    directions: tuple[Direction, ...]
    """Directions that are active."""
    weights: NDArray[np.float64]
    """Probability of each."""


def active_phases(manifest: Manifest, *, temperature: float | None = None) -> list[ActivePhase]:
    """Return the phases with their weights renormalised; `temperature` replaces the manifest's.

    Raises:
        DataError: a direction has no pairs to train on.
    """
    phases: list[ActivePhase] = []
    begin = 0
    for number, phase in enumerate(manifest.phases):
        directions = tuple(manifest.by_name[name] for name in phase.directions)
        for direction in directions:
            if not manifest.parts_for(direction.source, direction.target):
                raise DataError(
                    f"direction {direction.name} has no training text in {manifest.directory}; "
                    f"leave it out of the phases or run `nllb data prepare` again"
                )
        weights = np.array([direction.weight for direction in directions])
        if temperature is not None:
            sizes = [direction.num_pairs for direction in directions]
            weights = np.array(sampling_weights(sizes, temperature))
        phases.append(
            ActivePhase(
                number=number,
                begin=begin,
                end=phase.until_step,
                directions=directions,
                weights=weights / weights.sum(),
            )
        )
        if phase.until_step is not None:
            begin = phase.until_step
    return phases


def phase_of(phases: Sequence[ActivePhase], step: int) -> ActivePhase:
    """Return the phase that a step belongs to; the last one goes on for ever."""
    for phase in phases:
        if phase.end is None or step < phase.end:
            return phase
    return phases[-1]


def draws(phase: ActivePhase, chunk: int, pairs_per_chunk: int) -> list[tuple[int, int, int]]:
    """Return (direction number, first draw, end of draws) for the directions of a chunk.

    Draws are counted through the phase, so they are disjoint between chunks and leave no gap.
    """
    before = np.floor(chunk * phase.weights * pairs_per_chunk).astype(np.int64)
    after = np.floor((chunk + 1) * phase.weights * pairs_per_chunk).astype(np.int64)
    active = np.flatnonzero(after > before)
    return [(int(d), int(before[d]), int(after[d])) for d in active]


def walk(first: int, end: int, size: int, *, key: Sequence[int]) -> Indices:
    """Return the items (0 to `size` - 1) that draws `first` to `end` - 1 of a direction fall on."""
    passes, places = np.divmod(np.arange(first, end, dtype=np.int64), size)
    items = np.empty_like(places)
    for number in np.unique(passes):
        chosen = passes == number
        items[chosen] = permute(places[chosen], size, key=[*key, int(number)])
    return items


def permute(places: Indices, size: int, *, key: Sequence[int]) -> Indices:
    """Return where a keyed permutation of `size` items sends some places, without building it.

    A Feistel network over the next power of 4, walked on until the result is below `size`.
    """
    if size <= 1:
        return np.zeros_like(places)
    half_bits = max(1, -(-(size - 1).bit_length() // 2))
    half = np.uint64(half_bits)
    mask = np.uint64((1 << half_bits) - 1)
    entropy = np.random.SeedSequence(list(key)).generate_state(ROUNDS, np.uint64)
    result = places.astype(np.uint64)
    outside = np.ones(len(result), dtype=bool)
    while outside.any():
        value = result[outside]
        left, right = value >> half, value & mask
        for secret in entropy:
            left, right = right, left ^ (_scramble(right ^ secret) & mask)
        result[outside] = (left << half) | right
        outside = result >= np.uint64(size)
    return result.astype(np.int64)


def _scramble(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        value = (value + _MIX) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
