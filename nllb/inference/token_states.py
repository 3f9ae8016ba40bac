"""What engines of the pretrained encoder have in common: their call, and the states they return.

Shapes: L layers asked for, T tokens of all sequences, S tokens of one, B sequences, D model dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nllb.errors import CheckpointError
from nllb.model.pretrained_encoder import EncoderConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenStates:
    """States of the tokens of several sequences."""

    states_LTD: Tensor
    """float32 states by layer, the tokens of all sequences one after another."""
    lengths: tuple[int, ...]
    """Tokens of each sequence."""

    def split(self) -> tuple[Tensor, ...]:
        """Return states_LSD of each sequence."""
        return tuple(torch.split(self.states_LTD, list(self.lengths), dim=1))

    def padded(self) -> Tensor:
        """Return states_LBSD, contiguous; states at padding are 0."""
        count, longest = len(self.lengths), max(self.lengths, default=0)
        layers, tokens, dim = self.states_LTD.shape
        if tokens == count * longest:
            return self.states_LTD.view(layers, count, longest, dim)
        padded_LBSD = self.states_LTD.new_zeros(layers, count, longest, dim)
        for row, states_LSD in enumerate(self.split()):
            padded_LBSD[:, row, : states_LSD.shape[1]] = states_LSD
        return padded_LBSD


class EncoderEngine(Protocol):
    """Computes the states of token ids."""

    config: EncoderConfig

    def worker(self) -> "EncoderEngine":
        """Return an engine with the same weights for one of several parallel threads."""
        ...

    def encode(
        self, sequences: Sequence[Sequence[int]], *, layers: Sequence[int] | None = (-1,)
    ) -> TokenStates:
        """Return the states of sequences, each `<s> x </s>`.

        Args:
            sequences: token ids, from 1 to `max_positions` of a sequence.
            layers: the layers wanted, 0 being the embeddings; negative numbers count from the last.
                None gives all.

        Raises:
            CheckpointError: an id is outside of the vocabulary.
            ValueError: a sequence is empty or too long, or the encoder does not have a layer.
        """
        ...


def check_sequences(sequences: Sequence[Sequence[int]], config: EncoderConfig) -> tuple[int, ...]:
    """Return the lengths of sequences that an encoder can take.

    Raises:
        ValueError: one is empty or too long.
        CheckpointError: an id is outside of the vocabulary.
    """
    lengths = tuple(map(len, sequences))
    if lengths and not 1 <= min(lengths) <= max(lengths) <= config.max_positions:
        raise ValueError(
            f"sequences have lengths from {min(lengths)} to {max(lengths)}; each must have 1 to "
            f"{config.max_positions} tokens"
        )
    for ids in sequences:
        least, most = min(ids), max(ids)
        if least < 0 or most >= config.vocabulary_size:
            raise CheckpointError(
                f"token {least if least < 0 else most} is not in the encoder's vocabulary, whose "
                f"ids are 0 to {config.vocabulary_size - 1}: the tokenizer is of another encoder"
            )
    return lengths
