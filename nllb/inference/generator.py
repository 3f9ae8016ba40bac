"""The interface between text and models: search options, hypotheses and the generator protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nllb.languages import Language

MAX_BEAM_SIZE = 256
"""Maximum beam size; the memory for keys and values is proportional to the beam size."""


Terms = tuple[tuple[str, ...], ...]
"""Terms that an output should contain, each with its surface forms, one of which is sufficient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """Options of the search for output tokens.

    Attributes:
        beam_size: hypotheses that are kept in each step, at most `MAX_BEAM_SIZE`; 1 is greedy
            search.
        num_hypotheses: hypotheses returned per segment, at most `beam_size` (any number when
            sampling).
        max_output_tokens: maximum length of an output in tokens; None allows 1.5 times the source
            plus 32, at most the model's positions.
        min_output_tokens: minimum length of an output in tokens.
        length_penalty: the score is the sum of log-probabilities divided by
            length ** length_penalty, as in transformers.
        early_stopping: stop as soon as `beam_size` outputs are finished; otherwise the search
            continues while a better output is possible.
        no_repeat_ngram: no n-gram of this many tokens occurs twice in an output; 0 disables it.
        repetition_penalty: divides the logits of tokens that are already in the output (multiplies
            them where they are negative).
        sampling: sample tokens instead of choosing the best; requires `beam_size` 1.
        temperature: divides the logits before sampling.
        top_k: sample among this many most probable tokens; 0 means all tokens.
        top_p: sample among the most probable tokens that together have this probability.
        seed: seed of sampling; each segment has a separate random stream, so that its output does
            not depend on its batch.
        shortlist: restrict the output to the target language's vocabulary shortlist if the model
            has one.
    """

    beam_size: int = 4
    num_hypotheses: int = 1
    max_output_tokens: int | None = None
    min_output_tokens: int = 0
    length_penalty: float = 1.0
    early_stopping: bool = False
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
    """One output of the search for one segment.

    Attributes:
        source: the input segment, which lets the caller check the order of the results.
        text: the detokenized output.
        token_ids: output ids without the language token and the end token.
        log_probability: sum of the token log-probabilities, including the end token but not the
            forced prefix.
        score: `log_probability` with the length penalty; hypotheses are sorted by this score.
        num_tokens: number of tokens in the sum `log_probability`.
        finished: false if `max_output_tokens` stopped the search before the end token.
        unknown_source: characters of the source that are not in the vocabulary.
        pivot_text: the English translation that the output was made from; None if it was made
            directly.
    """

    source: str
    text: str
    token_ids: tuple[int, ...]
    log_probability: float
    score: float
    num_tokens: int
    finished: bool = True
    unknown_source: tuple[str, ...] = ()
    pivot_text: str | None = None


class Generator(Protocol):
    """Translates segments of one language to hypotheses in another language."""

    def generate(
        self,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None = None,
        terms: Sequence[Terms] | None = None,
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of each segment, best first.

        `prefixes` contains a forced prefix of the output for each segment, which may be empty.
        `terms` contains the terms that the output of each segment should contain; a hypothesis may
        lack terms that do not fit into its length. Terms are ignored when sampling. Every segment
        has at least one hypothesis, and the `source` of a hypothesis is its segment.
        """
        ...

    def fits(self, segment: str, *, source: Language) -> bool:
        """Return whether the segment does not exceed the model's maximum length."""
        ...

    def supports(self, language: Language) -> bool:
        """Return whether the model covers the language."""
        ...

    def has_shortlist(self, target: Language) -> bool:
        """Return whether the model has a shortlist for this target language."""
        ...
