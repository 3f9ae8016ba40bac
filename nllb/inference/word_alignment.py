"""Word alignment: the passages of a text and its translation that have the same meaning.

Token states of a middle layer of the pretrained encoder are compared. Two tokens are linked to the
extent that each is the other's best match (Jalili Sabet et al. 2020, SimAlign; Dou and Neubig 2021,
awesome-align). The translation model is not involved, so any two texts can be aligned.

Shapes: S tokens of the source, T tokens of the target, D model dim.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # these import torch, and every translator refers to an aligner
    from nllb.model.encoder_tokenizer import TokenSpan

    from .sentence_encoder import SentenceEncoder

ALIGNMENT_LAYER: Final = 7
"""Chosen on Tatoeba; tests/bench/results/word_alignment.json lists the results of all layers."""
TEMPERATURE: Final = 0.1
"""Temperature of the softmax over cosines."""
MIN_LINK: Final = 0.01
"""Minimum weight of a link; weaker links are dropped."""
_GROUP_PAIRS: Final = 64
"""Number of pairs whose states are in memory at the same time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Two passages with the same meaning.

    Attributes:
        source_start: index of the first character in the text.
        source_end: index after the last character in the text.
        target_start: index of the first character in the translation.
        target_end: index after the last character in the translation.
        weight: confidence of the link, at most 1.
    """

    source_start: int
    source_end: int
    target_start: int
    target_end: int
    weight: float = 1.0


class Aligner(Protocol):
    """Aligns texts with their translations."""

    def align(self, pairs: Sequence[tuple[str, str]]) -> list[list[Link]]:
        """Return the links of each pair of a text and its translation."""
        ...


class ShippedAligner:
    """An aligner with the shipped encoder, which is loaded on first use.

    If this installation does not include the encoder, there are no links.
    """

    def __init__(self, *, num_threads: int | None = None) -> None:
        from .threads import ForkSafeLock

        self._num_threads = num_threads
        self._lock = ForkSafeLock()
        self._aligner: WordAligner | None = None

    def __reduce__(self) -> tuple[type["ShippedAligner"], tuple[()]]:
        """Pickle no weights, because the copy loads them again."""
        return ShippedAligner, ()

    def align(self, pairs: Sequence[tuple[str, str]]) -> list[list[Link]]:
        """Return the links of each pair of a text and its translation."""
        from nllb.model.shipped_encoder import SHIPPED_ENCODER

        from .shared_encoder import shared_encoder

        if not SHIPPED_ENCODER.is_dir():
            return [[] for _ in pairs]
        with self._lock:
            if self._aligner is None:
                self._aligner = WordAligner(shared_encoder(self._num_threads))
        return self._aligner.align(pairs)


class WordAligner:
    """Aligns texts with their translations; several threads can use it at the same time."""

    def __init__(
        self,
        encoder: "SentenceEncoder",
        *,
        layer: int = ALIGNMENT_LAYER,
        temperature: float = TEMPERATURE,
    ) -> None:
        self.encoder, self.layer, self.temperature = encoder, layer, temperature

    def align(self, pairs: Sequence[tuple[str, str]]) -> list[list[Link]]:
        """Return the links of each pair of a text and its translation.

        Of a text that is longer than the encoder's maximum, only the first tokens are linked.
        """
        return [
            link
            for start in range(0, len(pairs), _GROUP_PAIRS)
            for link in self._align(pairs[start : start + _GROUP_PAIRS])
        ]

    def _align(self, pairs: Sequence[tuple[str, str]]) -> Iterator[list[Link]]:
        config = self.encoder.engine.config
        room = config.max_positions - 2
        texts = [text for pair in pairs for text in pair]
        pieces = [self.encoder.tokenizer.token_spans(text)[:room] for text in texts]
        sequences = [
            (config.bos_id, *(piece.token_id for piece in of_text), config.eos_id)
            for of_text in pieces
        ]
        encoded = self.encoder.engine.encode(sequences, layers=[self.layer]).split()
        states = [states_LSD[0, 1:-1].numpy() for states_LSD in encoded]
        for number in range(0, len(texts), 2):
            weights_ST = link_weights(
                states[number], states[number + 1], temperature=self.temperature
            )
            yield _links(pieces[number], pieces[number + 1], weights_ST)


def link_weights(
    source_SD: NDArray[np.float32], target_TD: NDArray[np.float32], *, temperature: float
) -> NDArray[np.float32]:
    """Return the match of each pair of tokens: the product of the softmaxes in both directions."""
    if not len(source_SD) or not len(target_TD):
        return np.zeros((len(source_SD), len(target_TD)), np.float32)
    # Encoders give all tokens of a text a common component, which is unrelated to their meaning.
    cosines_ST = _directions(source_SD) @ _directions(target_TD).T
    scaled_ST = np.exp((cosines_ST - cosines_ST.max()) / temperature)
    forward_ST = scaled_ST / scaled_ST.sum(1, keepdims=True).clip(1e-30)
    backward_ST = scaled_ST / scaled_ST.sum(0, keepdims=True).clip(1e-30)
    product_ST: NDArray[np.float32] = forward_ST * backward_ST
    return product_ST


def _directions(states_SD: NDArray[np.float32]) -> NDArray[np.float32]:
    centred_SD = states_SD - states_SD.mean(0)
    norms = np.linalg.norm(centred_SD, axis=1, keepdims=True).clip(1e-9)
    directions_SD: NDArray[np.float32] = centred_SD / norms
    return directions_SD


def _links(
    source: "Sequence[TokenSpan]", target: "Sequence[TokenSpan]", weights_ST: NDArray[np.float32]
) -> list[Link]:
    return [
        Link(
            source_start=source[row].start,
            source_end=source[row].end,
            target_start=target[column].start,
            target_end=target[column].end,
            weight=float(weights_ST[row, column]),
        )
        for row, column in np.argwhere(weights_ST >= MIN_LINK).tolist()
        if source[row].start < source[row].end and target[column].start < target[column].end
    ]
