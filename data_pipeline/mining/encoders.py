"""What every sentence encoder has in common, and the one place that finds encoders by name.

An encoder turns sentences into vectors. The embedded one ships with the package; LASER2 and LASER3
are read from their official checkpoints; sentence-transformers models come by `hub:NAME`.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy
from numpy.typing import NDArray

from data_pipeline.mining.mining_config import Precision
from nllb.errors import CheckpointError, DataError, ResourceError

Vectors = NDArray[numpy.float32]

SHIPPED: Final = Path(__file__).parents[1] / "_models" / "encoder"
"""Folder of the encoder that ships with the package."""


class Encoder(Protocol):
    """Turns sentences into vectors whose cosine says how much they mean the same."""

    @property
    def name(self) -> str:
        """Name for reports."""
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
        """Return one row per sentence, of shape (sentences, dimension); not of unit length.

        An empty sentence has a row of zeros. `language` is a FLORES-200 code.
        """
        ...


def load_encoder(name: str | Path = "default", dtype: Precision = "float32") -> Encoder:
    """Load an encoder: `default`, a folder of ours, a LASER checkpoint (.pt), or `hub:NAME`.

    LASER needs its SentencePiece model beside the checkpoint, and LASER3 its dictionary (.cvocab);
    `dtype` is what its layers compute in.

    Raises:
        CheckpointError: where nothing is there, or it is damaged or of another kind.
    """
    if str(name).startswith("hub:"):
        return HubEncoder(str(name).removeprefix("hub:"))
    path = SHIPPED if str(name) == "default" else Path(name)
    if path.is_dir():
        from data_pipeline.mining.static_encoder import StaticEncoder

        return StaticEncoder.load(path)
    if path.is_file():
        from data_pipeline.mining.laser import load_laser

        return load_laser(path, dtype)
    raise CheckpointError(
        f"no encoder {str(name)!r}: give `default`, the folder of an encoder that "
        "`nllb data train-encoder` wrote, a LASER checkpoint (.pt), or hub:NAME"
    )


class HubEncoder:
    """A sentence-transformers model such as LaBSE, if that package is installed."""

    def __init__(self, name: str) -> None:
        try:
            from sentence_transformers import (  # type: ignore[import-not-found]
                SentenceTransformer,
            )
        except ImportError:
            raise ResourceError(
                f"hub:{name} needs the package sentence-transformers; run: "
                "pip install sentence-transformers"
            ) from None
        self.name = name
        self.key = f"hub:{name}"
        self._model: Any = SentenceTransformer(name)
        self.dimension = int(self._model.get_sentence_embedding_dimension())

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        """Return the model's own pooled vectors."""
        found = self._model.encode(list(sentences), convert_to_numpy=True, show_progress_bar=False)
        vectors: Vectors = numpy.asarray(found, dtype=numpy.float32).reshape(-1, self.dimension)
        vectors[[not sentence.strip() for sentence in sentences]] = 0
        return vectors


def normalized(vectors: Any) -> Vectors:
    """Return the rows at unit length; rows of zeros stay."""
    vectors = numpy.asarray(vectors, dtype=numpy.float32)
    lengths = numpy.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / numpy.where(lengths > 0, lengths, 1).astype(numpy.float32)
    return unit


def check_finite(vectors: Vectors, name: str) -> None:
    """Raise DataError where a vector holds NaN or infinity, naming the first such row."""
    bad = numpy.flatnonzero(~numpy.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(
            f"{name}: {len(bad):,} of {len(vectors):,} vectors hold NaN or infinity, first row "
            f"{int(bad[0]) + 1}; the encoder's weights are damaged, or the sums overflow"
        )


def in_batches(
    lengths: Sequence[int], max_tokens: int, max_sentences: int
) -> Iterator[NDArray[numpy.int64]]:
    """Yield the numbers of the sentences of each batch: similar lengths, padding within budget."""
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
    """Encode token lists batch by batch, longest first, and return the rows in the given order."""
    vectors = numpy.zeros((len(token_lists), dimension), numpy.float32)
    lengths = [len(tokens) for tokens in token_lists]
    for batch in in_batches(lengths, max_tokens, max_sentences):
        vectors[batch] = forward([token_lists[number] for number in batch.tolist()])
    return vectors
