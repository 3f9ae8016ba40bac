"""The configuration of back-translation; it does not import torch, so checking it is fast."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from nllb.config.schema import FilePath, PositiveInt, RunConfig, Section, Text, repeated

Mode = Literal["backtranslation", "distillation"]


class MonolingualText(Section):
    """A file of sentences, and the language that they are translated into."""

    path: FilePath
    """File with one sentence per line; the suffix determines its compression."""
    language: Text
    """Language code of the file."""
    into: Text
    """Language code to translate into."""


class BacktranslationConfig(RunConfig):
    """One run of back-translation, or of sequence-level distillation."""

    kind: Literal["backtranslation"] = "backtranslation"
    """The kind of run."""
    model: Text
    """Model that translates: a directory, a hub name or a fairseq checkpoint."""
    text: tuple[MonolingualText, ...]
    """The monolingual files."""
    mode: Mode = "backtranslation"
    """`backtranslation`: the translation is the source; `distillation`: it is the target."""
    beam_size: PositiveInt = 4
    """Beam size of the search."""
    sampling: bool = False
    """Sample translations instead of using beam search, which NLLB used."""
    device: Text = "auto"
    """`cpu`, `cuda`, or `auto`, which uses a GPU if there is one."""
    block_lines: PositiveInt = 500
    """Lines per block, the unit of work and resumption."""
    max_length_ratio: Annotated[float, Field(ge=1)] = 3.0
    """Maximum ratio between the lengths of a line and its translation, in characters; pairs with a
    higher ratio are skipped."""
    min_characters: PositiveInt = 1
    """Minimum length of lines and translations; shorter ones are skipped."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield values that contradict each other."""
        if not self.text:
            yield "text: expected at least one file"
        if self.sampling and self.beam_size != 1:
            yield f"sampling: true requires beam_size: 1, got {self.beam_size}"
        for name in repeated(self.pair(text) for text in self.text):
            yield f"text: two files produce {name}; merge them into one"

    def pair(self, text: MonolingualText) -> str:
        """Return `SOURCE-TARGET` of the bitext that a file produces."""
        if self.mode == "backtranslation":
            return f"{text.into}-{text.language}"
        return f"{text.language}-{text.into}"
