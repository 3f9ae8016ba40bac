"""Automatic scores of the items that people rated."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.metrics.registry import Reference, choose_metrics
from nllb.io.benchmarks import LineAlignedSet

from .evaluation import AutomaticScorer
from .ratings import Direction
from .study_checks import References


def references_of(test_set: LineAlignedSet) -> References:
    """Return a function that finds references; it finds none for a language that the set lacks."""

    def find(source: str, target: str) -> Mapping[str, str]:
        if source not in test_set.files or target not in test_set.files:
            return {}
        lines = zip(test_set.sentences(source), test_set.sentences(target), strict=True)
        return dict(lines)

    return find


def machine_scorer(*, spm_path: Path | None = None) -> AutomaticScorer:
    """Return a scorer of chrF++ and, if a SentencePiece model is given, spBLEU."""
    choice = choose_metrics(None, spm=spm_path, spm_name="standin", spm_sha256=None)

    def measure(
        direction: Direction, hypotheses: Sequence[str], references: Sequence[str]
    ) -> dict[str, float]:
        reference = Reference(references, direction.target)
        found = {}
        for name in choice.names:
            metric = choice.metric(name, direction.target)
            found[metric.title] = reference.measure(metric, hypotheses).score
        return found

    return measure
