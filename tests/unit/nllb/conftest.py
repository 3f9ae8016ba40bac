"""Stand-ins for a model and a language detector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from nllb.inference.generator import Hypothesis, SearchOptions, Terms
from nllb.languages import Language
from nllb.languages.detection import Detection

Translate = Callable[[str, SearchOptions], str | Hypothesis]


def make_hypothesis(source: str, text: str, **fields: object) -> Hypothesis:
    """Return a confident hypothesis; `fields` replace what is not to be so."""
    num_tokens = len(text.split()) + 1
    values: dict[str, object] = {
        "source": source,
        "text": text,
        "token_ids": tuple(range(num_tokens - 1)),
        "log_probability": -0.1 * num_tokens,
        "score": -0.1,
        "num_tokens": num_tokens,
        **fields,
    }
    return Hypothesis(**values)  # type: ignore[arg-type]


@dataclass
class StandIn:
    """A generator that translates by a function and remembers what it was asked."""

    translate: Translate
    longest: int = 1000
    codes: frozenset[str] | None = None
    shortlisted: bool = False
    calls: list[tuple[tuple[str, ...], str, str, SearchOptions]] = field(default_factory=list)
    terms: list[Terms] = field(default_factory=list)
    answer: Callable[[list[list[Hypothesis]]], list[list[Hypothesis]]] = lambda answers: answers

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
        self.terms += terms or []
        self.calls.append((tuple(segments), source.code, target.code, search))
        outputs = [(segment, self.translate(segment, search)) for segment in segments]
        return self.answer(
            [
                [output if isinstance(output, Hypothesis) else make_hypothesis(segment, output)]
                * search.num_hypotheses
                for segment, output in outputs
            ]
        )

    def fits(self, segment: str, *, source: Language) -> bool:
        return len(segment) <= self.longest

    def supports(self, language: Language) -> bool:
        return self.codes is None or language.code in self.codes

    def has_shortlist(self, target: Language) -> bool:
        return self.shortlisted


class StandInDetector:
    """A detector that answers by a function, and `und` where that has no answer.

    It names `others` as alternatives, as far as it is asked for them.
    """

    def __init__(
        self,
        answer: Callable[[str], tuple[str, float] | None],
        *,
        others: Sequence[tuple[str, float]] = (),
    ):
        self.answer, self.others = answer, tuple(others)

    def detect(self, text: str) -> Detection:
        return self.detect_batch([text])[0]

    def detect_batch(self, texts: Sequence[str], *, top: int = 1) -> list[Detection]:
        found = [self.answer(text) or ("und", 0.1) for text in texts]
        others = self.others[: top - 1]
        return [Detection(language=code, probability=p, alternatives=others) for code, p in found]


@pytest.fixture(scope="session")
def hypothesis() -> Callable[..., Hypothesis]:
    return make_hypothesis


@pytest.fixture(scope="session")
def stand_in() -> type[StandIn]:
    return StandIn


@pytest.fixture(scope="session")
def stand_in_detector() -> type[StandInDetector]:
    return StandInDetector
