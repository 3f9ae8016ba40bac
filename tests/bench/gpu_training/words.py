"""Sentences as lists of words, each with its tokens for the encoder and for the decoder.

A sentence is both a source and a target, and the encoder and the decoder have different
vocabularies. Words recur, so that a table of words with both segmentations and a list of words per
sentence take a third of the space of two lists of tokens. Sentences are cut where both sides begin
a word; one whose sides do not have equally many words is a single word.

Shapes: W words, M sentences.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .archive_file import join_bytes, split_bytes, under

Word = tuple[tuple[int, ...], tuple[int, ...]]
"""Tokens for the encoder and for the decoder."""


@dataclass(frozen=True, kw_only=True)
class Ragged:
    """Lists of numbers in one tensor."""

    values: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> "Ragged":
        """Return lists as tensors."""
        kept = list(rows)
        return cls(
            values=torch.tensor([number for row in kept for number in row], dtype=torch.int64),
            lengths=torch.tensor([len(row) for row in kept], dtype=torch.int64),
        )

    @property
    def begins(self) -> Tensor:
        """Where each list begins."""
        return self.lengths.cumsum(0) - self.lengths

    def pick(self, rows: Tensor, of: "Ragged") -> "Ragged":
        """Return for each list of `of` the concatenation of the lists `rows` of this one."""
        lengths = self.lengths[rows]
        ends = lengths.cumsum(0)
        within = torch.arange(int(ends[-1]) if len(ends) else 0)
        within = within - (ends - lengths).repeat_interleave(lengths)
        values = self.values[self.begins[rows].repeat_interleave(lengths) + within]
        owner = torch.arange(len(of.lengths)).repeat_interleave(of.lengths)
        total = torch.zeros(len(of.lengths), dtype=torch.int64).index_add_(0, owner, lengths)
        return Ragged(values=values, lengths=total)


class WordTable:
    """Collects sentences."""

    def __init__(self) -> None:
        self._numbers: dict[Word, int] = {}
        self._counts: list[int] = []
        self._sentences: list[list[int]] = []

    def add(self, words: Sequence[Word]) -> None:
        """Add a sentence."""
        numbers = []
        for word in words:
            number = self._numbers.setdefault(word, len(self._numbers))
            if number == len(self._counts):
                self._counts.append(0)
            self._counts[number] += 1
            numbers.append(number)
        self._sentences.append(numbers)

    def tensors(self, source_ids: Tensor) -> dict[str, Tensor]:
        """Return the tensors; frequent words have small numbers.

        Args:
            source_ids: for each of the encoder's tokens the number to store in its place.
        """
        order = torch.tensor(self._counts).argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order))
        words = list(self._numbers)
        words = [words[number] for number in order.tolist()]
        sentences = Ragged.of(self._sentences)
        sources = Ragged.of(source for source, _ in words)
        parts = {
            "sources": Ragged(values=source_ids[sources.values], lengths=sources.lengths),
            "targets": Ragged.of(target for _, target in words),
            "sentences": Ragged(values=rank[sentences.values], lengths=sentences.lengths),
        }
        return {
            f"{name}.{leaf}": split_bytes(getattr(part, leaf))
            for name, part in parts.items()
            for leaf in ("values", "lengths")
        }


def read_sentences(tensors: dict[str, Tensor]) -> tuple[Ragged, Ragged]:
    """Return the tokens of all sentences for the encoder and for the decoder."""

    def part(name: str) -> Ragged:
        leaves = under(tensors, f"{name}.")
        return Ragged(values=join_bytes(leaves["values"]), lengths=join_bytes(leaves["lengths"]))

    sentences = part("sentences")
    return part("sources").pick(sentences.values, sentences), part("targets").pick(
        sentences.values, sentences
    )


def cut_words(
    source: Sequence[int],
    target: Sequence[int],
    source_starts: Sequence[bool],
    target_starts: Sequence[bool],
) -> list[Word]:
    """Cut a sentence into words; the tables tell which token ids begin a word."""
    cuts = [
        [place for place, token in enumerate(side) if place == 0 or starts[token]]
        for side, starts in ((source, source_starts), (target, target_starts))
    ]
    if len(cuts[0]) != len(cuts[1]) or not cuts[0]:
        return [(tuple(source), tuple(target))]
    words = []
    for number, (begin, other) in enumerate(zip(*cuts, strict=True)):
        last = number + 1 == len(cuts[0])
        end, other_end = (
            (len(source), len(target)) if last else (cuts[0][number + 1], cuts[1][number + 1])
        )
        words.append((tuple(source[begin:end]), tuple(target[other:other_end])))
    return words
