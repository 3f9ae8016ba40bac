"""A model on disk: its configuration, weights, tokenizer and settings (`nllb.json`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nllb.model.configuration import ModelConfig

from .weights import Weights

if TYPE_CHECKING:
    from nllb.model.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDirectory:
    """An opened checkpoint of any format, whose weights are not read until they are used.

    Attributes:
        name: the hub name or path with which it was opened.
        path: the directory, or the file of a fairseq checkpoint.
        config: the model configuration.
        weights: the tensors by this package's names; each is read on access.
        settings: the content of `nllb.json`; empty if the file does not exist.
        format: `Hugging Face` or `fairseq`.
        open_tokenizer: opens the tokenizer that belongs to the weights.
        generation: search options that the model recommends, by their names in transformers.
    """

    name: str
    path: Path
    config: ModelConfig
    weights: Weights
    settings: Mapping[str, Any]
    format: str
    open_tokenizer: Callable[[], "Tokenizer"]
    generation: Mapping[str, Any] = field(default_factory=dict)

    def tokenizer(self) -> "Tokenizer":
        """Open the tokenizer.

        Raises:
            CheckpointError: the tokenizer is missing, or does not match the model's vocabulary.
        """
        return self.open_tokenizer()

    @property
    def num_bytes(self) -> int:
        """Size of the weights in their files in bytes."""
        return sum(map(self.weights.num_bytes, self.weights))
