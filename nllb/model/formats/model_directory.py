"""A model on disk: configuration, weights, tokenizer, and `nllb.json` beside them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllb.model.configuration import ModelConfig
from nllb.model.formats.weights import Weights

if TYPE_CHECKING:
    from nllb.model.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDirectory:
    """One opened checkpoint of any format; nothing large has been read yet."""

    name: str
    """What it was asked for by: a hub name or a path."""
    path: Path
    """The directory, or the file of a fairseq checkpoint."""
    config: ModelConfig
    """The model's shape."""
    weights: Weights
    """Its tensors by our own names, read one by one when asked for."""
    settings: Mapping[str, Any]
    """The content of `nllb.json`; empty where there is none."""
    format: str
    """`Hugging Face` or `fairseq`."""
    open_tokenizer: Callable[[], "Tokenizer"]
    """Opens the tokenizer that belongs to the weights."""

    def tokenizer(self) -> "Tokenizer":
        """Open the tokenizer.

        Raises:
            CheckpointError: there is none, or it does not fit the model's vocabulary.
        """
        return self.open_tokenizer()

    @property
    def num_bytes(self) -> int:
        """Bytes that the weights take in their files."""
        return sum(map(self.weights.num_bytes, self.weights))
