"""Translates segments, checks every output, and retries flagged ones.

Each segment must have at least one hypothesis, which must belong to it. Segments whose trust record
has flags are retried by one strategy after another, with the full vocabulary: first with repetition
blocked, then with a larger beam, then in smaller pieces.

The attempt with the least severe worst flag (or no flag) is kept; among equals, the one with the
fewest flags, then the most confident one, then the earliest. An empty output is worse than any
flag: if no strategy fixes it, the run fails.

If a whole direction fails, retries would make translation many times slower without any benefit. A
`RetryBudget` stops a strategy once it has failed on enough segments of a direction.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nllb.errors import DataError
from nllb.inference.generator import MAX_BEAM_SIZE, Generator, Hypothesis, SearchOptions, Terms
from nllb.languages import Language
from nllb.languages.detection import Detection, Detector
from nllb.languages.segmentation import split_long

from .quality import FLAGS, AttemptOrigin, Flag, TrustRecord, judge
from .structure import Document, cut, separator

DETECTED_LABELS: Final = 10
"""Number of labels requested from the detector, which includes all with a probability of 0.1."""
RETRY_LIMIT: Final = 64
"""Number of segments of a direction that a strategy may retry before it must be successful."""
MIN_RETRY_SUCCESS: Final = 0.1
"""Minimum share of the retried segments that a strategy must fix to continue after the limit."""
_EXCERPT = 80


class SegmentError(DataError):
    """A segment without an output, or with the output of another segment.

    Attributes:
        segment: the text of the segment.
    """

    def __init__(self, message: str, *, segment: str):
        super().__init__(message)
        self.segment = segment


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryStrategy:
    """One way to translate a flagged segment again.

    Attributes:
        origin: name of the strategy in the trust record.
        for_flags: the flags that the strategy may fix.
        no_repeat_ngram: length in tokens of n-grams that may not occur twice; 0 allows repetition.
        beam_factor: factor of the beam size; every hypothesis of a larger beam is judged.
        in_pieces: whether to split the segment at its best places and translate it piece by piece.
    """

    origin: AttemptOrigin
    for_flags: frozenset[Flag]
    no_repeat_ngram: int = 0
    beam_factor: int = 1
    in_pieces: bool = False

    def search(self, search: SearchOptions) -> SearchOptions:
        """Return the search options of this strategy, derived from the requested ones."""
        beam_size = search.beam_size
        if self.beam_factor > 1:
            beam_size = min(max(4, self.beam_factor * beam_size), MAX_BEAM_SIZE)
        return replace(
            search,
            shortlist=False,
            no_repeat_ngram=self.no_repeat_ngram or search.no_repeat_ngram,
            beam_size=beam_size,
            sampling=search.sampling and beam_size == 1,
            num_hypotheses=beam_size if self.beam_factor > 1 else search.num_hypotheses,
            min_output_tokens=max(1, search.min_output_tokens),
        )

    def applies_to(self, attempt: "Attempt") -> bool:
        """Return whether an attempt has a flag that this strategy may fix, or is empty."""
        return attempt.is_empty or not self.for_flags.isdisjoint(attempt.trust.flags)


RETRY_STRATEGIES: Final = (
    RetryStrategy(
        origin="full_vocabulary",
        for_flags=frozenset({"copy", "unknown_characters", "off_target", "low_probability"}),
    ),
    RetryStrategy(
        origin="repetition_block",
        for_flags=frozenset({"loop", "truncated"}),
        no_repeat_ngram=4,
    ),
    RetryStrategy(
        origin="larger_beam",
        for_flags=frozenset({"loop", "off_target", "copy", "length"}),
        beam_factor=2,
    ),
    RetryStrategy(
        origin="smaller_pieces",
        for_flags=frozenset({"loop", "truncated", "off_target", "length"}),
        no_repeat_ngram=4,
        in_pieces=True,
    ),
)


RETRIED_FLAGS: Final = frozenset().union(*(each.for_flags for each in RETRY_STRATEGIES))
"""All flags that some strategy may fix."""


class RetryBudget:
    """Counts the success of retries in each direction, and stops unsuccessful strategies.

    After `limit` segments of a direction, a strategy continues only while it has fixed at least one
    segment in ten, that is, removed all flags that are retried. A segment without any output is
    always retried. The decision depends on the preceding segments, in order; with a limit of 0,
    nothing is stopped, and each segment is independent of the others.

    Attributes:
        limit: Number of segments of a direction that a strategy may retry without success; 0
            disables the limit.
        num_skipped: Number of retries that a stopped strategy did not make.
    """

    def __init__(self, limit: int = RETRY_LIMIT):
        if limit < 0:
            raise ValueError(f"the retry limit is {limit}; it must be 0 (no limit) or more")
        self.limit = limit
        self.num_skipped = 0
        self._tried: Counter[tuple[str, str, AttemptOrigin]] = Counter()
        self._fixed: Counter[tuple[str, str, AttemptOrigin]] = Counter()
        self._stopped: dict[tuple[str, str, AttemptOrigin], None] = {}

    @property
    def stopped(self) -> tuple[tuple[str, str, AttemptOrigin], ...]:
        """Source code, target code and name of each stopped strategy."""
        return tuple(self._stopped)

    def allows(self, direction: tuple[str, str], origin: AttemptOrigin) -> bool:
        """Return whether a strategy may continue in a direction."""
        key = (*direction, origin)
        tried = self._tried[key]
        return not self.limit or tried < self.limit or self._fixed[key] >= MIN_RETRY_SUCCESS * tried

    def skip(self, direction: tuple[str, str], origin: AttemptOrigin, count: int) -> None:
        """Count retries that a stopped strategy did not make."""
        self._stopped[(*direction, origin)] = None
        self.num_skipped += count

    def record(
        self, direction: tuple[str, str], origin: AttemptOrigin, *, tried: int, fixed: int
    ) -> None:
        """Record how many segments a strategy retried and how many of them it fixed."""
        self._tried[(*direction, origin)] += tried
        self._fixed[(*direction, origin)] += fixed


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One output of a segment and its quality estimate.

    Attributes:
        hypotheses: the chosen output, followed by the requested alternatives.
        trust: quality estimate of the first hypothesis.
    """

    hypotheses: tuple[Hypothesis, ...]
    trust: TrustRecord

    @property
    def is_empty(self) -> bool:
        """Whether the output contains no visible text."""
        return not self.hypotheses[0].text.strip()

    def rank(self) -> tuple[bool, int, int, float]:
        """Return a sort key: the better of two attempts has the smaller key."""
        flags = self.trust.flags
        severity = len(FLAGS) - FLAGS.index(flags[0]) if flags else 0
        return self.is_empty, severity, len(flags), -self.trust.confidence


def translate_segments(
    generator: Generator,
    segments: Sequence[str],
    *,
    source: Language,
    target: Language,
    search: SearchOptions,
    detector: Detector | None = None,
    retry: bool | RetryBudget = True,
    terms: Mapping[str, Terms] | None = None,
) -> list[Attempt]:
    """Translate segments of one language, and return the best attempt for each, in order.

    Args:
        generator: Translates single segments.
        segments: Texts that are short enough for the model.
        source: The source language.
        target: The target language.
        search: Search options.
        detector: Identifies the language of outputs, for the flag `off_target`.
        retry: Whether flagged outputs are retried; a budget limits the retries of several calls.
        terms: For each segment, the terms that its output must contain.

    Raises:
        SegmentError: A segment has no output, an empty one, or the output of another segment.
    """
    attempts = _SegmentTranslation(
        generator, source, target, search, detector=detector, terms=terms or {}
    )
    best = attempts.first(segments)
    if retry:
        budget = retry if isinstance(retry, RetryBudget) else RetryBudget()
        shortlisted = search.shortlist and generator.has_shortlist(target)
        for strategy in RETRY_STRATEGIES:
            if strategy.origin != "full_vocabulary" or shortlisted:
                attempts.improve(best, strategy, budget)
    for segment, attempt in zip(segments, best, strict=True):
        if attempt.is_empty:
            raise SegmentError(
                f"the model gave an empty output for the segment {_excerpt(segment)} after "
                f"{attempt.trust.attempts} attempts",
                segment=segment,
            )
    return best


def generate_checked(
    generator: Generator,
    segments: Sequence[str],
    *,
    source: Language,
    target: Language,
    search: SearchOptions,
    terms: Mapping[str, Terms] | None = None,
) -> list[list[Hypothesis]]:
    """Call the generator and check that each segment has its own output.

    Raises:
        SegmentError: A segment has no hypothesis, or one that belongs to another segment.
    """
    if not segments:
        return []
    required = [terms.get(segment, ()) for segment in segments] if terms else []
    if any(required):
        answers = generator.generate(
            segments, source=source, target=target, search=search, terms=required
        )
    else:
        answers = generator.generate(segments, source=source, target=target, search=search)
    for i, segment in enumerate(segments):
        number = f"segment {i + 1} of {len(segments)}, {_excerpt(segment)},"
        if i >= len(answers) or not answers[i]:
            raise SegmentError(f"{number} got no output from the model", segment=segment)
        for hypothesis in answers[i]:
            if hypothesis.source != segment:
                raise SegmentError(
                    f"{number} got the output of another segment, {_excerpt(hypothesis.source)}",
                    segment=segment,
                )
    if len(answers) > len(segments):
        raise SegmentError(
            f"the model gave {len(answers)} outputs for {len(segments)} segments",
            segment=segments[-1],
        )
    return answers


class _SegmentTranslation:
    """The attempts at the segments of one call."""

    def __init__(
        self,
        generator: Generator,
        source: Language,
        target: Language,
        search: SearchOptions,
        *,
        detector: Detector | None,
        terms: Mapping[str, Terms],
    ):
        self.generator, self.source, self.target = generator, source, target
        self.search, self.detector, self.terms = search, detector, terms

    def first(self, segments: Sequence[str]) -> list[Attempt]:
        """Translate with the requested search options."""
        answers = self._generate(segments, self.search)
        records = self._judge([answer[0] for answer in answers], "first", [1] * len(answers))
        return [
            Attempt(hypotheses=tuple(answer), trust=record)
            for answer, record in zip(answers, records, strict=True)
        ]

    def improve(self, best: list[Attempt], strategy: RetryStrategy, budget: RetryBudget) -> None:
        """Retry the attempts that a strategy may fix, in place, within the budget."""
        direction = (self.source.code, self.target.code)
        flagged = [i for i, attempt in enumerate(best) if strategy.applies_to(attempt)]
        for chosen in _chunks(flagged, budget.limit):
            numbers = chosen
            if not budget.allows(direction, strategy.origin):
                numbers = [i for i in chosen if best[i].is_empty]
                budget.skip(direction, strategy.origin, len(chosen) - len(numbers))
            again = self._retry([best[i] for i in numbers], strategy)
            for i, attempts in zip(numbers, again, strict=True):
                tried = max(attempt.trust.attempts for attempt in (best[i], *attempts))
                kept = min((best[i], *attempts), key=Attempt.rank)
                best[i] = replace(kept, trust=replace(kept.trust, attempts=tried))
            fixed = sum(_is_sound(best[i]) for i in numbers)
            budget.record(direction, strategy.origin, tried=len(numbers), fixed=fixed)

    def _retry(self, flagged: Sequence[Attempt], strategy: RetryStrategy) -> list[list[Attempt]]:
        """Return the new attempts at each segment; none for a segment that cannot be retried."""
        segments = [attempt.hypotheses[0].source for attempt in flagged]
        if strategy.in_pieces:
            answers = self._in_pieces(segments, strategy.search(self.search))
        else:
            answers = self._generate(segments, strategy.search(self.search))
        judged = [
            (number, hypothesis)
            for number, answer in enumerate(answers)
            for hypothesis in (answer if strategy.beam_factor > 1 else answer[:1])
        ]
        records = self._judge(
            [hypothesis for _, hypothesis in judged],
            strategy.origin,
            [flagged[number].trust.attempts + 1 for number, _ in judged],
        )
        attempts: list[list[Attempt]] = [[] for _ in flagged]
        for (number, hypothesis), record in zip(judged, records, strict=True):
            others = [other for other in answers[number] if other is not hypothesis]
            kept = (hypothesis, *others)[: self.search.num_hypotheses]
            attempts[number].append(Attempt(hypotheses=kept, trust=record))
        return attempts

    def _generate(self, segments: Sequence[str], search: SearchOptions) -> list[list[Hypothesis]]:
        return generate_checked(
            self.generator,
            segments,
            source=self.source,
            target=self.target,
            search=search,
            terms=self.terms,
        )

    def _in_pieces(self, segments: Sequence[str], search: SearchOptions) -> list[list[Hypothesis]]:
        """Translate segments in pieces of about half their length; no answer if one is lost."""
        single = replace(search, num_hypotheses=1)
        split = [self._pieces(segment) for segment in segments]
        wanted = list(dict.fromkeys(part.text for document in split for part in document.parts))
        best = {
            piece: answer[0]
            for piece, answer in zip(wanted, self._generate(wanted, single), strict=True)
        }
        answers = []
        for segment, document in zip(segments, split, strict=True):
            pieces = [best[part.text] for part in document.parts]
            whole = all(piece.text.strip() for piece in pieces)
            answers.append([self._join(segment, document, pieces)] if pieces and whole else [])
        return answers

    def _pieces(self, segment: str) -> Document:
        max_length = max(1, (3 * len(segment)) // 5)
        return cut(split_long(segment, self.source, fits=lambda piece: len(piece) <= max_length))

    def _join(self, segment: str, document: Document, outputs: Sequence[Hypothesis]) -> Hypothesis:
        """Combine the hypotheses of the pieces into one for the segment."""
        texts = [output.text.strip() for output in outputs]
        unknown = [character for output in outputs for character in output.unknown_source]
        return Hypothesis(
            source=segment,
            text=document.render(texts, between=separator(self.source, self.target)),
            token_ids=tuple(token for output in outputs for token in output.token_ids),
            log_probability=sum(output.log_probability for output in outputs),
            score=sum(output.score for output in outputs) / len(outputs),
            num_tokens=sum(output.num_tokens for output in outputs),
            finished=all(output.finished for output in outputs),
            unknown_source=tuple(dict.fromkeys(unknown)),
        )

    def _judge(
        self, hypotheses: Sequence[Hypothesis], origin: AttemptOrigin, attempts: Sequence[int]
    ) -> list[TrustRecord]:
        detections: Sequence[Detection | None] = [None] * len(hypotheses)
        if self.detector is not None and hypotheses:
            detections = self.detector.detect_batch(
                [" ".join(hypothesis.text.split()) for hypothesis in hypotheses],
                top=DETECTED_LABELS,
            )
        return [
            judge(
                hypothesis,
                terms=self.terms.get(hypothesis.source, ()),
                source=self.source,
                target=self.target,
                detection=detection,
                origin=origin,
                attempts=number,
            )
            for hypothesis, detection, number in zip(hypotheses, detections, attempts, strict=True)
        ]


def _is_sound(attempt: Attempt) -> bool:
    """Return whether an attempt has none of the flags that are retried."""
    return not attempt.is_empty and RETRIED_FLAGS.isdisjoint(attempt.trust.flags)


def _chunks(numbers: list[int], size: int) -> Iterator[list[int]]:
    """Yield the numbers in groups of `size`; in one group if it is 0."""
    size = size or max(1, len(numbers))
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "...")
