"""The configuration of a back-translation run; without torch, so that checking one is quick."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from nllb.config.schema import FilePath, PositiveInt, RunConfig, Section, Text, repeated

Mode = Literal["backtranslation", "distillation"]


class MonolingualText(Section):
    """A file of sentences, and the language they are translated into."""

    path: FilePath
    """One sentence per line, compressed by suffix."""
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
    """Sample translations instead of searching for the best; NLLB searched."""
    device: Text = "auto"
    """`auto` is the GPU where there is one; or `cpu`, `cuda`."""
    block_lines: PositiveInt = 500
    """Lines in one block, the unit of work and of resuming."""
    max_length_ratio: Annotated[float, Field(ge=1)] = 3.0
    """A translation longer or shorter by more than this factor, in characters, is skipped."""
    min_characters: PositiveInt = 1
    """Shorter lines and translations are skipped."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield values that contradict each other."""
        if not self.text:
            yield "text: expected at least one file"
        if self.sampling and self.beam_size != 1:
            yield f"sampling: true needs beam_size: 1, got {self.beam_size}"
        for name in repeated(self.pair(text) for text in self.text):
            yield f"text: two files produce {name}; merge them into one"

    def pair(self, text: MonolingualText) -> str:
        """Return `SOURCE-TARGET` of the bitext that a file produces."""
        if self.mode == "backtranslation":
            return f"{text.into}-{text.language}"
        return f"{text.language}-{text.into}"
