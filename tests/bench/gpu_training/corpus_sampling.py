"""Draws pairs by temperature, in rounds that are a function of the seed and the round's number.

No pair of a direction repeats before all of its pairs have been drawn.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .placement import Pair

LengthOf = Callable[[Pair], tuple[int, int]]
"""Returns the tokens of both sides of a pair."""
PAIRS_PER_ROUND = 16_384
MAX_JOINED = 8


@dataclass(frozen=True, kw_only=True)
class Direction:
    """Pairs of one direction."""

    name: str
    sources: Tensor
    """Sentence of each pair's source."""
    targets: Tensor
    language: int
    """Language token of the target."""
    weight: float
    """Share of the drawn pairs."""


class PairSampler:
    """An endless stream of pairs."""

    def __init__(self, directions: Sequence[Direction], *, join: float, max_length: int, seed: int):
        """Prepare to draw.

        Args:
            directions: those that have pairs.
            join: probability that a pair is joined with the next one of its direction.
            max_length: tokens of a side that a joined pair may have.
            seed: seed of the order.
        """
        total = sum(direction.weight for direction in directions)
        self._directions = directions
        self._shares = [direction.weight / total for direction in directions]
        self._join, self._max_length, self._seed = join, max_length, seed
        self._orders: dict[int, tuple[int, list[int]]] = {}

    def rounds(self, first: int, lengths: LengthOf) -> Iterator[tuple[int, list[Pair]]]:
        """Yield each round's number and its pairs, shuffled."""
        number = first
        while True:
            chance = random.Random(f"{self._seed} {number}")
            pairs = []
            for place, share in enumerate(self._shares):
                begin, end = (int((number + side) * share * PAIRS_PER_ROUND) for side in (0, 1))
                pairs += self._joined(place, range(begin, end), chance, lengths)
            chance.shuffle(pairs)
            yield number, pairs
            number += 1

    def _joined(
        self, place: int, draws: range, chance: random.Random, lengths: LengthOf
    ) -> Iterator[Pair]:
        direction = self._directions[place]
        open_pair: Pair | None = None
        for draw in draws:
            item = self._item(place, draw)
            one = Pair(
                [int(direction.sources[item])], [int(direction.targets[item])], direction.language
            )
            if open_pair is not None:
                both = Pair(
                    [*open_pair.sources, *one.sources],
                    [*open_pair.targets, *one.targets],
                    one.language,
                )
                joins = chance.random() < self._join and len(both.sources) <= MAX_JOINED
                if joins and max(lengths(both)) <= self._max_length:
                    open_pair = both
                    continue
                yield open_pair
            open_pair = one
        if open_pair is not None:
            yield open_pair

    def _item(self, place: int, draw: int) -> int:
        """Return the pair of a draw: each pass over a direction has a permutation of its own."""
        size = len(self._directions[place].sources)
        turn, within = divmod(draw, size)
        kept = self._orders.get(place)
        if kept is None or kept[0] != turn:
            generator = torch.Generator().manual_seed(self._seed + 1000 * turn + place * 1_000_003)
            kept = self._orders[place] = turn, torch.randperm(size, generator=generator).tolist()
        return kept[1][within]
