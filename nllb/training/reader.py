"""Batches of token ids from shards: endless, and a pure function of (seed, phase, step).

Steps come in chunks. A chunk's pairs are drawn (`sampling`), gathered from the memory-mapped shards
once, sorted into length buckets and cut into micro-batches under a token budget; their order is
shuffled. A step takes a fixed number of micro-batches, whatever the number of ranks: rank r of R
takes the micro-batches r, r + R, ... So the state of a reader is one integer, the step, and a run
can go on with another number of ranks.

Source: `__src__ [tag] tokens </s>`; decoder input: `</s> __tgt__ tokens`; labels: `__tgt__ tokens
</s>` (NLLB Team 2022; matches fairseq's nllb branch).

Shapes: B pairs, S source positions, T target positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nllb.errors import ConfigError, DataError
from nllb.model.tokenizer import Tokenizer
from nllb.shards import Direction, Manifest, Part, Split, TokenShard
from nllb.training.noise import NoiseConfig, add_noise
from nllb.training.sampling import ActivePhase, active_phases, draws, phase_of, walk
from nllb.training.vocabulary import TokenIds

STEPS_PER_CHUNK = 64
BOS_ID, PAD_ID, EOS_ID = 0, 1, 2
SPARE = 1.05
"""A chunk draws this much more than it needs on average, so that it hardly ever wraps around."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReaderConfig:
    """How batches are cut."""

    max_tokens: int = 4096
    """Most tokens of a micro-batch on its longer side, padding included."""
    batches_per_step: int = 1
    """Micro-batches of one optimizer step, over all ranks."""
    max_length: int = 512
    """Longest side in tokens; longer pairs are left out and counted."""
    temperature: float | None = None
    """Sampling temperature; null takes the manifest's."""
    seed: int = 2
    """Seed of the data order."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """Noise of denoising sources."""

    def faults(self) -> Iterator[str]:
        """Yield what cannot work."""
        for name in ("max_tokens", "batches_per_step", "max_length"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1, got {getattr(self, name)}"
        if self.max_tokens < self.max_length:
            yield (
                f"max_tokens {self.max_tokens} cannot hold one pair of max_length {self.max_length}"
            )
        yield from self.noise.faults()


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One micro-batch."""

    source: Tensor
    """(B, S) ids, padded with 1."""
    target_in: Tensor
    """(B, T) decoder input."""
    labels: Tensor
    """(B, T) what the decoder shall say; padded with 1, which does not count."""
    directions: Tensor
    """(B) number of each pair's direction in the manifest."""

    @property
    def num_targets(self) -> int:
        """Labels that count."""
        return int((self.labels != PAD_ID).sum())

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(
            source=self.source.to(device, non_blocking=True),
            target_in=self.target_in.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            directions=self.directions,
        )


class PairSource:
    """The pairs of one direction and split, over all parts and shards that feed it."""

    def __init__(self, manifest: Manifest, direction: Direction, split: Split) -> None:
        self._shards: list[tuple[TokenShard, Part, bool]] = []
        for part, is_reversed in manifest.parts_for(direction.source, direction.target, split):
            opened = [manifest.open(file) for file in part.files]
            self._shards += [(shard, part, is_reversed) for shard in opened]
        self._ends = np.cumsum([len(shard) for shard, _, _ in self._shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, items: Ids) -> Iterator[tuple[TokenShard, Part, bool, Ids, Ids]]:
        """Yield (shard, part, reversed, places in `items`, indices in the shard)."""
        of_shard = np.searchsorted(self._ends, items, side="right")
        for number in np.unique(of_shard):
            places = np.flatnonzero(of_shard == number)
            begin = int(self._ends[number - 1]) if number else 0
            yield *self._shards[number], places, items[places] - begin


@dataclass(kw_only=True, slots=True)
class _Ragged:
    """Rows of tokens of any length, flat."""

    tokens: Ids
    starts: Ids
    lengths: Ids

    @classmethod
    def join(cls, rows: Sequence[Ids]) -> "_Ragged":
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        tokens = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        return cls(tokens=tokens.astype(np.int64), starts=starts, lengths=lengths)

    def pad(self, rows: Ids) -> Ids:
        """Return some rows as a matrix filled up with <pad>."""
        lengths = self.lengths[rows]
        matrix = np.full((len(rows), int(lengths.max(initial=1))), PAD_ID, dtype=np.int64)
        columns = _ranges(lengths)
        at = np.repeat(np.arange(len(rows)), lengths)
        matrix[at, columns] = self.tokens[np.repeat(self.starts[rows], lengths) + columns]
        return matrix


def _ranges(lengths: Ids) -> Ids:
    """Return 0 .. n - 1 for each length, one behind the other."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)


class _Builder:
    """Collects the pairs of one chunk as source and target rows."""

    def __init__(
        self, config: ReaderConfig, ids: TokenIds, word_starts: NDArray[np.bool_] | None
    ) -> None:
        self._config, self._ids, self._word_starts = config, ids, word_starts
        self.sources: list[_Ragged] = []
        self.targets: list[_Ragged] = []
        self.directions: list[Ids] = []
        self.too_long = 0

    def add(
        self, number: int, direction: Direction, pairs: PairSource, items: Ids, key: Sequence[int]
    ) -> None:
        """Add the pairs `items` of a direction."""
        for shard, part, is_reversed, places, indices in pairs.locate(items):
            if part.origin == "denoising":
                sources, targets = self._denoise(shard, indices, places, key)
            else:
                sides = [_gather(shard, "source", indices), _gather(shard, "target", indices)]
                sources, targets = reversed(sides) if is_reversed else sides
            source_head = [self._ids.languages[direction.source]]
            if part.origin in self._ids.tags:
                source_head.append(self._ids.tags[part.origin])
            target_head = [self._ids.languages[direction.target]]
            sources, targets = _frame(sources, source_head), _frame(targets, target_head)
            longer = np.maximum(sources.lengths, targets.lengths)
            fits = np.flatnonzero(longer <= self._config.max_length)
            self.too_long += len(longer) - len(fits)
            self.sources.append(_take(sources, fits))
            self.targets.append(_take(targets, fits))
            self.directions.append(np.full(len(fits), number, dtype=np.int64))

    def _denoise(
        self, shard: TokenShard, indices: Ids, places: Ids, key: Sequence[int]
    ) -> tuple[_Ragged, _Ragged]:
        clean = _gather(shard, "source", indices)
        if self._ids.mask is None:
            raise DataError("denoising text needs a vocabulary with a row for <mask>")
        noisy = []
        for row, place in enumerate(places):
            start = clean.starts[row]
            ids = clean.tokens[start : start + clean.lengths[row]]
            begins = (
                np.ones(len(ids), dtype=bool)
                if self._word_starts is None
                else self._word_starts[ids]
            )
            noisy.append(
                add_noise(
                    ids,
                    begins,
                    self._config.noise,
                    mask_id=self._ids.mask,
                    random_ids=self._ids.pieces,
                    draw=np.random.default_rng([*key, int(place)]),
                )
            )
        return _Ragged.join(noisy), clean


def _gather(shard: TokenShard, side: str, indices: Ids) -> _Ragged:
    offsets = shard.source_offsets if side == "source" else shard.target_offsets
    assert offsets is not None
    starts = offsets[indices].astype(np.int64)
    lengths = offsets[indices + 1].astype(np.int64) - starts
    tokens = shard.source_tokens if side == "source" else shard.target_tokens
    flat = tokens[np.repeat(starts, lengths) + _ranges(lengths)].astype(np.int64)
    ends = np.cumsum(lengths)
    return _Ragged(tokens=flat, starts=ends - lengths, lengths=lengths)


def _frame(rows: _Ragged, head: Sequence[int]) -> _Ragged:
    """Put the head before and </s> behind every row."""
    extra = len(head) + 1
    lengths = rows.lengths + extra
    ends = np.cumsum(lengths)
    starts = ends - lengths
    tokens = np.full(int(ends[-1]) if len(ends) else 0, EOS_ID, dtype=np.int64)
    for place, token in enumerate(head):
        tokens[starts + place] = token
    inner = np.repeat(starts + len(head), rows.lengths) + _ranges(rows.lengths)
    tokens[inner] = rows.tokens
    return _Ragged(tokens=tokens, starts=starts, lengths=lengths)


def _take(rows: _Ragged, chosen: Ids) -> _Ragged:
    return _Ragged(tokens=rows.tokens, starts=rows.starts[chosen], lengths=rows.lengths[chosen])


def _merge(parts: Sequence[_Ragged]) -> _Ragged:
    shifts = np.cumsum([0, *(len(part.tokens) for part in parts)])
    return _Ragged(
        tokens=np.concatenate([part.tokens for part in parts]),
        starts=np.concatenate([p.starts + s for p, s in zip(parts, shifts, strict=False)]),
        lengths=np.concatenate([part.lengths for part in parts]),
    )


class BatchReader:
    """Reads the micro-batches of training steps, for one rank."""

    def __init__(
        self,
        manifest: Manifest,
        config: ReaderConfig,
        *,
        rank: int = 0,
        num_ranks: int = 1,
        ids: TokenIds | None = None,
        word_starts: NDArray[np.bool_] | None = None,
    ) -> None:
        """Open the shards.

        Args:
            manifest: the data.
            config: how batches are cut.
            rank: this process among those that share a step's micro-batches.
            num_ranks: all of them.
            ids: language tokens and tags; None takes the manifest's.
            word_starts: by id, whether a word begins with the piece; for denoising. None takes
                every piece for a word.

        Raises:
            ConfigError: the micro-batches of a step cannot be shared equally.
            DataError: a shard is missing or damaged, or a direction has no text.
        """
        if config.batches_per_step % num_ranks:
            raise ConfigError(
                f"batches_per_step {config.batches_per_step} cannot be shared equally by "
                f"{num_ranks} ranks; take a multiple of {num_ranks}"
            )
        self.manifest, self.config = manifest, config
        self.rank, self.num_ranks = rank, num_ranks
        self.phases = active_phases(manifest, temperature=config.temperature)
        self._ids = ids or TokenIds.of_record(manifest.vocabulary)
        self._word_starts = word_starts
        self._numbers = {d.name: number for number, d in enumerate(manifest.directions)}
        self._sources: dict[str, PairSource] = {}
        self._chunk: tuple[int, int] | None = None
        self._batches: list[Ids] = []
        self._rows: tuple[_Ragged, _Ragged, Ids] | None = None
        self.too_long = 0

    def step(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of an optimizer step, counted from 0."""
        phase = phase_of(self.phases, step)
        chunk, place = divmod(step - phase.begin, STEPS_PER_CHUNK)
        if self._chunk != (phase.number, chunk):
            self._load(phase, chunk)
        first = place * self.config.batches_per_step
        wanted = range(first + self.rank, first + self.config.batches_per_step, self.num_ranks)
        return [self._collate(self._batches[index % len(self._batches)]) for index in wanted]

    def _load(self, phase: ActivePhase, chunk: int) -> None:
        key = [self.config.seed, phase.number]
        builder = _Builder(self.config, self._ids, self._word_starts)
        needed = STEPS_PER_CHUNK * self.config.batches_per_step
        pairs_per_chunk = self._pairs_per_chunk(phase)
        for number, first, end in draws(phase, chunk, pairs_per_chunk):
            direction = phase.directions[number]
            pairs = self._pairs(direction)
            of_direction = self._numbers[direction.name]
            items = walk(first, end, len(pairs), key=[*key, of_direction])
            builder.add(of_direction, direction, pairs, items, [*key, of_direction, chunk])
        if not builder.sources or not sum(map(len, builder.directions)):
            raise DataError(
                f"phase {phase.number + 1} has no pair of at most {self.config.max_length} tokens"
            )
        self.too_long += builder.too_long
        rows = (
            _merge(builder.sources),
            _merge(builder.targets),
            np.concatenate(builder.directions),
        )
        draw = np.random.default_rng([*key, chunk])
        longest = np.maximum(rows[0].lengths, rows[1].lengths)
        batches = cut_batches(longest, self.config.max_tokens, draw)
        order = draw.permutation(len(batches))
        self._batches = [batches[index] for index in order[: max(needed, 1)]]
        self._rows, self._chunk = rows, (phase.number, chunk)

    def _pairs(self, direction: Direction) -> PairSource:
        if direction.name not in self._sources:
            self._sources[direction.name] = PairSource(self.manifest, direction, "train")
        return self._sources[direction.name]

    def _pairs_per_chunk(self, phase: ActivePhase) -> int:
        """Estimate the pairs that fill a chunk from the manifest's token counts."""
        mean = self._mean_length
        per_batch = max(1.0, self.config.max_tokens / mean)
        needed = STEPS_PER_CHUNK * self.config.batches_per_step * per_batch * SPARE
        return max(int(needed), len(phase.directions))

    @cached_property
    def _mean_length(self) -> float:
        """Mean tokens of a pair's longer side, language token and end included."""
        files = [
            file for part in self.manifest.parts for file in part.files if part.split == "train"
        ]
        tokens = sum(max(file.num_source_tokens, file.num_target_tokens) for file in files)
        return tokens / max(1, sum(file.num_pairs for file in files)) * 1.1 + 2

    def _collate(self, rows: Ids) -> Batch:
        assert self._rows is not None
        return collate(*self._rows, rows)


def collate(sources: _Ragged, targets: _Ragged, directions: Ids, rows: Ids) -> Batch:
    """Return some pairs as one padded batch."""
    labels = targets.pad(rows)
    target_in = np.empty_like(labels)
    target_in[:, 0] = EOS_ID
    target_in[:, 1:] = labels[:, :-1]
    target_in[:, 1:][labels[:, :-1] == EOS_ID] = PAD_ID
    return Batch(
        source=torch.from_numpy(sources.pad(rows)),
        target_in=torch.from_numpy(target_in),
        labels=torch.from_numpy(labels),
        directions=torch.from_numpy(directions[rows]),
    )


def cut_batches(lengths: Ids, max_tokens: int, draw: np.random.Generator) -> list[Ids]:
    """Return batches of items of like length, each of at most `max_tokens` with its padding."""
    shuffled = draw.permutation(len(lengths))
    order = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    batches, begin = [], 0
    sorted_lengths = lengths[order]
    while begin < len(order):
        # Lengths rise: the longest of a batch is its last.
        end = begin + 1
        low, high = begin + 1, min(len(order), begin + max_tokens) + 1
        while low < high:
            middle = (low + high) // 2
            if middle <= len(order) and sorted_lengths[middle - 1] * (middle - begin) <= max_tokens:
                end, low = middle, middle + 1
            else:
                high = middle
        batches.append(order[begin:end])
        begin = end
    return batches


def read_validation(
    manifest: Manifest, config: ReaderConfig, *, max_pairs: int, ids: TokenIds | None = None
) -> Iterator[tuple[Direction, list[Batch]]]:
    """Yield each direction that has held-out pairs with batches of at most `max_pairs` of them."""
    for number, direction in enumerate(manifest.directions):
        pairs = PairSource(manifest, direction, "valid")
        if not len(pairs):
            continue
        builder = _Builder(config, ids or TokenIds.of_record(manifest.vocabulary), None)
        items = np.arange(min(len(pairs), max_pairs), dtype=np.int64)
        builder.add(number, direction, pairs, items, [config.seed, number])
        sources, targets = _merge(builder.sources), _merge(builder.targets)
        if not len(sources.lengths):
            continue
        longest = np.maximum(sources.lengths, targets.lengths)
        batches = cut_batches(longest, config.max_tokens, np.random.default_rng(0))
        found = [collate(sources, targets, np.concatenate(builder.directions), b) for b in batches]
        yield direction, found


def held_out_text(
    manifest: Manifest, tokenizer: Tokenizer, *, max_pairs: int
) -> Iterator[tuple[Direction, list[str], list[str]]]:
    """Yield each direction that has held-out pairs with at most `max_pairs` of them as text."""
    for direction in manifest.directions:
        sources: list[str] = []
        targets: list[str] = []
        for part, is_reversed in manifest.parts_for(direction.source, direction.target, "valid"):
            for shard in map(manifest.open, part.files if part.origin != "denoising" else ()):
                for index in range(min(len(shard), max_pairs - len(sources))):
                    sides = [shard.source(index), shard.target(index)]
                    source, target = reversed(sides) if is_reversed else sides
                    sources.append(tokenizer.decode(source.tolist()))
                    targets.append(tokenizer.decode(target.tolist()))
        if sources:
            yield direction, sources, targets
