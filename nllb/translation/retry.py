"""Translating segments with a contract and second chances.

Every answer of the generator is checked: each segment has at least one hypothesis, and it is the
segment's own. What the trust record finds faulty is tried again, rung by rung, with the full
vocabulary: first with repetition blocked, then with a larger beam, then in smaller pieces.

Of all attempts the one is kept whose gravest flag is the least grave (no flag is best), then that
with fewest flags, then the highest confidence, then the earliest. An empty output is the gravest
fault of all: where no rung cures it, the run fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from nllb.errors import DataError
from nllb.inference.generator import Generator, Hypothesis, SearchOptions
from nllb.languages import Language
from nllb.languages.detection import Detection, Detector
from nllb.languages.segmentation import split_long
from nllb.translation.quality import FLAGS, Flag, Origin, TrustRecord, judge
from nllb.translation.structure import Document, cut, separator

DETECTED_LABELS: Final = 10
"""Labels that a detector is asked for: every one of a tenth of the probability is among them."""
_EXCERPT = 80


class SegmentError(DataError):
    """A segment that got no output, or the output of another one.

    Attributes:
        segment: the text of the segment.
    """

    def __init__(self, message: str, *, segment: str):
        super().__init__(message)
        self.segment = segment


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """One way to try a segment again."""

    origin: Origin
    """Its name in the trust record."""
    cures: frozenset[Flag]
    """The faults that it is tried for."""
    no_repeat_ngram: int = 0
    """No n-gram of this many tokens may occur twice."""
    beam_factor: int = 1
    """The beam grows by this factor, and every hypothesis of it is judged."""
    in_pieces: bool = False
    """The segment is cut at its best places and translated piece by piece."""

    def search(self, search: SearchOptions) -> SearchOptions:
        """Return the options of this rung, made from those that were asked for."""
        beam_size = search.beam_size
        if self.beam_factor > 1:
            beam_size = max(4, self.beam_factor * beam_size)
        return replace(
            search,
            shortlist=False,
            no_repeat_ngram=self.no_repeat_ngram or search.no_repeat_ngram,
            beam_size=beam_size,
            sampling=search.sampling and beam_size == 1,
            num_hypotheses=beam_size if self.beam_factor > 1 else search.num_hypotheses,
            min_output_tokens=max(1, search.min_output_tokens),
        )


RUNGS: Final = (
    Rung(
        origin="full_vocabulary",
        cures=frozenset({"copy", "unknown_characters", "off_target", "low_probability"}),
    ),
    Rung(
        origin="repetition_block",
        cures=frozenset({"loop", "truncated"}),
        no_repeat_ngram=4,
    ),
    Rung(
        origin="larger_beam",
        cures=frozenset({"loop", "off_target", "copy", "length"}),
        beam_factor=2,
    ),
    Rung(
        origin="smaller_pieces",
        cures=frozenset({"loop", "truncated", "off_target", "length"}),
        no_repeat_ngram=4,
        in_pieces=True,
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One output of a segment and what it is worth."""

    hypotheses: tuple[Hypothesis, ...]
    """The output that counts, then the others that were asked for."""
    trust: TrustRecord
    """How far the first can be trusted."""

    @property
    def is_empty(self) -> bool:
        """Whether the output has nothing to read in it."""
        return not self.hypotheses[0].text.strip()

    def rank(self) -> tuple[bool, int, int, float]:
        """Return a key by which the better of two attempts is the smaller."""
        flags = self.trust.flags
        gravest = len(FLAGS) - FLAGS.index(flags[0]) if flags else 0
        return self.is_empty, gravest, len(flags), -self.trust.confidence


def translate_segments(
    generator: Generator,
    segments: Sequence[str],
    *,
    source: Language,
    target: Language,
    search: SearchOptions,
    detector: Detector | None = None,
    retry: bool = True,
) -> list[Attempt]:
    """Translate segments of one language; the best attempt of each, in order.

    Raises:
        SegmentError: where a segment has no output, an empty one, or the output of another segment.
    """
    climb = _Climb(generator, source, target, search, detector)
    best = climb.first(segments)
    shortlisted = search.shortlist and generator.has_shortlist(target)
    for rung in RUNGS if retry else ():
        if rung.origin == "full_vocabulary" and not shortlisted:
            continue
        faulty = [
            i
            for i, attempt in enumerate(best)
            if attempt.is_empty or rung.cures.intersection(attempt.trust.flags)
        ]
        again = climb.again([best[i] for i in faulty], rung)
        for i, attempts in zip(faulty, again, strict=True):
            tried = max(attempt.trust.attempts for attempt in (best[i], *attempts))
            kept = min((best[i], *attempts), key=Attempt.rank)
            best[i] = replace(kept, trust=replace(kept.trust, attempts=tried))
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
) -> list[list[Hypothesis]]:
    """Call the generator and hold its answer against what was asked.

    Raises:
        SegmentError: where a segment has no hypothesis, or one that belongs to another segment.
    """
    if not segments:
        return []
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


class _Climb:
    """The segments of one call on their way up the ladder."""

    def __init__(
        self,
        generator: Generator,
        source: Language,
        target: Language,
        search: SearchOptions,
        detector: Detector | None,
    ):
        self.generator, self.source, self.target = generator, source, target
        self.search, self.detector = search, detector

    def first(self, segments: Sequence[str]) -> list[Attempt]:
        """Translate as it was asked for."""
        answers = self._generate(segments, self.search)
        records = self._judge([answer[0] for answer in answers], "first", [1] * len(answers))
        return [
            Attempt(hypotheses=tuple(answer), trust=record)
            for answer, record in zip(answers, records, strict=True)
        ]

    def again(self, faulty: Sequence[Attempt], rung: Rung) -> list[list[Attempt]]:
        """Try the segments of these attempts on a rung; none for one that it cannot try."""
        segments = [attempt.hypotheses[0].source for attempt in faulty]
        if rung.in_pieces:
            answers = self._in_pieces(segments, rung.search(self.search))
        else:
            answers = self._generate(segments, rung.search(self.search))
        judged = [
            (number, hypothesis)
            for number, answer in enumerate(answers)
            for hypothesis in (answer if rung.beam_factor > 1 else answer[:1])
        ]
        records = self._judge(
            [hypothesis for _, hypothesis in judged],
            rung.origin,
            [faulty[number].trust.attempts + 1 for number, _ in judged],
        )
        attempts: list[list[Attempt]] = [[] for _ in faulty]
        for (number, hypothesis), record in zip(judged, records, strict=True):
            others = [other for other in answers[number] if other is not hypothesis]
            kept = (hypothesis, *others)[: self.search.num_hypotheses]
            attempts[number].append(Attempt(hypotheses=kept, trust=record))
        return attempts

    def _generate(self, segments: Sequence[str], search: SearchOptions) -> list[list[Hypothesis]]:
        return generate_checked(
            self.generator, segments, source=self.source, target=self.target, search=search
        )

    def _in_pieces(self, segments: Sequence[str], search: SearchOptions) -> list[list[Hypothesis]]:
        """Translate each segment in pieces of about half its length; none where that fails."""
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
        longest = max(1, (3 * len(segment)) // 5)
        return cut(split_long(segment, self.source, fits=lambda piece: len(piece) <= longest))

    def _join(self, segment: str, document: Document, outputs: Sequence[Hypothesis]) -> Hypothesis:
        """Return one hypothesis for a segment from those of its pieces."""
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
        self, hypotheses: Sequence[Hypothesis], origin: Origin, attempts: Sequence[int]
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
                source=self.source,
                target=self.target,
                detection=detection,
                origin=origin,
                attempts=number,
            )
            for hypothesis, detection, number in zip(hypotheses, detections, attempts, strict=True)
        ]


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "...")
