"""Gathers pairs of many directions from their shards and puts language tokens around them.

A direction has few pairs in a chunk and there are thousands of directions, so all is done for the
whole chunk at once; only reading itself goes shard by shard.

Shapes: N pairs of a chunk, P pieces: the pairs that come from one shard for one direction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.io.manifest import Manifest, ShardGroup, Split, TrainingDirection
from nllb.io.shards import ShardFile, TokenShard
from nllb.training.noise import NoiseConfig, add_noise
from nllb.training.sampling import Indices, Key, ranges
from nllb.training.vocabulary import TokenIds

PAD_ID, EOS_ID = 1, 2

Tokens = NDArray[np.integer[Any]]
_Side = tuple[Tokens, Indices]
"""Tokens, and (2, N) starts and ends of rows in them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ragged:
    """Rows of tokens of any length, flat."""

    tokens: NDArray[np.int32]
    """The tokens of all rows."""
    starts: Indices
    """Where each row starts."""
    lengths: Indices
    """How long it is."""
    heads: Indices
    """How many tokens stand before its text: language and tag."""

    def pad(self, rows: Indices) -> Indices:
        """Return some rows as a matrix filled up with <pad>."""
        lengths = self.lengths[rows]
        matrix = np.full((len(rows), int(lengths.max(initial=1))), PAD_ID, dtype=np.int64)
        columns = ranges(lengths)
        at = np.repeat(np.arange(len(rows)), lengths)
        matrix[at, columns] = self.tokens[np.repeat(self.starts[rows], lengths) + columns]
        return matrix


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Pairs with language tokens, tags and ends."""

    sources: Ragged
    """`__src__ [tag] tokens </s>`."""
    targets: Ragged
    """`__tgt__ tokens </s>`."""
    directions: Indices
    """Number of each pair's direction in the manifest."""
    too_long: int
    """Pairs that were left out."""

    def __len__(self) -> int:
        return len(self.directions)

    @property
    def longest(self) -> Indices:
        """Tokens of each pair's longer side."""
        return np.maximum(self.sources.lengths, self.targets.lengths)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Some pairs of one direction."""

    number: int
    """Number of the direction in the manifest."""
    items: Indices
    """Which of its pairs."""
    key: Key
    """What the noise of denoising depends on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Piece:
    direction: int
    tag: int
    """Id of the data-source tag; 0 is none."""
    source: _Side
    target: _Side


class PairSource:
    """All pairs of one split, by direction; a shard is opened when it is first read."""

    def __init__(self, manifest: Manifest, split: Split) -> None:
        self.manifest, self._split = manifest, split
        self._open = cache(manifest.open)  # one shard serves both directions
        self._files = cache(self._files_of)

    def size(self, direction: TrainingDirection) -> int:
        """Return how many pairs a direction has."""
        ends = self._files(direction)[1]
        return int(ends[-1]) if len(ends) else 0

    def _files_of(
        self, direction: TrainingDirection
    ) -> tuple[list[tuple[ShardFile, ShardGroup, bool]], Indices]:
        parts = self.manifest.parts_for(direction.source, direction.target, self._split)
        files = [(file, part, turned) for part, turned in parts for file in part.files]
        return files, np.cumsum([file.num_pairs for file, _, _ in files], dtype=np.int64)

    def locate(
        self, direction: TrainingDirection, items: Indices
    ) -> Iterator[tuple[TokenShard, ShardGroup, bool, Indices, Indices]]:
        """Yield (shard, part, reversed, places in `items`, indices in the shard)."""
        files, ends = self._files(direction)
        of_file = np.searchsorted(ends, items, side="right")
        order = of_file.argsort(kind="stable")
        bounds = np.searchsorted(of_file[order], np.arange(len(files) + 1)).tolist()
        for number, (file, part, turned) in enumerate(files):
            places = order[bounds[number] : bounds[number + 1]]
            if len(places):
                begin = ends[number] - file.num_pairs
                yield self._open(file), part, turned, places, items[places] - begin


class Gatherer:
    """Reads requested pairs as framed rows."""

    def __init__(
        self,
        pairs: PairSource,
        ids: TokenIds,
        *,
        max_length: int,
        noise: NoiseConfig,
        word_starts: NDArray[np.bool_] | None = None,
    ) -> None:
        self._pairs, self._ids = pairs, ids
        self._max_length, self._noise, self._word_starts = max_length, noise, word_starts

    def gather(self, requests: Sequence[Request]) -> Pairs:
        """Return the pairs of all requests, without those that are too long."""
        pieces = [piece for request in requests for piece in self._pieces(request)]
        if not pieces:
            empty = np.zeros(0, dtype=np.int64)
            nothing = Ragged(
                tokens=empty.astype(np.int32), starts=empty, lengths=empty, heads=empty
            )
            return Pairs(sources=nothing, targets=nothing, directions=empty, too_long=0)
        piece_N = np.repeat(np.arange(len(pieces)), [piece.source[1].shape[1] for piece in pieces])
        numbers = [piece.direction for piece in pieces]
        tags_N = np.array([piece.tag for piece in pieces])[piece_N]
        sides = []
        for side in ("source", "target"):
            of_pieces: list[_Side] = [getattr(piece, side) for piece in pieces]
            directions = self._pairs.manifest.directions
            codes = [getattr(directions[number], side) for number in numbers]
            head = [np.array([self._ids.languages[code] for code in codes])[piece_N]]
            if side == "source":
                head.append(tags_N)
            sides.append(_Framing.of(of_pieces, piece_N, head))
        longer = np.maximum(sides[0].framed, sides[1].framed)
        fits = longer <= self._max_length
        return Pairs(
            sources=sides[0].read(fits),
            targets=sides[1].read(fits),
            directions=np.array(numbers)[piece_N[fits]],
            too_long=len(fits) - int(fits.sum()),
        )

    def _pieces(self, request: Request) -> Iterator[_Piece]:
        direction = self._pairs.manifest.directions[request.number]
        located = self._pairs.locate(direction, request.items)
        for shard, part, turned, places, indices in located:
            sides: list[_Side] = [_side(shard.source_tokens, shard.source_offsets, indices)]
            if shard.target_offsets is not None:
                sides.append(_side(shard.target_tokens, shard.target_offsets, indices))
            if part.origin == "denoising":
                keys = [[*request.key, place] for place in places.tolist()]
                sides.insert(0, self._noisy(*sides[0], keys))
            if turned:
                sides.reverse()
            yield _Piece(
                direction=request.number,
                tag=self._ids.tags.get(part.origin, 0),
                source=sides[0],
                target=sides[1],
            )

    def _noisy(self, tokens: Tokens, spans: Indices, keys: Sequence[Key]) -> _Side:
        if self._ids.mask is None:
            raise DataError("denoising text needs a vocabulary with a row for <mask>")
        noisy = []
        for (start, end), key in zip(spans.T.tolist(), keys, strict=True):
            ids = tokens[start:end].astype(np.int64)
            begins = np.ones(len(ids), dtype=bool)
            noisy.append(
                add_noise(
                    ids,
                    begins if self._word_starts is None else self._word_starts[ids],
                    self._noise,
                    mask_id=self._ids.mask,
                    random_ids=self._ids.pieces,
                    draw=np.random.default_rng(key),
                )
            )
        cuts = np.cumsum([0, *map(len, noisy)])
        return np.concatenate(noisy), np.stack([cuts[:-1], cuts[1:]])


def _side(tokens: Tokens, offsets: NDArray[np.uint64], indices: Indices) -> _Side:
    """Return a shard's tokens with the (2, N) spans of some of its rows."""
    spans = np.empty((2, len(indices)), dtype=np.int64)
    spans[0], spans[1] = offsets[indices], offsets[indices + 1]
    return tokens, spans


@dataclass(frozen=True, kw_only=True, slots=True)
class _Framing:
    """One side of all pairs, before it is read."""

    tokens: list[Tokens]
    piece_N: Indices
    starts: Indices
    lengths: Indices
    head: list[Indices]
    """What stands before a row, column by column; 0 is nothing."""

    @classmethod
    def of(cls, sides: Sequence[_Side], piece_N: Indices, head: list[Indices]) -> Self:
        starts, ends = np.concatenate([spans for _, spans in sides], axis=1)
        tokens = [tokens for tokens, _ in sides]
        return cls(tokens=tokens, piece_N=piece_N, starts=starts, lengths=ends - starts, head=head)

    @property
    def heads(self) -> Indices:
        heads: Indices = np.not_equal(self.head, 0).sum(0)
        return heads

    @property
    def framed(self) -> Indices:
        """Lengths with head and </s>."""
        return self.lengths + self.heads + 1

    def read(self, chosen: NDArray[np.bool_]) -> Ragged:
        """Read the rows that are chosen."""
        piece_N, lengths, heads = self.piece_N[chosen], self.lengths[chosen], self.heads[chosen]
        framed = lengths + heads + 1
        begins = np.cumsum(framed) - framed
        flat = np.full(int(framed.sum()), EOS_ID, dtype=np.int32)
        for place, column in enumerate(self.head):
            there = np.flatnonzero(column[chosen])
            flat[begins[there] + place] = column[chosen][there]
        steps = ranges(lengths)
        wanted = np.repeat(self.starts[chosen], lengths) + steps
        bounds = np.searchsorted(piece_N, np.arange(len(self.tokens) + 1))
        cuts = np.append(0, np.cumsum(lengths))[bounds].tolist()
        read = np.empty(len(wanted), dtype=np.int32)
        for tokens, (begin, end) in zip(self.tokens, pairwise(cuts), strict=True):
            read[begin:end] = tokens[wanted[begin:end]]
        flat[np.repeat(begins + heads, lengths) + steps] = read
        return Ragged(tokens=flat, starts=begins, lengths=framed, heads=heads)
