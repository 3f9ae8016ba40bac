"""Places sentences into rows of fixed length, and expands them on the device.

All tokens are on the device in one tensor. The CPU only decides which sentences a row contains:
for each stream of a batch (sources, decoder inputs, labels) it sends a list of segments, and the
device looks up the token of each position. A segment is a sentence of the corpus or one special
token, so that `<s> a b </s>`, two joined sentences, is four segments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .packed_model import PAD, PackedBatch

OPEN_ROWS = 16
"""Rows that a pair can be placed into; more leave less padding and take longer."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The sentences of both sides, each with its tokens for the encoder and for the decoder."""

    source_tokens: Tensor
    source_begins: Tensor
    source_lengths: Tensor
    target_tokens: Tensor
    target_begins: Tensor
    target_lengths: Tensor
    bos: int
    """Number of the segment `<s>`; `</s>` is the next one."""
    languages: dict[int, int]
    """Number of the segment of a language token."""
    source_pad: int
    target_pad: int

    def to(self, device: str) -> "Corpus":
        """Return the corpus on a device."""
        tensors = {name: v.to(device) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return Corpus(**{**vars(self), **tensors})


@dataclass(frozen=True)
class Pair:
    """Sentences to translate as one, and the language token of the target."""

    sources: Sequence[int]
    targets: Sequence[int]
    language: int


@dataclass(frozen=True, kw_only=True)
class PlacedBatch:
    """The segments of a batch: for each of the three streams numbers, starts and sentences."""

    segments: Tensor
    """(3 streams, 3, maximum number of segments) int32; unused ones start after the last row."""
    labels: int
    """Number of labels."""
    positions: int
    """Number of positions that contain a token, of both sides."""

    def pinned(self) -> "PlacedBatch":
        """Return the batch in memory from which a GPU copies while it computes."""
        return replace(self, segments=self.segments.pin_memory())


class Placer:
    """Fills batches of R rows of S positions."""

    def __init__(self, corpus: Corpus, *, rows: int, length: int):
        self._corpus, self._rows, self._length = corpus, rows, length
        self._source_lengths = corpus.source_lengths.tolist()
        self._target_lengths = corpus.target_lengths.tolist()

    def lengths(self, pair: Pair) -> tuple[int, int]:
        """Return the positions that a pair needs on the side of the source and of the target."""
        source = sum(self._source_lengths[number] for number in pair.sources) + 2
        target = sum(self._target_lengths[number] for number in pair.targets) + 1
        return source, target

    def fits(self, pair: Pair) -> bool:
        """Return whether a pair is not longer than a row."""
        return max(self.lengths(pair)) <= self._length

    def batches(self, pairs: Iterator[Pair], *, flush: bool = False) -> Iterator[PlacedBatch]:
        """Yield full batches; `flush` also yields the last one, which may be partly empty."""
        placed: list[tuple[int, int, Pair]] = []
        free: list[list[int]] = []  # of open rows: number, free positions of both sides
        opened = 0
        for pair in pairs:
            source, target = self.lengths(pair)
            row = next((row for row in free if row[1] >= source and row[2] >= target), None)
            if row is None and opened == self._rows:
                yield self._batch(placed)
                placed, free, opened = [], [], 0
            if row is None:
                if len(free) == OPEN_ROWS:
                    free.remove(min(free, key=lambda each: min(each[1:])))
                row = [opened, self._length, self._length]
                free.append(row)
                opened += 1
            begin = row[0] * self._length + self._length
            placed.append((begin - row[1], begin - row[2], pair))
            row[1], row[2] = row[1] - source, row[2] - target
        if flush and placed:
            yield self._batch(placed)

    def _batch(self, placed: list[tuple[int, int, Pair]]) -> PlacedBatch:
        bos, eos = self._corpus.bos, self._corpus.bos + 1
        streams: list[list[tuple[int, int, int]]] = [[], [], []]
        counts = [0, 0]
        for number, (source_start, target_start, pair) in enumerate(placed):
            language = self._corpus.languages[pair.language]
            for stream, start, segments, lengths in (
                (0, source_start, [bos, *pair.sources, eos], self._source_lengths),
                (1, target_start, [language, *pair.targets], self._target_lengths),
                (2, target_start, [*pair.targets, eos], self._target_lengths),
            ):
                at = start
                for segment in segments:
                    streams[stream].append((at, segment, number))
                    at += lengths[segment]
            for side, length in enumerate(self.lengths(pair)):
                counts[side] += length
        size = self._rows * self._length
        filled = torch.full((3, 3, size), size, dtype=torch.int32)
        filled[:, 1:] = 0
        for stream, segments in enumerate(streams):
            filled[stream, :, : len(segments)] = torch.tensor(sorted(segments), dtype=torch.int32).T
        return PlacedBatch(segments=filled, labels=counts[1], positions=sum(counts))


def expand(corpus: Corpus, segments: Tensor, *, rows: int, length: int) -> PackedBatch:
    """Return the tokens of a placed batch on the device of its segments."""
    source = _expand(
        segments[0], corpus.source_tokens, corpus.source_begins, corpus.source_lengths,
        rows=rows, length=length, pad=corpus.source_pad,
    )  # fmt: skip
    inputs, labels = (
        _expand(
            segments[stream], corpus.target_tokens, corpus.target_begins, corpus.target_lengths,
            rows=rows, length=length, pad=corpus.target_pad,
        )
        for stream in (1, 2)
    )  # fmt: skip
    return PackedBatch(
        source_RS=source[0],
        source_positions_RS=source[1],
        source_numbers_RS=source[2],
        target_RT=inputs[0],
        target_positions_RT=inputs[1],
        target_numbers_RT=inputs[2],
        labels_RT=labels[0],
    )


def _expand(
    segments: Tensor,
    tokens: Tensor,
    begins: Tensor,
    lengths: Tensor,
    *,
    rows: int,
    length: int,
    pad: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, places in the sentence and sentence numbers of all positions (R, S)."""
    starts, chosen, numbers = segments.long()
    size = rows * length
    places = torch.arange(size, device=starts.device)
    at = (torch.searchsorted(starts, places, right=True) - 1).clamp_min(0)
    within = places - starts[at]
    segment = chosen[at]
    is_token = (within >= 0) & (within < lengths[segment])
    ids = tokens[torch.where(is_token, begins[segment] + within, 0)].long()
    number = torch.where(is_token, numbers[at], PAD)
    # A sentence begins where its number appears first.
    first = torch.full((size + 1,), size, device=places.device)
    first = first.scatter_reduce(0, torch.where(is_token, number, size), places, "amin")
    position = torch.where(is_token, places - first[number.clamp_min(0)], 0)
    return (
        torch.where(is_token, ids, pad).view(rows, length),
        position.view(rows, length),
        number.view(rows, length),
    )
