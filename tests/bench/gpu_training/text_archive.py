"""The text of an archive: pairs of a manifest, chosen by temperature, as tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nllb.io.manifest import ONE_WAY, Manifest, ShardGroup, Split, sampling_weights
from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer
from nllb.model.encoder_tokenizer import SPACE
from nllb.training.batches.token_ids import word_starts
from nllb.training.train_config import TrainConfig

from .archive_file import split_bytes
from .words import WordTable, cut_words

VALIDATION_PAIRS = 20
_UNKNOWN = 1 << 23
_AT_A_TIME = 8192


@dataclass(frozen=True)
class PairChoice:
    """Pairs of one group of shards."""

    group: ShardGroup
    items: NDArray[np.int64]


def choose_pairs(
    manifest: Manifest, config: TrainConfig, wanted: int, *, seed: int
) -> Iterator[PairChoice]:
    """Yield about `wanted` training pairs of all groups, and held-out pairs.

    A group's share is that of its size to the power 1 / temperature, so that small languages are
    complete before large ones are.
    """
    groups = [g for g in manifest.parts if g.split == "train" and g.origin != "denoising"]
    sizes = [group.num_pairs for group in groups]
    shares = np.array(sampling_weights(sizes, config.reader.temperature or manifest.temperature))
    low, high = 0.0, sum(sizes) / min(shares[shares > 0])
    for _ in range(60):
        middle = (low + high) / 2
        total = np.minimum(sizes, middle * shares).sum()
        low, high = (middle, high) if total < wanted else (low, middle)
    for number, (group, share) in enumerate(zip(groups, shares, strict=True)):
        count = min(group.num_pairs, int(high * share))
        order = np.random.default_rng([seed, number]).permutation(group.num_pairs)
        yield PairChoice(group, np.sort(order[:count]))
    for group in manifest.parts:
        if group.split == "valid" and group.origin != "denoising":
            yield PairChoice(group, np.arange(min(group.num_pairs, VALIDATION_PAIRS)))


class TextArchive:
    """Collects pairs; each sentence is stored once, with its tokens of both vocabularies."""

    def __init__(
        self, manifest: Manifest, tokenizer: EncoderSourceTokenizer, *, length: int
    ) -> None:
        self._manifest, self._tokenizer = manifest, tokenizer
        self._length = min(length, tokenizer.max_source_tokens)
        self._table = WordTable()
        self._numbers: dict[bytes, int] = {}
        self._lengths: list[tuple[int, int]] = []
        self._target_starts = word_starts(tokenizer).tolist()
        encoder = tokenizer.encoder
        self._source_starts = [
            encoder.token(number).startswith(SPACE)
            for number in range(encoder.config.vocabulary_size)
        ]
        self._used: set[int] = {encoder.config.bos_id, encoder.config.pad_id, encoder.config.eos_id}
        self._groups: list[tuple[ShardGroup, Tensor]] = []

    @property
    def num_pairs(self) -> int:
        """Number of training pairs."""
        return sum(pairs.shape[1] for group, pairs in self._groups if group.split == "train")

    @property
    def num_sentences(self) -> int:
        """Number of distinct sentences."""
        return len(self._numbers)

    def source_ids(self) -> Tensor:
        """Return the encoder's pieces that occur, sorted."""
        return torch.tensor(sorted(self._used))

    def add(self, choice: PairChoice) -> None:
        """Add the pairs of one group, except those that are too long or empty."""
        keys: list[tuple[bytes, bytes]] = []
        before = 0
        for file in choice.group.files:
            shard = self._manifest.open(file)
            items = choice.items[(choice.items >= before) & (choice.items < before + len(shard))]
            for item in (items - before).tolist():
                sides = (shard.source(item), shard.target(item))
                keys.append((_key(sides[0]), _key(sides[1])))
            before += len(shard)
        # Pairs that share a known sentence follow one another, so that differences are small.
        known = self._numbers
        keys.sort(key=lambda pair: min(known.get(key, _UNKNOWN) for key in pair))
        self._add_sentences([key for pair in keys for key in pair if key not in known])
        numbers = torch.tensor([[known[key] for key in pair] for pair in keys] or [[0, 0]][:0])
        numbers = numbers.view(-1, 2).long()
        fits = [
            all(max(self._lengths[number]) <= self._length for number in row)
            and all(min(self._lengths[number]) > _SPECIAL for number in row)
            for row in numbers.tolist()
        ]
        self._groups.append((choice.group, numbers[torch.tensor(fits, dtype=torch.bool)].T))

    def _add_sentences(self, keys: Sequence[bytes]) -> None:
        new = list(dict.fromkeys(keys))
        for begin in range(0, len(new), _AT_A_TIME):
            some = new[begin : begin + _AT_A_TIME]
            targets = [np.frombuffer(key, np.int32).tolist() for key in some]
            texts = [self._tokenizer.decode(target) for target in targets]
            encoded = self._tokenizer.encode_sources(texts)
            for key, target, ids in zip(some, targets, encoded, strict=True):
                source = ids[1:-1]
                self._numbers[key] = len(self._numbers)
                self._lengths.append((len(source) + _SPECIAL, len(target) + _SPECIAL))
                self._used.update(source)
                self._table.add(cut_words(source, target, self._source_starts, self._target_starts))

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors, and the directions and special tokens for the settings."""
        used = self.source_ids()
        place = torch.zeros(int(used[-1]) + 1, dtype=torch.int64)
        place[used] = torch.arange(len(used))
        tensors = {f"text.{name}": value for name, value in self._table.tensors(place).items()}
        for number, (_, pairs) in enumerate(self._groups):
            tensors[f"pairs.{number}"] = split_bytes(
                torch.diff(pairs, prepend=torch.zeros(2, 1, dtype=torch.int64)) & 0xFFFFFF
            )
        encoder = self._tokenizer.encoder.config
        return tensors, {
            "directions": self._directions("train"),
            "held_out": self._directions("valid"),
            "source_special": place[
                torch.tensor([encoder.bos_id, encoder.eos_id, encoder.pad_id])
            ].tolist(),
        }

    def _directions(self, split: Split) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for number, (group, pairs) in enumerate(self._groups):
            if group.split != split or not pairs.shape[1]:
                continue
            ways = [(group.source, group.target, False)]
            if group.origin not in ONE_WAY:
                ways.append((group.target, group.source, True))
            for source, target, is_reversed in ways:
                name = f"{source}-{target}"
                if name not in self._manifest.by_name:
                    continue
                record = found.setdefault(
                    name,
                    {
                        "name": name,
                        "language": self._tokenizer.language_id(target),
                        "pairs": self._manifest.by_name[name].num_pairs,
                        "groups": [],
                    },
                )
                record["groups"].append([number, is_reversed])
        return list(found.values())


_SPECIAL = 2
"""Special tokens of a side at most."""


def _key(tokens: NDArray[Any]) -> bytes:
    return tokens.astype(np.int32).tobytes()
