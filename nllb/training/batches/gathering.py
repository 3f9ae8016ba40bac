"""Gathers the pairs of a chunk from their shards and adds language tokens, tags and `</s>`.

A chunk contains a few pairs from each of thousands of directions, so the work is vectorised over
the whole chunk; only reading proceeds shard by shard.

Shapes: N pairs of a chunk, P pieces (the pairs of one direction that come from one shard).
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

from .noise import NoiseConfig, add_noise
from .sampling import Indices, Key, ranges
from .token_ids import TokenIds

PAD_ID, EOS_ID = 1, 2

Tokens = NDArray[np.integer[Any]]
_Side = tuple[Tokens, Indices]
"""Tokens of a shard, and (2, N) start and end offsets of rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ragged:
    """Token rows of different lengths in one flat array.

    Attributes:
        tokens: the tokens of all rows.
        starts: offset of each row.
        lengths: length of each row.
        prefix_lengths: number of tokens before the text of each row: the language token and an
            optional tag.
    """

    tokens: NDArray[np.int32]
    starts: Indices
    lengths: Indices
    prefix_lengths: Indices

    def pad(self, rows: Indices) -> Indices:
        """Return the given rows as a matrix, padded with `<pad>`."""
        lengths = self.lengths[rows]
        matrix = np.full((len(rows), int(lengths.max(initial=1))), PAD_ID, dtype=np.int64)
        columns = ranges(lengths)
        at = np.repeat(np.arange(len(rows)), lengths)
        matrix[at, columns] = self.tokens[np.repeat(self.starts[rows], lengths) + columns]
        return matrix


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Pairs with language tokens, data-source tags and `</s>`.

    Attributes:
        sources: `__src__ [tag] tokens </s>`.
        targets: `__tgt__ tokens </s>`.
        directions: index of each pair's direction in the manifest.
        too_long: number of pairs that were excluded because they exceed the maximum length.
    """

    sources: Ragged
    targets: Ragged
    directions: Indices
    too_long: int

    def __len__(self) -> int:
        return len(self.directions)

    @property
    def max_lengths(self) -> Indices:
        """Number of tokens on each pair's longer side."""
        return np.maximum(self.sources.lengths, self.targets.lengths)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRequest:
    """A request for pairs of one direction.

    Attributes:
        number: index of the direction in the manifest.
        items: indices of the requested pairs.
        key: seed of the denoising noise.
    """

    number: int
    items: Indices
    key: Key


@dataclass(frozen=True, kw_only=True, slots=True)
class _Piece:
    direction: int
    tag: int
    """Id of the data-source tag; 0 means no tag."""
    source: _Side
    target: _Side


class PairSource:
    """All pairs of one split, by direction; shards are opened lazily."""

    def __init__(self, manifest: Manifest, split: Split) -> None:
        self.manifest, self._split = manifest, split
        self._open = cache(manifest.open)  # the two directions of a pair share their shards
        self._files = cache(self._files_of)

    def size(self, direction: TrainingDirection) -> int:
        """Return the number of pairs of a direction."""
        ends = self._files(direction)[1]
        return int(ends[-1]) if len(ends) else 0

    def _files_of(
        self, direction: TrainingDirection
    ) -> tuple[list[tuple[ShardFile, ShardGroup, bool]], Indices]:
        parts = self.manifest.parts_for(direction.source, direction.target, self._split)
        files = [(file, part, is_reversed) for part, is_reversed in parts for file in part.files]
        return files, np.cumsum([file.num_pairs for file, _, _ in files], dtype=np.int64)

    def locate(
        self, direction: TrainingDirection, items: Indices
    ) -> Iterator[tuple[TokenShard, ShardGroup, bool, Indices, Indices]]:
        """Yield (shard, part, is_reversed, positions in `items`, indices in the shard)."""
        files, ends = self._files(direction)
        of_file = np.searchsorted(ends, items, side="right")
        order = of_file.argsort(kind="stable")
        bounds = np.searchsorted(of_file[order], np.arange(len(files) + 1)).tolist()
        for number, (file, part, is_reversed) in enumerate(files):
            places = order[bounds[number] : bounds[number + 1]]
            if len(places):
                begin = ends[number] - file.num_pairs
                yield self._open(file), part, is_reversed, places, items[places] - begin


class Gatherer:
    """Reads requested pairs and adds their special tokens."""

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

    def gather(self, requests: Sequence[PairRequest]) -> Pairs:
        """Return the pairs of all requests, except those that are too long."""
        pieces = [piece for request in requests for piece in self._pieces(request)]
        if not pieces:
            empty = np.zeros(0, dtype=np.int64)
            nothing = Ragged(
                tokens=empty.astype(np.int32), starts=empty, lengths=empty, prefix_lengths=empty
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
            prefix = [np.array([self._ids.languages[code] for code in codes])[piece_N]]
            if side == "source":
                prefix.append(tags_N)
            sides.append(_Framing.of(of_pieces, piece_N, prefix))
        longer = np.maximum(sides[0].framed, sides[1].framed)
        fits = longer <= self._max_length
        return Pairs(
            sources=sides[0].read(fits),
            targets=sides[1].read(fits),
            directions=np.array(numbers)[piece_N[fits]],
            too_long=len(fits) - int(fits.sum()),
        )

    def _pieces(self, request: PairRequest) -> Iterator[_Piece]:
        direction = self._pairs.manifest.directions[request.number]
        located = self._pairs.locate(direction, request.items)
        for shard, part, is_reversed, places, indices in located:
            sides: list[_Side] = [_side(shard.source_tokens, shard.source_offsets, indices)]
            if shard.target_offsets is not None:
                sides.append(_side(shard.target_tokens, shard.target_offsets, indices))
            if part.origin == "denoising":
                keys = [[*request.key, place] for place in places.tolist()]
                sides.insert(0, self._noisy(*sides[0], keys))
            if is_reversed:
                sides.reverse()
            yield _Piece(
                direction=request.number,
                tag=self._ids.tags.get(part.origin, 0),
                source=sides[0],
                target=sides[1],
            )

    def _noisy(self, tokens: Tokens, spans: Indices, keys: Sequence[Key]) -> _Side:
        if self._ids.mask is None:
            raise DataError(
                "the data contains denoising text, but the vocabulary has no <mask> token; "
                "run `nllb data prepare` again, or remove the denoising corpora"
            )
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
    """Return the tokens of a shard with the (2, N) spans of the given rows."""
    spans = np.empty((2, len(indices)), dtype=np.int64)
    spans[0], spans[1] = offsets[indices], offsets[indices + 1]
    return tokens, spans


@dataclass(frozen=True, kw_only=True, slots=True)
class _Framing:
    """The layout of one side of all pairs; `read` fills it with tokens."""

    tokens: list[Tokens]
    piece_N: Indices
    starts: Indices
    lengths: Indices
    prefix: list[Indices]
    """The prefix tokens of each row, column by column; 0 means no token."""

    @classmethod
    def of(cls, sides: Sequence[_Side], piece_N: Indices, prefix: list[Indices]) -> Self:
        starts, ends = np.concatenate([spans for _, spans in sides], axis=1)
        tokens = [tokens for tokens, _ in sides]
        return cls(
            tokens=tokens, piece_N=piece_N, starts=starts, lengths=ends - starts, prefix=prefix
        )

    @property
    def prefix_lengths(self) -> Indices:
        prefix_lengths: Indices = np.not_equal(self.prefix, 0).sum(0)
        return prefix_lengths

    @property
    def framed(self) -> Indices:
        """Row lengths including prefix and `</s>`."""
        return self.lengths + self.prefix_lengths + 1

    def read(self, chosen: NDArray[np.bool_]) -> Ragged:
        """Read the selected rows."""
        piece_N, lengths, prefix_lengths = (
            self.piece_N[chosen],
            self.lengths[chosen],
            self.prefix_lengths[chosen],
        )
        framed = lengths + prefix_lengths + 1
        begins = np.cumsum(framed) - framed
        flat = np.full(int(framed.sum()), EOS_ID, dtype=np.int32)
        for place, column in enumerate(self.prefix):
            present = np.flatnonzero(column[chosen])
            flat[begins[present] + place] = column[chosen][present]
        steps = ranges(lengths)
        wanted = np.repeat(self.starts[chosen], lengths) + steps
        bounds = np.searchsorted(piece_N, np.arange(len(self.tokens) + 1))
        cuts = np.append(0, np.cumsum(lengths))[bounds].tolist()
        read = np.empty(len(wanted), dtype=np.int32)
        for tokens, (begin, end) in zip(self.tokens, pairwise(cuts), strict=True):
            read[begin:end] = tokens[wanted[begin:end]]
        flat[np.repeat(begins + prefix_lengths, lengths) + steps] = read
        return Ragged(tokens=flat, starts=begins, lengths=framed, prefix_lengths=prefix_lengths)
