"""Sentence vectors and token states of texts from the pretrained encoder.

A sentence vector is the mean of the last layer's token states of the text after the prefix that the
encoder was trained with. Where the directory of the encoder has them, the common directions of all
vectors are removed. Vectors have length 1: two texts are compared by the product of their vectors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from nllb.model.encoder_tokenizer import EncoderTokenizer, TokenizedText
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.sentence_space import SentenceSpace
from nllb.model.shipped_encoder import find_shipped_encoder

from .encoder_engine import EncoderType, load_encoder_engine
from .token_states import EncoderEngine

QUERY_PREFIX: Final = "query: "
"""The prefix of multilingual-e5 for texts that are compared with similar texts."""
_GROUP_TOKENS = 16384
"""Number of tokens whose states are in memory at the same time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceVectors:
    """The vectors of texts, with facts about their encoding.

    Attributes:
        vectors: one row per text, of length 1; a row of zeros for an empty text.
        num_tokens: number of tokens of each text, including prefixes and special tokens.
        num_windows: number of sequences that each text was split into to fit the encoder's maximum
            length.
        is_empty: whether each text has no tokens of its own, so that its vector is zero.
    """

    vectors: NDArray[np.float32]
    num_tokens: NDArray[np.int64]
    num_windows: NDArray[np.int64]
    is_empty: NDArray[np.bool_]


class SentenceEncoder:
    """Encodes texts; several threads can use it at the same time."""

    def __init__(
        self,
        engine: EncoderEngine,
        tokenizer: EncoderTokenizer,
        space: SentenceSpace | None = None,
    ) -> None:
        self.engine, self.tokenizer, self.space = engine, tokenizer, space

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        *,
        device: str = "cpu",
        dtype: EncoderType = "auto",
        num_threads: int | None = None,
    ) -> Self:
        """Load an encoder, by default the shipped one.

        Args:
            path: a directory written by `nllb convert e5` or by training.
            device: `cpu`, `cuda` or `cuda:N`.
            dtype: number type of the computation.
            num_threads: number of CPU threads; None uses one per processor.

        Raises:
            CheckpointError: the directory is missing or damaged.
            ConfigError: the number type is not supported here.
        """
        directory = EncoderDirectory.open(path or find_shipped_encoder())
        engine = load_encoder_engine(directory, device=device, dtype=dtype, num_threads=num_threads)
        return cls(engine, directory.tokenizer(), directory.sentence_space())

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.engine.config.model_dim

    def encode(self, texts: Sequence[str], *, prefix: str = QUERY_PREFIX) -> SentenceVectors:
        """Return the vectors of texts.

        Args:
            texts: texts of any language and length.
            prefix: text that is put before each text.
        """
        tokenized = self.tokenizer.tokenize(texts, prefix=prefix)
        sums = torch.zeros(len(texts), self.dimension)
        for owners, windows in _groups(tokenized):
            parts = self.engine.encode(windows).split()
            for owner, states_LSD in zip(owners, parts, strict=True):
                sums[owner] += states_LSD[0].sum(0)
        vectors = sums / sums.norm(dim=1, keepdim=True).clamp_min(1e-12)
        is_empty = torch.tensor([text.is_empty for text in tokenized], dtype=torch.bool)
        if self.space is not None:
            vectors = self.space.remove_from(vectors)
            vectors[is_empty] = 0
        lengths = [sum(map(len, text.windows)) for text in tokenized]
        return SentenceVectors(
            vectors=vectors.numpy(),
            num_tokens=np.array(lengths, np.int64),
            num_windows=np.array([len(text.windows) for text in tokenized], np.int64),
            is_empty=is_empty.numpy(),
        )


def _groups(
    texts: Sequence[TokenizedText],
) -> Iterator[tuple[list[int], list[tuple[int, ...]]]]:
    """Yield groups of sequences with the indices of their texts, limited in size to save memory."""
    owners: list[int] = []
    windows: list[tuple[int, ...]] = []
    size = 0
    for owner, text in enumerate(texts):
        for window in text.windows:
            if windows and size + len(window) > _GROUP_TOKENS:
                yield owners, windows
                owners, windows, size = [], [], 0
            owners.append(owner)
            windows.append(window)
            size += len(window)
    if windows:
        yield owners, windows
