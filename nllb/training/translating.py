"""The interface through which training uses an inference engine.

Training does not import inference (see the import rules); whoever calls it passes an implementation
of `Translators`, which is `nllb.inference.line_translator.LineTranslator` everywhere but in tests.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from nllb.model.configuration import ModelConfig
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import SourceStates

Translate = Callable[[Sequence[str], str, str], Sequence[str | None]]
"""Translates lines from one language (a code) into another; None for a line that is too long."""


class Translators(Protocol):
    """Opens translators."""

    def load(
        self, model: str, *, device: str = "auto", beam_size: int = 1, sampling: bool = False
    ) -> Translate:
        """Load a model by name or path."""
        ...

    def fingerprint(self, model: str) -> str:
        """Return a hash of a model's files, without loading it."""
        ...

    def source_states(
        self, encoder: Path, *, layers: Sequence[int] | None, device: str
    ) -> SourceStates:
        """Return a pretrained encoder as a function, without a gradient and as in translation."""
        ...

    def from_weights(
        self, config: ModelConfig, weights: Mapping[str, Tensor], tokenizer: Tokenizer
    ) -> Translate:
        """Translate with weights that are in memory, by greedy search."""
        ...
