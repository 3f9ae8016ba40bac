"""Comparison of two hypothesis files: every metric with interval and p-values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .registry import LOWER_IS_BETTER, MetricChoice, metric_title
from .resampling import ResampledSums, SwappedSums
from .scoring import AlignedFiles, available_metrics, block_statistics, signature_of
from .significance import LEVEL, RESAMPLES, SEED, bootstrap_p, interval

SIGNIFICANT = round(1 - LEVEL, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileChange:
    """One metric of two files."""

    metric: str
    """Metric name."""
    name: str
    """The name for display."""
    first: float
    """Score of the first file."""
    first_interval: tuple[float, float]
    """Its 95 % bootstrap interval."""
    second: float
    """Score of the second file."""
    second_interval: tuple[float, float]
    """Its interval."""
    delta: float
    """Second minus first."""
    low: float
    """Lower end of the 95 % interval of `delta`, over the same resamples of both."""
    high: float
    """Upper end."""
    p_bootstrap: float
    """Two-sided p-value of the paired bootstrap; sacrebleu's is one-sided."""
    p_randomisation: float
    """Two-sided p-value of approximate randomisation."""
    signature: str
    """Signature of the metric."""
    num_sentences: int
    """Lines compared."""

    @property
    def verdict(self) -> str:
        """Better, worse, or not significantly different, by the larger of the two p-values."""
        if max(self.p_bootstrap, self.p_randomisation) > SIGNIFICANT:
            return "no significant difference"
        better = (self.delta > 0) != (self.metric in LOWER_IS_BETTER)
        return "significantly better" if better else "significantly worse"

    def as_text(self) -> str:
        """Return the comparison as one line of text."""
        ends = [f"[{low:.2f}, {high:.2f}]" for low, high in
                (self.first_interval, self.second_interval)]  # fmt: skip
        return (
            f"{self.name} {self.first:.2f} {ends[0]} -> {self.second:.2f} {ends[1]}: "
            f"{self.delta:+.2f}, 95 % {self.low:+.2f} to {self.high:+.2f}; paired bootstrap p = "
            f"{self.p_bootstrap:.4f} (two-sided), approximate randomisation p = "
            f"{self.p_randomisation:.4f}: {self.verdict}  {self.signature}"
        )


def compare_files(
    first: Path,
    second: Path,
    references: Sequence[Path],
    *,
    target: str,
    choice: MetricChoice,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[list[FileChange], dict[str, str]]:
    """Compare two files of translations.

    Args:
        first: translations of the baseline.
        second: translations of the other system.
        references: one or more files of references.
        target: target language.
        choice: metrics.
        resamples: of both tests.
        seed: of both tests.

    Returns: the changes, and for each metric that cannot be computed the reason.

    Raises:
        DataError: if files are missing or not aligned.
        ResourceError: if no metric could be computed.
    """
    files = [AlignedFiles(path, references) for path in (first, second)]
    total = files[0].num_lines
    metrics, reasons = available_metrics(choice, target)
    resampled = [ResampledSums(total, resamples=resamples, seed=seed) for _ in files]
    swapped = SwappedSums(trials=resamples, seed=seed, whole=total)
    for blocks in zip(files[0].blocks(), files[1].blocks(), strict=True):
        parts = [
            dict(
                zip(
                    metrics,
                    (raw for raw, _ in block_statistics(block, metrics.values(), target)),
                    strict=True,
                )
            )
            for block in blocks
        ]
        for one, part in zip(resampled, parts, strict=True):
            one.add(part)
        swapped.add(*parts)
    changes = []
    for name, metric in metrics.items():
        before, after = (one.scores(metric) for one in resampled)
        scores = [float(metric.score(sums)) for sums in swapped.sums(name)]
        delta = scores[1] - scores[0]
        low, high = interval(after - before)
        changes.append(
            FileChange(
                metric=name, name=metric_title(name), first=scores[0],
                first_interval=interval(before), second=scores[1],
                second_interval=interval(after), delta=delta, low=low, high=high,
                p_bootstrap=bootstrap_p(np.asarray(after - before), delta),
                p_randomisation=swapped.p_value(metric),
                signature=signature_of(metric, len(references)), num_sentences=total,
            )
        )  # fmt: skip
    return changes, reasons
