"""The seam between text and model: search options, hypotheses, the generator protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nllb.languages import Language

MAX_BEAM_SIZE = 256
"""Hypotheses of a segment at most: their keys and values grow with them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """How output tokens are searched for.

    Attributes:
        beam_size: hypotheses that are kept in each step, at most `MAX_BEAM_SIZE`; 1 is greedy
            search.
        num_hypotheses: hypotheses returned per segment, at most `beam_size` (any number when
            sampling).
        max_output_tokens: maximum length of an output in tokens; None allows 1.5 times the source
            plus 32, at most the model's positions.
        min_output_tokens: minimum length of an output in tokens; it cannot end before.
        length_penalty: the score is the sum of log-probabilities divided by
            length ** length_penalty, as in transformers.
        no_repeat_ngram: no n-gram of this many tokens occurs twice in an output; 0 disables it.
        repetition_penalty: divides the logits of tokens that are already in the output (multiplies
            them where they are negative).
        sampling: sample tokens instead of taking the best; needs `beam_size` 1.
        temperature: divides the logits before sampling.
        top_k: sample among this many most probable tokens; 0 is all.
        top_p: sample among the most probable tokens that together have this probability.
        seed: seed of sampling; each segment has a stream of its own, so that batches do not change
            its output.
        shortlist: restrict the output to the target language's vocabulary shortlist if the model
            has one.
    """

    beam_size: int = 4
    num_hypotheses: int = 1
    max_output_tokens: int | None = None
    min_output_tokens: int = 0
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    sampling: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    shortlist: bool = True


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
