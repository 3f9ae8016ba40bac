"""The interface of engines for the pretrained encoder, and the states that they return.

Shapes: L requested layers, T tokens of all sequences, S tokens of one, B sequences, D model dim.
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
    """States of the tokens of several sequences.

    Attributes:
        states_LTD: float32 states by layer, with the tokens of all sequences concatenated.
        lengths: number of tokens of each sequence.
    """

    states_LTD: Tensor
    lengths: tuple[int, ...]

    def split(self) -> tuple[Tensor, ...]:
        """Return states_LSD of each sequence."""
        return tuple(torch.split(self.states_LTD, list(self.lengths), dim=1))

    def padded(self) -> Tensor:
        """Return states_LBSD, contiguous; states at padding are 0."""
        count, longest = len(self.lengths), max(self.lengths, default=0)
        layers, tokens, dim = self.states_LTD.shape
        if tokens == count * longest:
            return self.states_LTD.view(layers, count, longest, dim)
        padded_LBSD = self.states_LTD.new_empty(layers, count, longest, dim)
        for row, states_LSD in enumerate(self.split()):
            length = states_LSD.shape[1]
            padded_LBSD[:, row, :length] = states_LSD
            padded_LBSD[:, row, length:] = 0
        return padded_LBSD


class EncoderEngine(Protocol):
    """Computes the states of token ids.

    Attributes:
        config: the shape of the encoder.
    """

    config: EncoderConfig

    def worker(self) -> "EncoderEngine":
        """Return an engine with the same weights for one of several parallel threads."""
        ...

    def encode(
        self, sequences: Sequence[Sequence[int]], *, layers: Sequence[int] | None = (-1,)
    ) -> TokenStates:
        """Return the states of sequences, each `<s> x </s>`.

        Args:
            sequences: token ids, 1 to `max_positions` per sequence.
            layers: the requested layers; 0 is the embeddings, and negative numbers count from the
                last layer. None returns all.

        Raises:
            CheckpointError: an id is outside the vocabulary.
            ValueError: a sequence is empty or too long, or the encoder does not have a layer.
        """
        ...


def check_sequences(sequences: Sequence[Sequence[int]], config: EncoderConfig) -> tuple[int, ...]:
    """Return the lengths of sequences after validating them.

    Raises:
        ValueError: a sequence is empty or too long.
        CheckpointError: an id is outside the vocabulary.
    """
    lengths = tuple(map(len, sequences))
    if lengths and not 1 <= min(lengths) <= max(lengths) <= config.max_positions:
        raise ValueError(
            f"sequences have lengths from {min(lengths)} to {max(lengths)}; each must have 1 to "
            f"{config.max_positions} tokens"
        )
    for ids in sequences:
        lowest, highest = min(ids), max(ids)
        if lowest < 0 or highest >= config.vocabulary_size:
            raise CheckpointError(
                f"token {lowest if lowest < 0 else highest} is not in the encoder's vocabulary, "
                f"whose ids are 0 to {config.vocabulary_size - 1}: the tokenizer belongs to "
                f"another encoder"
            )
    return lengths
