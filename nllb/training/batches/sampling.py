"""Temperature sampling: the pairs of a chunk of steps as a function of (seed, phase, chunk).

Directions are sampled by weight: p ~ (n / N) ^ (1 / T) (NLLB Team 2022, section 6.1.2). Direction d
contributes exactly floor(c * p_d * V) pairs to the first c chunks of a phase, so any chunk can be
computed without its predecessors. Within a direction, pairs follow a keyed permutation, and every
pass over the direction uses a new one: no pair repeats before all pairs have been seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.io.manifest import Manifest, TrainingDirection, sampling_weights

ROUNDS = 4
_MIX = np.uint64(0x9E3779B97F4A7C15)
Indices = NDArray[np.int64]
Key = Sequence[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivePhase:
    """A phase of the curriculum with its sampling distribution.

    Attributes:
        number: index of the phase, from 0.
        begin: first optimizer step, counted from 0.
        end: first step after the phase; None means that it lasts to the end of the run.
        directions: active directions.
        weights: sampling probability of each direction.
    """

    number: int
    begin: int
    end: int | None
    directions: tuple[TrainingDirection, ...]
    weights: NDArray[np.float64]


def active_phases(
    manifest: Manifest, *, temperature: float | None = None, by_labels: bool = False
) -> list[ActivePhase]:
    """Return the phases of a manifest with normalised weights.

    Args:
        manifest: the training data.
        temperature: overrides the manifest's sampling temperature.
        by_labels: interpret the weights as shares of the labels instead of the pairs.

    Raises:
        DataError: A direction has no training pairs.
    """
    phases: list[ActivePhase] = []
    begin = 0
    for number, phase in enumerate(manifest.phases):
        directions = tuple(manifest.by_name[name] for name in phase.directions)
        for direction in directions:
            if not manifest.parts_for(direction.source, direction.target):
                raise DataError(
                    f"direction {direction.name} has no training text in {manifest.directory}; "
                    f"remove it from the phases or run `nllb data prepare` again"
                )
        weights = np.array([direction.weight for direction in directions])
        if temperature is not None:
            sizes = [direction.num_pairs for direction in directions]
            weights = np.array(sampling_weights(sizes, temperature))
        if by_labels:
            weights /= [_mean_labels(manifest, direction) for direction in directions]
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


def _mean_labels(manifest: Manifest, direction: TrainingDirection) -> float:
    parts = manifest.parts_for(direction.source, direction.target)
    labels = sum(
        file.num_source_tokens
        if is_reversed or not file.num_target_tokens
        else file.num_target_tokens
        for part, is_reversed in parts
        for file in part.files
    )
    return labels / sum(part.num_pairs for part, _ in parts) + 2  # language token and </s>


def phase_of(phases: Sequence[ActivePhase], step: int) -> ActivePhase:
    """Return the phase that a step belongs to; the last phase has no end."""
    for phase in phases:
        if phase.end is None or step < phase.end:
            return phase
    return phases[-1]


def draws(phase: ActivePhase, chunk: int, pairs_per_chunk: int) -> tuple[Indices, Indices, Indices]:
    """Return the draws of a chunk: (direction indices, first draw, end of draws).

    Draws are numbered consecutively over the whole phase, so those of different chunks are disjoint
    and contiguous.
    """
    before = np.floor(chunk * phase.weights * pairs_per_chunk).astype(np.int64)
    after = np.floor((chunk + 1) * phase.weights * pairs_per_chunk).astype(np.int64)
    active = np.flatnonzero(after > before)
    return active, before[active], after[active]


def sample_items(firsts: Indices, ends: Indices, sizes: Indices, *, keys: Sequence[Key]) -> Indices:
    """Map the draws of several directions to item numbers.

    Args:
        firsts: first draw of each direction.
        ends: end of its draws.
        sizes: number of items of each direction; items are numbered from 0.
        keys: seeds of the permutations of each direction.
    """
    counts = ends - firsts
    direction_N = np.repeat(np.arange(len(counts)), counts)
    draw_N = ranges(counts) + np.repeat(firsts, counts)
    pass_N, place_N = np.divmod(draw_N, sizes[direction_N])
    # Each pass over a direction has its own permutation, and its draws are contiguous.
    begins_N = (np.diff(direction_N, prepend=-1) != 0) | (np.diff(pass_N, prepend=-1) != 0)
    begins = np.flatnonzero(begins_N)
    of_begin = direction_N[begins].tolist()
    return permute(
        place_N,
        sizes[of_begin],
        keys=[[*keys[d], n] for d, n in zip(of_begin, pass_N[begins].tolist(), strict=True)],
        permutation=np.cumsum(begins_N) - 1,
    )


def permute(
    places: Indices, sizes: Indices, *, keys: Sequence[Key], permutation: Indices
) -> Indices:
    """Evaluate keyed permutations at some positions without materialising them.

    Each permutation is a Feistel network over the next power of 4, with cycle walking until the
    result is below the size.

    Args:
        places: positions to map.
        sizes: number of items of each permutation.
        keys: seed of each permutation.
        permutation: index of the permutation that applies to each position.
    """
    secrets = np.array(
        [np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64) for key in keys]
    )
    secrets = secrets.reshape(-1, ROUNDS).T
    half_bits = np.array([max(1, -(-(size - 1).bit_length() // 2)) for size in sizes.tolist()])
    halves, limits = half_bits.astype(np.uint64), sizes.astype(np.uint64)
    masks = (np.uint64(1) << halves) - np.uint64(1)
    result = places.astype(np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        of = permutation[outside]
        half, mask, value = halves[of], masks[of], result[outside]
        left, right = value >> half, value & mask
        for secret in secrets:
            left, right = right, left ^ (_scramble(right ^ secret[of]) & mask)
        value = (left << half) | right
        result[outside] = value
        outside = outside[value >= limits[of]]
    return result.astype(np.int64)


def ranges(lengths: Indices) -> Indices:
    """Return the concatenation of `arange(n)` for each length n."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _scramble(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits; uint64 array arithmetic wraps around without a warning."""
    value = (value + _MIX) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
