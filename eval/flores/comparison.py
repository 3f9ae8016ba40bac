"""Comparison of two evaluations: changes by language group, and whether people would notice."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eval.metrics.bleu import Bleu
from eval.metrics.chrf import Chrf
from eval.metrics.neural_metric import PREFIX, NeuralMetric
from eval.metrics.registry import LOWER_IS_BETTER, StoredMetric, metric_title
from eval.metrics.significance import (
    RESAMPLES,
    benjamini_hochberg,
    bootstrap_p,
    bootstrap_weights,
    interval,
    randomisation_p_values,
    replicates,
)
from eval.metrics.ter import Ter
from eval.metrics.tokenization import SacrebleuTokenizer
from nllb.errors import ConfigError, DataError
from nllb.io.progress import Progress

from .changes import DISCOVERY_RATE, Comparison, DirectionChange, PartChange
from .directions import GROUPS, LEVEL_WORDS, Direction, known_languages, language_level
from .results import Evaluation
from .target_files import load_target
from .verdict import verdict

MIN_RESAMPLES: Final = 100
"""With fewer resamples, the ends of a 95 % interval depend on one or two of them."""


def compare(
    first: Evaluation, second: Evaluation, *, resamples: int = RESAMPLES, quiet: bool = True
) -> Comparison:
    """Compare two evaluations direction by direction.

    Args:
        first: the baseline.
        second: the system that is compared with it.
        resamples: resamples of each test; they use 4 bytes x directions x resamples of memory.
        quiet: no progress on stderr.

    Raises:
        ConfigError: if the resamples are too few for an interval.
        DataError: if data or metrics differ, so that the numbers cannot be compared.
    """
    if resamples < MIN_RESAMPLES:
        raise ConfigError(
            f"{resamples:,} resamples are too few for an interval: give {MIN_RESAMPLES} or more"
        )
    metrics = _comparable(first, second)
    known = [{row.direction for row in evaluation.rows} for evaluation in (first, second)]
    shared = sorted(known[0] & known[1])
    if not shared:
        raise DataError(f"{first.system} and {second.system} have no direction in common")
    changes: list[DirectionChange] = []
    groups: list[PartChange] = []
    parts: list[PartChange] = []
    notes: list[str] = []
    with Progress("comparing", total=len(shared) * len(metrics), quiet=quiet) as progress:
        for name in metrics:
            found, samples = _changes(
                first, second, shared, name, resamples=resamples, progress=progress
            )
            changes += found
            notes += _out_of_reach(found, resamples)
            groups += _parts(found, samples, {g.name: _in_group(g.cells) for g in GROUPS})
            parts += _parts(found, samples, _languages_parts(shared))
    return Comparison(
        first=first.system,
        second=second.system,
        benchmark=first.benchmark,
        metrics=metrics,
        verdict=verdict(first.system, second.system, metrics[0], groups, parts),
        groups=tuple(groups),
        parts=tuple(parts),
        directions=tuple(changes),
        only_first=tuple(map(str, sorted(known[0] - known[1]))),
        only_second=tuple(map(str, sorted(known[1] - known[0]))),
        notes=tuple(notes),
        resamples=resamples,
    )


def _out_of_reach(changes: Sequence[DirectionChange], resamples: int) -> Iterator[str]:
    """Yield warnings about insignificant changes with the smallest possible p-value."""
    least = 1 / (resamples + 1)
    clear = [c for c in changes if max(c.p_bootstrap, c.p_randomisation) <= 1.000001 * least]
    if clear and not any(change.significant for change in clear):
        needed = ceil(len(changes) / (DISCOVERY_RATE * len(clear)))
        yield (
            f"{metric_title(clear[0].metric)}: {len(clear):,} of {len(changes):,} directions have "
            f"the smallest p-value that {resamples:,} resamples can give ({least:.2g}), which is "
            f"too large among so many directions: compare with --resamples {needed} or more"
        )


def _comparable(first: Evaluation, second: Evaluation) -> tuple[str, ...]:
    differences = []
    if first.benchmark != second.benchmark:
        differences.append(f"test sets {first.benchmark} and {second.benchmark}")
    other = [
        code
        for code, digest in first.reference_sha256.items()
        if second.reference_sha256.get(code, digest) != digest
    ]
    if other:
        differences.append(f"references of {', '.join(other[:5])} ({len(other)} languages)")
    metrics = tuple(name for name in first.metrics if name in second.metrics)
    for name in metrics:
        a, b = first.signatures[name], second.signatures[name]
        for target in sorted(a.keys() & b.keys()):
            if a[target] != b[target]:
                differences.append(
                    f"signatures of {metric_title(name)}: {a[target]} and {b[target]}"
                )
                break
    if differences:
        raise DataError(
            f"{first.directory} and {second.directory} cannot be compared: they differ in "
            f"{'; '.join(differences)}. Evaluate both on the same data with the same metrics"
        )
    if not metrics:
        raise DataError(
            f"{first.directory} has {', '.join(first.metrics)} and {second.directory} has "
            f"{', '.join(second.metrics)}: no metric in common"
        )
    return metrics


def _changes(
    first: Evaluation,
    second: Evaluation,
    shared: Sequence[Direction],
    name: str,
    *,
    resamples: int,
    progress: Progress,
) -> tuple[list[DirectionChange], NDArray[np.float32]]:
    """Return the changes of one metric, and directions x resamples of their differences."""
    by_target: dict[str, list[Direction]] = {}
    for direction in shared:
        by_target.setdefault(direction.target, []).append(direction)
    found: list[tuple[Direction, float, float, float, float]] = []
    samples: list[NDArray[np.float32]] = []
    metric = stored_metric(name)
    for target, members in by_target.items():
        before = _statistics(first, target, members, metric)
        after = _statistics(second, target, members, metric)
        if before is None or after is None:
            continue  # the tokenizer of the target was not installed
        weights = bootstrap_weights(before.shape[1], resamples)
        difference = replicates(metric, after, weights) - replicates(metric, before, weights)
        scores = [metric.score(statistics.sum(axis=1)) for statistics in (before, after)]
        shuffled = randomisation_p_values(metric, before, after, trials=resamples)
        for number, direction in enumerate(members):
            a, b = float(scores[0][number]), float(scores[1][number])
            found.append(
                (direction, a, b, bootstrap_p(difference[number], b - a), float(shuffled[number]))
            )
        samples.append(difference.astype(np.float32))
        progress.advance(len(members), target)
    stacked = np.concatenate(samples)
    q_values = benjamini_hochberg(np.array([max(row[3:]) for row in found]))
    changes = []
    for (direction, a, b, p, r), q, sample in zip(found, q_values, stacked, strict=True):
        low, high = interval(sample.astype(np.float64))
        changes.append(
            DirectionChange(
                direction=direction, metric=name, first=a, second=b, delta=b - a, low=low,
                high=high, p_bootstrap=p, p_randomisation=r, q_value=float(q),
            )
        )  # fmt: skip
    return changes, stacked


def stored_metric(name: str) -> StoredMetric:
    """Return a metric that scores stored integers; it may be unable to tokenize."""
    if name.startswith("chrf"):
        return Chrf(word_order=name.count("+"))
    if name == "ter":
        return Ter()
    if name.startswith(PREFIX):
        return NeuralMetric(name)
    return Bleu(SacrebleuTokenizer("none"), name=name, title=metric_title(name))


def _statistics(
    evaluation: Evaluation, target: str, members: Sequence[Direction], metric: StoredMetric
) -> NDArray[Any] | None:
    result = load_target(evaluation.directory, target)
    if metric.name not in result.packed:
        return None
    place = {row.direction: number for number, row in enumerate(result.rows)}
    packed = result.packed[metric.name][[place[direction] for direction in members]]
    return metric.unpack(packed, result.reference_columns[metric.name])


def _parts(
    changes: Sequence[DirectionChange],
    samples: NDArray[np.float32],
    parts: Mapping[str, Callable[[Direction], bool]],
) -> Iterator[PartChange]:
    for part, belongs in parts.items():
        inside = [number for number, c in enumerate(changes) if belongs(c.direction)]
        if not inside:
            continue
        members = [changes[number] for number in inside]
        mean = samples[inside].mean(axis=0, dtype=np.float64)
        first = float(np.mean([change.first for change in members]))
        second = float(np.mean([change.second for change in members]))
        low, high = interval(mean)
        sign = -1 if members[0].metric in LOWER_IS_BETTER else 1
        yield PartChange(
            part=part,
            metric=members[0].metric,
            count=len(members),
            first=first,
            second=second,
            delta=second - first,
            low=low,
            high=high,
            p_value=bootstrap_p(mean, second - first),
            better=sum(change.significant and sign * change.delta > 0 for change in members),
            worse=sum(change.significant and sign * change.delta < 0 for change in members),
        )


def _in_group(cells: Sequence[int]) -> Callable[[Direction], bool]:
    inside = frozenset(cells)
    return lambda direction: direction.cell in inside


def _languages_parts(shared: Sequence[Direction]) -> dict[str, Callable[[Direction], bool]]:
    """Return the parts that a verdict may name: by script, family and level of either side."""
    table = known_languages()
    parts: dict[str, Callable[[Direction], bool]] = {}

    def add(title: str, side: str, value: Callable[[str], str], wanted: str) -> None:
        parts[title] = lambda direction: value(getattr(direction, side)) == wanted

    for word, side in (("into", "target"), ("from", "source")):
        codes = sorted({getattr(direction, side) for direction in shared} & table.keys())
        for script in sorted({table[code].script for code in codes}):
            add(
                f"{word} languages in {script} script",
                side,
                lambda c: table[c].script if c in table else "",
                script,
            )
        for family in sorted({table[code].family for code in codes} - {""}):
            add(f"{word} {family} languages", side,
                lambda c: table[c].family if c in table else "", family)  # fmt: skip
        for level in sorted({language_level(code) for code in codes}):
            add(f"{word} {LEVEL_WORDS[level]}-resource languages", side, language_level, level)
    return parts
