"""The seam between text and model: search options, hypotheses, the generator protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nllb.languages import Language

MAX_BEAM_SIZE = 256
"""Hypotheses of a segment at most: their keys and values grow with them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """How output tokens are searched for."""

    beam_size: int = 4
    """Hypotheses kept per step, at most `MAX_BEAM_SIZE`; 1 is greedy search."""
    num_hypotheses: int = 1
    """Hypotheses returned per segment, at most `beam_size` (any number when sampling)."""
    max_output_tokens: int | None = None
    """Longest output in tokens; None allows 1.5 x source + 32, at most the model's positions."""
    min_output_tokens: int = 0
    """Shortest output in tokens: the end is not allowed before."""
    length_penalty: float = 1.0
    """Score = sum of log-probabilities / length ** length_penalty, as transformers counts it."""
    no_repeat_ngram: int = 0
    """No n-gram of this many tokens occurs twice in an output; 0 switches it off."""
    repetition_penalty: float = 1.0
    """Logits of tokens already in the output are divided by it (multiplied where negative)."""
    sampling: bool = False
    """Draw tokens instead of taking the best; needs `beam_size` 1."""
    temperature: float = 1.0
    """Divides the logits before sampling."""
    top_k: int = 0
    """Sample among this many best tokens; 0 is all."""
    top_p: float = 1.0
    """Sample among the best tokens that hold this much probability together."""
    seed: int = 0
    """Seed of sampling; each segment draws from its own stream, so a batch does not change it."""
    shortlist: bool = True
    """Restrict the output to the target language's shortlist where the model has one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypothesis:
    """One output of the search for one segment."""

    source: str
    """The segment as it was passed in; the caller checks it, so that no two change places."""
    text: str
    """The detokenized output."""
    token_ids: tuple[int, ...]
    """Output ids without the language token and the end token."""
    log_probability: float
    """Sum of the token log-probabilities, the end token included, the forced prefix excluded."""
    score: float
    """What the hypotheses are ordered by: `log_probability` under the length penalty."""
    num_tokens: int
    """Tokens that `log_probability` sums over."""
    finished: bool = True
    """False where the search was stopped by `max_output_tokens` before the end token."""
    unknown_source: tuple[str, ...] = ()
    """Characters of the source that the vocabulary does not have."""


class Generator(Protocol):
    """Anything that turns segments of one language into hypotheses in another."""

    def generate(
        self,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None = None,
    ) -> list[list[Hypothesis]]:
        """Return for each segment, in order, its hypotheses, best first.

        `prefixes` holds a text for each segment that its output must begin with ("" for none).
        Every segment has at least one hypothesis, and each carries its segment in `source`.
        """
        ...

    def fits(self, segment: str, *, source: Language) -> bool:
        """Say whether the segment is short enough for the model to take whole."""
        ...

    def supports(self, language: Language) -> bool:
        """Say whether the model has the language's token."""
        ...

    def has_shortlist(self, target: Language) -> bool:
        """Say whether `SearchOptions.shortlist` makes a difference for this target."""
        ...
