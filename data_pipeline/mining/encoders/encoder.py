"""The interface of sentence encoders, and operations that all of them share.

`load_encoder` finds an encoder by name.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy
from numpy.typing import NDArray

from nllb.errors import DataError

Vectors = NDArray[numpy.float32]


class Encoder(Protocol):
    """Encodes sentences as vectors whose cosine measures similarity of meaning."""

    @property
    def name(self) -> str:
        """Name of the encoder, for reports."""
        ...

    @property
    def key(self) -> str:
        """Hash of everything that the vectors depend on."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        """Return the vectors of sentences, shape (sentences, dimension), not normalized.

        An empty sentence has a row of zeros. `language` is a FLORES-200 code, or empty.
        """
        ...


def normalized(vectors: Any) -> Vectors:
    """Return the rows scaled to unit length; rows of zeros stay zero."""
    vectors = numpy.asarray(vectors, dtype=numpy.float32)
    lengths = numpy.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / numpy.where(lengths > 0, lengths, 1).astype(numpy.float32)
    return unit


def check_vectors(vectors: Vectors, num_sentences: int, encoder: Encoder) -> None:
    """Check the vectors that an encoder returned for `num_sentences` sentences.

    Raises:
        DataError: if the vectors have another shape than (sentences, dimension), or contain NaN or
            infinity.
    """
    if vectors.shape != (num_sentences, encoder.dimension):
        raise DataError(
            f"{encoder.name}: the encoder returned an array of shape {vectors.shape} for "
            f"{num_sentences:,} sentences, but its dimension is {encoder.dimension}"
        )
    check_finite(vectors, encoder.name)


def check_finite(vectors: Vectors, name: str) -> None:
    """Raise DataError if a vector contains NaN or infinity."""
    bad = numpy.flatnonzero(~numpy.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(
            f"{name}: {len(bad):,} of {len(vectors):,} vectors contain NaN or infinity, the first "
            f"is number {int(bad[0]) + 1}; the encoder's weights are damaged, or its sums overflow"
        )


def in_batches(
    lengths: Sequence[int], max_tokens: int, max_sentences: int
) -> Iterator[NDArray[numpy.int64]]:
    """Yield batches of sentence numbers: similar lengths, at most `max_tokens` with padding."""
    order = numpy.argsort(-numpy.asarray(lengths, dtype=numpy.int64), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[int(order[start])]))
        count = max(1, min(max_sentences, max_tokens // longest))
        yield order[start : start + count]
        start += count


def encode_in_batches(
    token_lists: Sequence[Sequence[int]],
    dimension: int,
    forward: Callable[[list[Sequence[int]]], Vectors],
    *,
    max_tokens: int = 12_000,
    max_sentences: int = 512,
) -> Vectors:
    """Encode token lists in batches by length and return the vectors in the given order."""
    vectors = numpy.zeros((len(token_lists), dimension), numpy.float32)
    lengths = [len(tokens) for tokens in token_lists]
    for batch in in_batches(lengths, max_tokens, max_sentences):
        vectors[batch] = forward([token_lists[number] for number in batch.tolist()])
    return vectors
