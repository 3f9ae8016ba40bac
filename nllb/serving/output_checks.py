"""Checks of outputs, made once for a whole batch instead of for each request alone.

The translator identifies the language of every output and compares its meaning with that of its
source. One network call for sixteen outputs takes much less time than sixteen calls. The queue
therefore checks the outputs of each batch, and the translator of a request gets a detector and a
meaning check that know these results. What they do not know, they compute.
"""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from nllb.languages import Language
from nllb.languages.detection import Detection, Detector
from nllb.translation.meaning import Meaning, MeaningCheck
from nllb.translation.retry import DETECTED_LABELS

MAX_KNOWN: Final = 1024
"""Checked outputs that a request remembers."""
MIN_SHARE: Final = 4
"""Outputs for which another thread is worthwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputCheck:
    """The results for one output.

    Attributes:
        segment: The source of the output.
        output: Its text.
        direction: Codes of the source language and the target language.
        detection: Its language; None if there is no detector.
        meaning: Whether it means what its source means; None if that is not checked.
    """

    segment: str
    output: str
    direction: tuple[str, str]
    detection: Detection | None
    meaning: Meaning | None


class BatchChecks:
    """Checks the outputs of batches with a fixed number of threads."""

    def __init__(
        self, detector: Detector | None, meaning: MeaningCheck | None, *, num_threads: int = 1
    ) -> None:
        """Make the threads; each checks a share of a batch with one thread of its own."""
        self._detector, self._meaning = detector, meaning
        self._num_threads = num_threads
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="nllb-check")

    def __call__(
        self, segments: Sequence[str], outputs: Sequence[str], *, source: Language, target: Language
    ) -> list[OutputCheck]:
        """Check one output of each segment."""
        num_shares = max(1, min(self._num_threads, len(segments) // MIN_SHARE))
        places = range(len(segments))
        # Every n-th output: the queue sorts segments by length, and shares should cost the same.
        shares = [places[first::num_shares] for first in range(num_shares)]

        def check(share: range) -> list[OutputCheck]:
            return self._check(
                [segments[place] for place in share], [outputs[place] for place in share],
                source, target,
            )  # fmt: skip

        mine, *others = shares
        submitted = [self._threads.submit(check, share) for share in others]
        found = dict(zip(mine, check(mine), strict=True))
        for share, future in zip(others, submitted, strict=True):
            found |= zip(share, future.result(), strict=True)
        return [found[place] for place in places]

    def _check(
        self, segments: Sequence[str], outputs: Sequence[str], source: Language, target: Language
    ) -> list[OutputCheck]:
        detections: Sequence[Detection | None] = [None] * len(outputs)
        meanings: Sequence[Meaning | None] = [None] * len(outputs)
        if self._detector is not None:
            lines = [" ".join(output.split()) for output in outputs]
            detections = self._detector.detect_batch(lines, top=DETECTED_LABELS)
        if self._meaning is not None:
            meanings = self._meaning.judge(segments, outputs, source=source, target=target)
        return [
            OutputCheck(
                segment=segment,
                output=output,
                direction=(source.code, target.code),
                detection=detection,
                meaning=meaning,
            )
            for segment, output, detection, meaning in zip(
                segments, outputs, detections, meanings, strict=True
            )
        ]

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)


class KnownChecks:
    """The checked outputs of one request, the latest ones."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._detections: OrderedDict[str, Detection] = OrderedDict()
        self._meanings: OrderedDict[tuple[str, str, tuple[str, str]], Meaning] = OrderedDict()

    def add(self, check: OutputCheck) -> None:
        """Remember a result."""
        if check.detection is not None:
            self._detections[" ".join(check.output.split())] = check.detection
        if check.meaning is not None:
            self._meanings[check.segment, check.output, check.direction] = check.meaning
        for known in (self._detections, self._meanings):
            if len(known) > MAX_KNOWN:
                known.popitem(last=False)

    def detection(self, text: str) -> Detection | None:
        """Return the language of a text, if it is known."""
        return self._detections.get(text)

    def meaning(self, segment: str, output: str, direction: tuple[str, str]) -> Meaning | None:
        """Return the verdict on an output, if it is known."""
        return self._meanings.get((segment, output, direction))


class KnowingDetector:
    """A detector that knows the languages of checked outputs."""

    def __init__(self, detector: Detector, known: KnownChecks) -> None:
        """Wrap a detector."""
        self._detector, self._known = detector, known

    def detect(self, text: str) -> Detection:
        """Detect the language of one text."""
        return self._detector.detect(text)

    def detect_batch(self, texts: Sequence[str], *, top: int = 1) -> list[Detection]:
        """Detect the language of each text, in order."""
        if top != DETECTED_LABELS:
            return self._detector.detect_batch(texts, top=top)
        found = [self._known.detection(text) for text in texts]
        missing = [text for text, known in zip(texts, found, strict=True) if known is None]
        computed = iter(self._detector.detect_batch(missing, top=top) if missing else ())
        return [next(computed) if known is None else known for known in found]


class KnowingMeaningCheck(MeaningCheck):
    """A meaning check that knows the verdicts on checked outputs."""

    def __init__(self, check: MeaningCheck, known: KnownChecks) -> None:
        """Wrap a check."""
        self._check, self._known = check, known

    def judge(
        self, sources: Sequence[str], outputs: Sequence[str], *, source: Language, target: Language
    ) -> list[Meaning]:
        """Return the verdicts on outputs, in order."""
        direction = (source.code, target.code)
        pairs = list(zip(sources, outputs, strict=True))
        found = [self._known.meaning(*pair, direction) for pair in pairs]
        missing = [pair for pair, known in zip(pairs, found, strict=True) if known is None]
        computed = iter(
            self._check.judge(
                [segment for segment, _ in missing],
                [output for _, output in missing],
                source=source,
                target=target,
            )
            if missing
            else ()
        )
        return [next(computed) if known is None else known for known in found]
