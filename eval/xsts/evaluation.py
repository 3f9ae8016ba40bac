"""A whole human evaluation: files in, checks, scores, calibration, agreement, one result out."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eval.proportions import proportion
from eval.xsts.agreement import (
    krippendorff_alpha,
    pairwise_kappas,
    relative_severity,
    self_agreement,
)
from eval.xsts.calibration import CalibrationSettings, Method
from eval.xsts.ingestion import RatingsFile
from eval.xsts.ratings import (
    Direction,
    Floats,
    Grouped,
    Rating,
    RatingMatrix,
    group,
    rating_matrix,
    spearman,
)
from eval.xsts.result import (
    METHODS,
    Agreement,
    Calibration,
    Correlation,
    DirectionScore,
    Estimate,
    FindingRecord,
    RaterScore,
    Sensitivity,
    Validation,
    XstsResult,
)
from eval.xsts.row_checks import finding, parse_rows
from eval.xsts.scores import (
    MedianKind,
    Scored,
    calibrated_estimates,
    estimate,
    item_medians,
    score_direction,
)
from eval.xsts.study_checks import Checked, DetectLanguage, References, check_study
from nllb import __version__
from nllb.errors import DataError

MOST_HALF_WIDTH = 0.25
"""Half-width of the interval above which systems are not ranked."""
_MOST_FINDINGS = 100
_MOST_TOLD = 20
Five = tuple[int, int, int, int, int]

AutomaticScorer = Callable[[Direction, Sequence[str], Sequence[str]], dict[str, float]]
"""(direction, hypotheses, references) -> score by metric name, over exactly these lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSettings:
    """How to score."""

    median: MedianKind = "median"
    """With an even number of raters the middle (x.5) or the lower of both."""
    min_raters: int = 3
    """Raters that each item should have."""
    method: Method = "linear"
    """The calibration that is shown as the calibrated score."""
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    """Free numbers of the methods."""
    calibration_size: int | None = None
    """Items of the full calibration set; None takes what the study has."""
    intersect: bool = False
    """Whether to score only items that all systems of a direction have."""
    resamples: int = 1000
    """Bootstrap resamples."""
    seed: int = 0
    """Of the bootstrap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validated:
    """Files after all checks."""

    checked: Checked
    """Usable ratings and findings about the study."""
    validation: Validation
    """What the result says of it."""
    refused: tuple[FindingRecord, ...]
    """Findings that refuse a file; no score may be made while there are any."""
    blind: bool
    """Whether some raters cannot be told apart (wide files)."""


def validate(
    files: Sequence[RatingsFile],
    settings: ScoreSettings,
    *,
    references: References | None = None,
    detect: DetectLanguage | None = None,
) -> Validated:
    """Run all checks over some files."""
    rows = [row for one in files for row in one.rows]
    parsed = parse_rows(rows)
    checked = check_study(
        parsed.ratings,
        min_raters=settings.min_raters,
        intersect=settings.intersect,
        references=references,
        detect=detect,
        calibration_size=settings.calibration_size,
    )
    findings = [*_unused_columns(files), *parsed.findings, *checked.findings]
    findings.sort(key=lambda one: (one.code, one.file, one.line or 0))
    counts = Counter(one.code for one in findings)
    seen: Counter[str] = Counter()
    kept = []
    for one in findings:
        seen[one.code] += 1
        if seen[one.code] <= _MOST_FINDINGS or one.severity == "refuse":
            kept.append(one)
    return Validated(
        checked=checked,
        validation=Validation(
            rows=len(rows),
            kept=len(checked.ratings),
            quarantined=dict(sorted((parsed.quarantined + checked.quarantined).items())),
            counts=dict(sorted(counts.items())),
            findings=tuple(kept),
        ),
        refused=tuple(one for one in findings if one.severity == "refuse"),
        blind=any(one.preset == "wide" for one in files),
    )


def evaluate(
    files: Sequence[RatingsFile],
    settings: ScoreSettings,
    *,
    references: References | None = None,
    detect: DetectLanguage | None = None,
    automatic: AutomaticScorer | None = None,
) -> XstsResult:
    """Score files.

    Args:
        files: ratings that were read.
        settings: how to score.
        references: lines of the test set with their references; checks X10 and `automatic` need it.
        detect: names the language of a text.
        automatic: scores the rated translations by machine, on exactly the items rated.

    Raises:
        DataError: where a check refuses a file; the message lists every such finding.
    """
    validated = validate(files, settings, references=references, detect=detect)
    if validated.refused:
        told = "\n".join(f"  {tell(one)}" for one in validated.refused[:_MOST_TOLD])
        more = len(validated.refused) - _MOST_TOLD
        raise DataError(
            f"{len(validated.refused)} findings refuse these ratings:\n{told}"
            + (f"\n  and {more} more" if more > 0 else "")
        )
    checked = validated.checked
    groups = group(checked.ratings)
    if not groups.evaluated:
        raise DataError("no ratings of translations: no row of the set 'eval' is usable")
    anchors = {
        direction: rating_matrix(rows)
        for direction, rows in groups.calibration.items()
        if rows and direction not in checked.withheld
    }
    centre = _centre(anchors, settings)
    scored = {
        key: score_direction(
            rating_matrix(rows),
            anchors.get(key[0]),
            kind=settings.median,
            centre=centre,
            resamples=settings.resamples,
            seed=settings.seed,
        )
        for key, rows in groups.evaluated.items()
    }
    findings = list(validated.validation.findings)
    directions = []
    for key, rows in groups.evaluated.items():
        one = _direction_score(
            key, rows, scored[key], groups=groups, checked=checked, settings=settings,
            centre=centre, blind=validated.blind,
        )  # fmt: skip
        if automatic is not None:
            one = replace(one, automatic=_automatic(key[0], rows, checked, automatic))
        low, high = one.score.low, one.score.high
        if low is not None and high is not None and (high - low) / 2 > MOST_HALF_WIDTH:
            one = replace(one, ranking_allowed=False)
            text = f"{key[0]} {key[1]}".strip() + f": half-width {(high - low) / 2:.2f}"
            findings.append(finding("X13", f"{text} is above {MOST_HALF_WIDTH}", at=rows[0]))
        directions.append(one)
    directions.sort(
        key=lambda one: (
            not one.calibrated, -shown(one, settings.method), one.study, one.source, one.target
        )
    )  # fmt: skip
    flagged = _flagged(findings)
    sensitivity, correlations = _sensitivity(
        directions, groups, flagged, settings=settings, with_automatic=automatic is not None
    )
    validation = replace(
        validated.validation,
        findings=tuple(findings),
        counts=dict(sorted(Counter(validated.validation.counts | _new_counts(findings)).items())),
    )
    return XstsResult(
        files=tuple(one.source for one in files),
        settings={
            "median": settings.median, "min_raters": settings.min_raters,
            "intersect": settings.intersect, "resamples": settings.resamples,
            "seed": settings.seed, "nllb": __version__,
        },
        validation=validation,
        calibration=Calibration(
            method=settings.method,
            centre=centre,
            centre_kind="study mean" if settings.calibration.centre is None else "fixed",
            parameters={
                "alpha": settings.calibration.strength, "clip": settings.calibration.limit,
                "tau": settings.calibration.tau, "rho": settings.calibration.rho,
            },
        ),
        directions=tuple(directions),
        raters=() if validated.blind else _raters(groups, checked, flagged),
        agreement=_agreement(groups),
        sensitivity=sensitivity,
        correlations=correlations,
        notes=tuple(_notes(directions, validated, settings)),
    )  # fmt: skip


def tell(one: FindingRecord) -> str:
    """Return a finding as one line: place, rater, what was wrong, how to mend it."""
    place = f"{one.file}:{one.line}: " if one.file else ""
    rater = f"[{one.rater}] " if one.rater and one.rater not in one.message else ""
    return f"{one.code} {one.severity}: {place}{rater}{one.message}. {one.mend}"


def shown(one: DirectionScore, method: str) -> float:
    """Return the score that a table shows: calibrated by `method`, or else as rated."""
    return (one.calibrated.get(method) or one.score).value


def _direction_score(
    key: tuple[Direction, str],
    rows: Sequence[Rating],
    scored: Scored,
    *,
    groups: Grouped,
    checked: Checked,
    settings: ScoreSettings,
    centre: float,
    blind: bool,
) -> DirectionScore:
    direction, system = key
    matrix = rating_matrix(rows)
    medians = item_medians(matrix.values, kind=settings.median)
    calibration = groups.calibration[direction]
    anchors = rating_matrix(calibration) if calibration else None
    calibrated = calibrated_estimates(scored, centre=centre, settings=settings.calibration)
    if blind:
        calibrated.pop("rater", None)
    distribution = _distribution(rows)
    incoherent = [
        sum(getattr(row, f"{side}_incoherent") for row in rows) / len(rows)
        for side in ("source", "target")
    ]
    item_interval = estimate(scored.score, scored.item_resampled)
    return DirectionScore(
        study=direction.study,
        system=system,
        source=direction.source,
        target=direction.target,
        items=len(matrix.items),
        raters=len(matrix.raters),
        ratings=len(rows),
        score=estimate(scored.score, scored.resampled),
        item_interval=(
            None if item_interval.low is None or item_interval.high is None
            else (item_interval.low, item_interval.high)
        ),
        calibration_items=len(anchors.items) if anchors else 0,
        calibration_score=(
            None if scored.calibration_score is None or scored.calibration_resampled is None
            else estimate(scored.calibration_score, scored.calibration_resampled)
        ),
        withheld=checked.withheld.get(direction),
        calibrated=calibrated,
        share_3=_share(medians, 3),
        share_4=_share(medians, 4),
        distribution=distribution,
        calibration_distribution=_distribution(calibration),
        shape=_shape(distribution, incoherent[1]),
        source_incoherent=incoherent[0],
        target_incoherent=incoherent[1],
        alpha=krippendorff_alpha(matrix.values),
        alpha_calibration=krippendorff_alpha(anchors.values) if anchors else None,
        ranking_allowed=direction not in checked.unrankable,
        automatic={},
    )  # fmt: skip


def _automatic(
    direction: Direction, rows: Sequence[Rating], checked: Checked, scorer: AutomaticScorer
) -> dict[str, float]:
    """Score by machine exactly the items that were rated and whose reference is known."""
    texts = {row.item: (row.source_text, row.target_text) for row in rows}
    pairs = [
        (hypothesis, reference)
        for source, hypothesis in (texts[item] for item in sorted(texts))
        if (reference := checked.references.get((direction.source, direction.target, source)))
        is not None
    ]
    if not pairs:
        return {}
    return scorer(direction, [pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _centre(anchors: dict[Direction, RatingMatrix], settings: ScoreSettings) -> float:
    if settings.calibration.centre is not None or not anchors:
        return 3.0 if settings.calibration.centre is None else settings.calibration.centre
    scores = [np.nanmean(item_medians(one.values, kind=settings.median))
              for one in anchors.values()]  # fmt: skip
    return float(np.mean(scores))


def _sensitivity(
    directions: Sequence[DirectionScore],
    groups: Grouped,
    flagged: dict[str, set[str]],
    *,
    settings: ScoreSettings,
    with_automatic: bool,
) -> tuple[tuple[Sensitivity, ...], tuple[Correlation, ...]]:
    """Every method side by side, over the directions that have it."""
    table: list[Sensitivity] = []
    correlations: list[Correlation] = []
    metrics = sorted({name for one in directions for name in one.automatic})
    ways: list[tuple[str, list[DirectionScore], list[float]]] = []
    for method in METHODS:
        having = [one for one in directions if method == "none" or method in one.calibrated]
        if having:
            ways.append((method, having, [shown(one, method) for one in having]))
    if flagged:
        having, values = [], []
        for one in directions:
            direction = Direction(study=one.study, source=one.source, target=one.target)
            matrix = rating_matrix(groups.evaluated[direction, one.system])
            rest = matrix.of_raters(set(matrix.raters) - flagged.keys())
            if rest.items:
                having.append(one)
                medians = item_medians(rest.values, kind=settings.median)
                values.append(float(np.nanmean(medians)))
        if having:
            ways.append(("without flagged raters", having, values))
    for method, having, values in ways:
        raw = [one.score.value for one in having]
        shifts = [value - before for value, before in zip(values, raw, strict=True)]
        found = {}
        for metric in metrics:
            pairs = [(one.automatic[metric], value)
                     for one, value in zip(having, values, strict=True)
                     if metric in one.automatic]  # fmt: skip
            one_correlation = _correlation(pairs, settings=settings)
            if one_correlation is None:
                continue
            found[metric] = one_correlation.value
            if with_automatic and method in METHODS:
                correlations.append(
                    Correlation(metric=metric, method=method, spearman=one_correlation,
                                directions=len(pairs))
                )  # fmt: skip
        table.append(
            Sensitivity(
                method=method,
                directions=len(having),
                mean=float(np.mean(values)),
                mean_shift=float(np.mean(shifts)),
                largest_shift=max(shifts, key=abs),
                rank_correlation=spearman(raw, values),
                correlations=found,
            )
        )
    return tuple(table), tuple(correlations)


def _correlation(
    pairs: Sequence[tuple[float, float]], *, settings: ScoreSettings
) -> Estimate | None:
    values = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    found = spearman(values[:, 0], values[:, 1])
    if found is None:
        return None
    random = np.random.default_rng(settings.seed)
    resampled = []
    for _ in range(settings.resamples):
        drawn = values[random.integers(len(values), size=len(values))]
        again = spearman(drawn[:, 0], drawn[:, 1])
        resampled.append(np.nan if again is None else again)
    return estimate(found, np.array(resampled))


def _raters(
    groups: Grouped, checked: Checked, flagged: dict[str, set[str]]
) -> tuple[RaterScore, ...]:
    rows_of: defaultdict[str, list[Rating]] = defaultdict(list)
    anchors_of: defaultdict[str, list[Rating]] = defaultdict(list)
    for rating in checked.ratings:
        (anchors_of if rating.set == "calibration" else rows_of)[rating.rater].append(rating)
    gaps: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    matrices = [rating_matrix(rows) for rows in groups.evaluated.values()]
    for matrix in matrices:
        rated = (~np.isnan(matrix.values)).sum(axis=1)
        for rater, gap, number in zip(
            matrix.raters, relative_severity(matrix.values), rated, strict=True
        ):
            if not np.isnan(gap):
                gaps[rater].append((float(gap), int(number)))
    kappas = pairwise_kappas((one.raters, one.values) for one in matrices)
    again = self_agreement(checked.repeated)
    found = []
    for rater in sorted({*rows_of, *anchors_of}):
        rows = [row for row in rows_of[rater] if row.set == "eval"]
        anchors = anchors_of[rater]
        stepped = [(row.stratum, row.score) for row in anchors if row.stratum is not None]
        own = [value for pair, value in kappas.items() if rater in pair]
        equal, repeats = again.get(rater, (0, 0))
        found.append(
            RaterScore(
                rater=rater,
                ratings=len(rows_of[rater]) + len(anchors),
                directions=tuple(sorted({f"{row.source}-{row.target}" for row in rows})),
                mean=float(np.mean([row.score for row in rows])) if rows else float("nan"),
                severity=_weighted(gaps[rater]),
                calibration_mean=(
                    float(np.mean([row.score for row in anchors])) if anchors else None
                ),
                calibration_spearman=spearman([a for a, _ in stepped], [b for _, b in stepped]),
                weighted_kappa=_weighted(own),
                repeated=repeats,
                self_agreement=equal / repeats if repeats else None,
                distribution=_distribution(rows),
                flags=tuple(sorted(flagged.get(rater, ()))),
            )
        )
    rated_only = [one for one in found if sum(one.distribution)]
    return tuple(sorted(rated_only, key=lambda one: -(one.severity or 0.0)))


def _agreement(groups: Grouped) -> Agreement:
    evaluated = [rating_matrix(rows) for rows in groups.evaluated.values()]
    anchors = [rating_matrix(rows) for rows in groups.calibration.values() if rows]
    kappas = pairwise_kappas((one.raters, one.values) for one in evaluated)
    return Agreement(
        alpha=krippendorff_alpha(_side_by_side(evaluated)),
        alpha_calibration=krippendorff_alpha(_side_by_side(anchors)),
        weighted_kappa=_weighted(list(kappas.values())),
        pairs=len(kappas),
    )


def _side_by_side(matrices: Sequence[RatingMatrix]) -> Floats:
    """All items as columns; who rated does not matter to alpha, so rows are only filled up."""
    height = max((len(one.values) for one in matrices), default=0)
    padded = [
        np.vstack([one.values, np.full((height - len(one.values), len(one.items)), np.nan)])
        for one in matrices
    ]
    return np.hstack(padded) if padded else np.empty((0, 0))


def _flagged(findings: Sequence[FindingRecord]) -> dict[str, set[str]]:
    flags: defaultdict[str, set[str]] = defaultdict(set)
    for one in findings:
        if one.rater and one.code in ("X06", "X12"):
            flags[one.rater].add(one.code)
    return dict(flags)


def _new_counts(findings: Sequence[FindingRecord]) -> dict[str, int]:
    number = sum(one.code == "X13" for one in findings)
    return {"X13": number} if number else {}


def _notes(
    directions: Sequence[DirectionScore], validated: Validated, settings: ScoreSettings
) -> list[str]:
    withheld = [one for one in directions if one.withheld]
    notes = [
        f"Scores are means over items of the {settings.median} over raters; intervals resample "
        "items and raters."
    ]
    if len(withheld) < len(directions):
        notes.append(
            f"Calibrated scores are by the method {settings.method!r}; the sensitivity table has "
            "all methods. 'moderated' has the paper's properties and is not its formula."
        )
    if withheld:
        notes.append(
            f"{len(withheld)} of {len(directions)} scores are not calibrated: they must not be "
            "compared with those of other raters."
        )
    if validated.blind:
        notes.append("A wide file does not say who rated: no calibration by rater, no rater table.")
    unranked = sum(not one.ranking_allowed for one in directions)
    if unranked:
        notes.append(f"{unranked} of {len(directions)} scores are too uncertain to rank by.")
    return notes


def _unused_columns(files: Sequence[RatingsFile]) -> list[FindingRecord]:
    return [
        FindingRecord(
            code="X01", severity="warn", file=one.source.name, line=1, rater=None,
            message=f"columns not read: {', '.join(one.unused)}",
            mend="Name them with --columns field=Column if they matter.",
        )
        for one in files
        if one.unused
    ]  # fmt: skip


def _distribution(rows: Sequence[Rating]) -> Five:
    counts = Counter(row.score for row in rows)
    return (counts[1], counts[2], counts[3], counts[4], counts[5])


def _shape(distribution: Five, incoherent: float) -> str:
    """The three shapes of the paper, by which a mean can mislead."""
    total = sum(distribution) or 1
    shares = [count / total for count in distribution]
    if shares[4] >= 0.5:
        return "high"
    if shares[0] >= 0.3 and incoherent >= 0.1:
        return "low"
    return "flat" if max(shares) - min(shares) <= 0.2 else "middle"


def _share(medians: Floats, least: float) -> Estimate:
    rated = medians[~np.isnan(medians)]
    one = proportion(int((rated >= least).sum()), len(rated))
    return Estimate(value=one.share or 0.0, low=one.low, high=one.high)


def _weighted(pairs: Sequence[tuple[float, int]]) -> float | None:
    weight = sum(number for _, number in pairs)
    return sum(value * number for value, number in pairs) / weight if weight else None
