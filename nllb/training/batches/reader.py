"""An endless stream of micro-batches that is a pure function of (seed, phase, step).

Steps are grouped into chunks. The pairs of a chunk are sampled (`sampling`), gathered from the
memory-mapped shards, sorted by length, and cut into micro-batches under a token budget, whose order
is then shuffled. The number of micro-batches per step does not depend on the number of ranks: rank
r of R reads the micro-batches r, r + R, ... The reader's only state is therefore the step, and a
run can resume on a different number of ranks.

Source: `__src__ [tag] tokens </s>`; decoder input: `</s> __tgt__ tokens`; labels: `__tgt__ tokens
</s>` (NLLB Team 2022; identical to fairseq's nllb branch). On a pretrained encoder the source is
`<s> tokens </s>`, the decoder input `__tgt__ tokens`, and the labels are `tokens </s>`.

Shapes: B pairs, S source positions, T target positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nllb.errors import ConfigError, DataError
from nllb.io.manifest import Manifest, TrainingDirection
from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer
from nllb.model.tokenizer import Tokenizer
from nllb.training.train_config import ReaderConfig

from .encoder_sources import encode_sources
from .gathering import EOS_ID, PAD_ID, Gatherer, PairRequest, Pairs, PairSource
from .joining import join_pairs
from .sampling import (
    ActivePhase,
    Indices,
    active_phases,
    draws,
    phase_of,
    sample_items,
)
from .token_ids import TokenIds

STEPS_PER_CHUNK = 64
OVERSAMPLING = 1.05
"""Oversampling factor of a chunk, so that its micro-batches rarely have to be used twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One micro-batch.

    Attributes:
        source: (B, S) ids, padded with 1.
        target_in: (B, T) decoder input.
        labels: (B, T) expected decoder output; padded with 1, which the loss ignores.
        directions: (B) index of each pair's direction in the manifest.
    """

    source: Tensor
    target_in: Tensor
    labels: Tensor
    directions: Tensor

    @property
    def num_targets(self) -> int:
        """Number of labels without padding."""
        return int((self.labels != PAD_ID).sum())

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device; a GPU copies from pinned memory while it computes."""

        def move(values: Tensor) -> Tensor:
            pinned = values.pin_memory() if device.type == "cuda" else values
            return pinned.to(device, non_blocking=True)

        return replace(
            self,
            source=move(self.source),
            target_in=move(self.target_in),
            labels=move(self.labels),
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
        encoder: EncoderSourceTokenizer | None = None,
    ) -> None:
        """Open the shards.

        Args:
            manifest: the training data.
            config: batch sizes, sampling and noise.
            rank: index of this process among those that share the micro-batches of a step.
            num_ranks: number of these processes.
            ids: ids of language tokens and tags; None uses those of the manifest.
            word_starts: for each id, whether the piece begins a word (used by denoising). None
                treats every piece as a word.
            encoder: tokenizer of a model on a pretrained encoder. Sources then consist of its
                pieces, and the decoder starts with the language token.

        Raises:
            ConfigError: The micro-batches of a step cannot be divided equally among the ranks.
            DataError: A shard is missing or damaged, or a direction has no text.
        """
        if config.batches_per_step % num_ranks:
            raise ConfigError(
                f"reader.batches_per_step is {config.batches_per_step}, which {num_ranks} ranks "
                f"cannot share equally; use a multiple of {num_ranks}"
            )
        self.manifest, self.config = manifest, config
        self.rank, self.num_ranks = rank, num_ranks
        self.phases = active_phases(
            manifest, temperature=config.temperature, by_labels=config.by_labels
        )
        ids = ids or TokenIds.from_record(manifest.vocabulary)
        self._encoder = encoder
        self._pairs = PairSource(manifest, "train")
        self._gatherer = Gatherer(
            self._pairs,
            ids,
            max_length=config.max_length,
            noise=config.noise,
            word_starts=word_starts,
        )
        self._chunk_pairs = {phase.number: self._pairs_per_chunk(phase) for phase in self.phases}
        self._numbers = {d.name: number for number, d in enumerate(manifest.directions)}
        self._chunk: tuple[int, int] | None = None
        self._batches: list[Indices] = []
        self._loaded: Pairs | None = None
        self.too_long = 0

    def step(self, step: int) -> list[Batch]:
        """Return this rank's micro-batches of an optimizer step, counted from 0."""
        phase = phase_of(self.phases, step)
        chunk, place = divmod(step - phase.begin, STEPS_PER_CHUNK)
        if self._chunk != (phase.number, chunk):
            self._load(phase, chunk)
        first = place * self.config.batches_per_step
        wanted = range(first + self.rank, first + self.config.batches_per_step, self.num_ranks)
        assert self._loaded is not None
        return [
            collate(
                self._loaded,
                self._batches[index % len(self._batches)],
                starts_with_language=self._encoder is not None,
            )
            for index in wanted
        ]

    def _load(self, phase: ActivePhase, chunk: int) -> None:
        seed = [self.config.seed, phase.number]
        active, firsts, ends = draws(phase, chunk, self._chunk_pairs[phase.number])
        directions = [phase.directions[number] for number in active.tolist()]
        numbers = [self._numbers[direction.name] for direction in directions]
        items = sample_items(
            firsts,
            ends,
            np.array([self._pairs.size(direction) for direction in directions]),
            keys=[[*seed, number] for number in numbers],
        )
        shares = np.split(items, np.cumsum(ends - firsts)[:-1])
        pairs = self._gatherer.gather(
            [
                PairRequest(number=number, items=share, key=[*seed, number, chunk])
                for number, share in zip(numbers, shares, strict=True)
            ]
        )
        if not len(pairs):
            raise DataError(
                f"all sampled pairs of phase {phase.number + 1} are longer than "
                f"{self.config.max_length} tokens; raise reader.max_length"
            )
        self.too_long += pairs.too_long
        draw = np.random.default_rng([*seed, chunk])
        if self.config.join:
            pairs = join_pairs(pairs, self.config.join, self.config.max_length, draw)
        if self._encoder is not None:
            pairs = encode_sources(pairs, self._encoder)
        batches = cut_batches(pairs.max_lengths, self.config.max_tokens, draw)
        order = draw.permutation(len(batches))
        needed = STEPS_PER_CHUNK * self.config.batches_per_step
        self._batches = [batches[index] for index in order[: max(needed, 1)]]
        self._loaded, self._chunk = pairs, (phase.number, chunk)

    def _pairs_per_chunk(self, phase: ActivePhase) -> int:
        """Estimate from the manifest's token counts how many pairs fill a chunk."""
        lengths = [self._mean_length(direction) for direction in phase.directions]
        per_batch = max(1.0, self.config.max_tokens / float(phase.weights @ lengths))
        needed = STEPS_PER_CHUNK * self.config.batches_per_step * per_batch * OVERSAMPLING
        return max(int(needed), len(phase.directions))

    def _mean_length(self, direction: TrainingDirection) -> float:
        """Return the mean length of a pair's longer side, with language token and `</s>`."""
        parts = self.manifest.parts_for(direction.source, direction.target)
        files = [file for part, _ in parts for file in part.files]
        tokens = sum(max(file.num_source_tokens, file.num_target_tokens) for file in files)
        return tokens / max(1, sum(file.num_pairs for file in files)) * 1.1 + 2


def collate(pairs: Pairs, rows: Indices, *, starts_with_language: bool = False) -> Batch:
    """Return the given pairs as one padded batch.

    Args:
        pairs: the pairs of a chunk.
        rows: the pairs of the batch.
        starts_with_language: whether the decoder input starts with the language token, which is
            then not a label.
    """
    labels = pairs.targets.pad(rows)
    target_in = np.empty_like(labels)
    target_in[:, 0] = EOS_ID
    target_in[:, 1:] = labels[:, :-1]
    target_in[:, 1:][labels[:, :-1] == EOS_ID] = PAD_ID
    if starts_with_language:
        target_in, labels = target_in[:, 1:].copy(), labels[:, 1:].copy()
    return Batch(
        source=torch.from_numpy(pairs.sources.pad(rows)),
        target_in=torch.from_numpy(target_in),
        labels=torch.from_numpy(labels),
        directions=torch.from_numpy(pairs.directions[rows]),
    )


def cut_batches(lengths: Indices, max_tokens: int, draw: np.random.Generator) -> list[Indices]:
    """Group items of similar length into batches of at most `max_tokens`, including padding."""
    shuffled = draw.permutation(len(lengths))
    order = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    batches, begin = [], 0
    sorted_lengths = lengths[order]
    while begin < len(order):
        # Lengths are ascending: the longest item of a batch is the last one.
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
    manifest: Manifest,
    config: ReaderConfig,
    *,
    max_pairs: int,
    ids: TokenIds | None = None,
    encoder: EncoderSourceTokenizer | None = None,
) -> Iterator[tuple[TrainingDirection, list[Batch]]]:
    """Yield each direction with held-out pairs, and batches of at most `max_pairs` of them."""
    source = PairSource(manifest, "valid")
    gatherer = Gatherer(
        source,
        ids or TokenIds.from_record(manifest.vocabulary),
        max_length=config.max_length,
        noise=config.noise,
    )
    for number, direction in enumerate(manifest.directions):
        items = np.arange(min(source.size(direction), max_pairs), dtype=np.int64)
        pairs = gatherer.gather(
            [PairRequest(number=number, items=items, key=[config.seed, number])]
        )
        if len(pairs):
            if encoder is not None:
                pairs = encode_sources(pairs, encoder)
            batches = cut_batches(pairs.max_lengths, config.max_tokens, np.random.default_rng(0))
            yield (
                direction,
                [
                    collate(pairs, rows, starts_with_language=encoder is not None)
                    for rows in batches
                ],
            )


def held_out_text(
    manifest: Manifest, tokenizer: Tokenizer, *, max_pairs: int
) -> Iterator[tuple[TrainingDirection, list[str], list[str]]]:
    """Yield each direction with held-out pairs, and at most `max_pairs` of them as text."""
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
