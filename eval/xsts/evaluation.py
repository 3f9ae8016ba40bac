"""A complete human evaluation: checks, scores and calibration of ratings files."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from eval.metrics.proportions import proportion
from nllb import __version__
from nllb.errors import DataError

from .agreement import krippendorff_alpha
from .calibration import best_strength
from .differences import compare_systems
from .findings import finding
from .ingestion import RatingsFile
from .ordinal import fit_ordinal
from .rater_scores import Five, agreement_of, distribution_of, score_raters
from .ratings import (
    Direction,
    Floats,
    Grouped,
    Rating,
    RatingMatrix,
    group,
    rating_matrix,
)
from .result import (
    Calibration,
    DirectionScore,
    Estimate,
    FindingRecord,
    XstsResult,
)
from .scores import (
    Scored,
    calibrated_estimates,
    estimate,
    item_medians,
    score_direction,
)
from .sensitivity import compare_methods, shown
from .study_checks import Checked, DetectLanguage, References
from .validation import ScoreSettings, Validated, as_line, validate

MAX_HALF_WIDTH = 0.25
"""Half-width of the interval over items above which systems are not ranked."""
MIN_DIRECTIONS_TO_FIT = 4
"""Minimum number of directions for fitting the strength of `alpha`."""
MAX_REFUSALS_SHOWN = 20

AutomaticScorer = Callable[[Direction, Sequence[str], Sequence[str]], dict[str, float]]
"""(direction, hypotheses, references) -> score by metric name, over these lines."""


def evaluate(
    files: Sequence[RatingsFile],
    settings: ScoreSettings,
    *,
    references: References | None = None,
    detect: DetectLanguage | None = None,
    automatic: AutomaticScorer | None = None,
    calibration_set: Mapping[str, tuple[str, str]] | None = None,
) -> XstsResult:
    """Score files.

    Args:
        files: ratings that were read.
        settings: how to score.
        references: lines of the test set with their references; checks X10 and `automatic` need it.
        detect: identifies the language of texts.
        automatic: computes automatic scores of the rated translations.
        calibration_set: item -> its two texts, if the set is available.

    Raises:
        DataError: if a check rejects a file; the message lists all such findings.
    """
    validated = validate(
        files, settings, references=references, detect=detect, calibration_set=calibration_set
    )
    if validated.scale != "xsts":
        raise DataError(
            f"the scores are {validated.scale.upper()}, not XSTS: score them with "
            "eval.xsts.other_scales"
        )
    _refuse(validated)
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
            strata={row.item: row.stratum for row in groups.calibration[key[0]]},
            resamples=settings.resamples,
            seed=settings.seed,
        )
        for key, rows in groups.evaluated.items()
    }
    automatic_of = {
        key: _automatic(key[0], rows, checked, automatic) if automatic is not None else {}
        for key, rows in groups.evaluated.items()
    }
    if settings.fit_strength:
        settings = _with_fitted_strength(settings, scored, automatic_of)
    ordinal, notes = _ordinal_scores(groups, anchors, validated, settings, centre=centre)
    directions = []
    uncertain = []
    for key, rows in groups.evaluated.items():
        one = _direction_score(
            key, rows, scored[key], groups=groups, validated=validated, settings=settings,
            centre=centre, automatic=automatic_of[key],
        )  # fmt: skip
        if key in ordinal:
            one = replace(one, calibrated=one.calibrated | {"ordinal": ordinal[key]})
        one, found = _without_ranking_if_uncertain(one, key, rows[0])
        directions.append(one)
        uncertain += found
    directions.sort(
        key=lambda one: (
            not one.calibrated, -shown(one, settings.method), one.study, one.source, one.target
        )
    )  # fmt: skip
    findings = [*validated.validation.findings, *uncertain]
    flagged = _flagged(findings)
    sensitivity, correlations = compare_methods(
        directions,
        groups,
        flagged,
        median=settings.median,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    counts = Counter(validated.validation.counts)
    counts.update(one.code for one in uncertain)
    return XstsResult(
        files=tuple(one.source for one in files),
        settings={
            "median": settings.median, "min_raters": settings.min_raters,
            "intersect": settings.intersect, "resamples": settings.resamples,
            "seed": settings.seed, "nllb": __version__,
        },
        validation=replace(
            validated.validation, findings=tuple(findings), counts=dict(sorted(counts.items()))
        ),
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
        raters=() if validated.has_unknown_raters else score_raters(
            groups, checked.ratings, checked.repeated, flagged=flagged
        ),
        agreement=agreement_of(groups),
        sensitivity=sensitivity,
        correlations=correlations,
        notes=(*_notes(directions, validated, settings), *notes),
        differences=compare_systems(
            groups, median=settings.median, resamples=settings.resamples, seed=settings.seed
        ),
        interim=validated.validation.blank > 0,
    )  # fmt: skip


def _refuse(validated: Validated) -> None:
    """Raise a DataError with all findings that reject a file, if there are any."""
    if not validated.refused:
        return
    listed = "\n".join(f"  {as_line(one)}" for one in validated.refused[:MAX_REFUSALS_SHOWN])
    more = len(validated.refused) - MAX_REFUSALS_SHOWN
    raise DataError(
        f"{len(validated.refused)} findings reject these ratings:\n{listed}"
        + (f"\n  and {more} more" if more > 0 else "")
    )


def _ordinal_scores(
    groups: Grouped,
    anchors: Mapping[Direction, RatingMatrix],
    validated: Validated,
    settings: ScoreSettings,
    *,
    centre: float,
) -> tuple[dict[tuple[Direction, str], Estimate], list[str]]:
    """Return the scores of the ordinal model, or notes on why they are missing."""
    if not settings.ordinal or not anchors or validated.has_unknown_raters:
        return {}, []
    try:
        return _ordinal(groups, anchors, centre=centre), []
    except DataError as error:
        if settings.method == "ordinal":
            raise
        return {}, [str(error)]


def _without_ranking_if_uncertain(
    one: DirectionScore, key: tuple[Direction, str], at: Rating
) -> tuple[DirectionScore, list[FindingRecord]]:
    """Withhold the ranking (X13) if the interval over items is wide.

    Systems of a direction share their raters, so that only the spread over items matters.
    """
    low, high = one.item_interval or (0.0, 0.0)
    half_width = (high - low) / 2
    if half_width <= MAX_HALF_WIDTH:
        return one, []
    text = f"{key[0]} {key[1]}".strip() + f": half-width {half_width:.2f} is above {MAX_HALF_WIDTH}"
    return replace(one, ranking_allowed=False), [finding("X13", text, at=at)]


def _direction_score(
    key: tuple[Direction, str],
    rows: Sequence[Rating],
    scored: Scored,
    *,
    groups: Grouped,
    validated: Validated,
    settings: ScoreSettings,
    centre: float,
    automatic: dict[str, float],
) -> DirectionScore:
    direction, system = key
    matrix = rating_matrix(rows)
    medians = item_medians(matrix.values, kind=settings.median)
    calibration = groups.calibration[direction]
    anchors = rating_matrix(calibration) if calibration else None
    calibrated = calibrated_estimates(scored, centre=centre, settings=settings.calibration)
    if validated.has_unknown_raters:
        calibrated.pop("rater", None)
    distribution = distribution_of(rows)
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
        withheld=validated.checked.withheld.get(direction),
        calibrated=calibrated,
        share_3=_share(medians, 3),
        share_4=_share(medians, 4),
        distribution=distribution,
        calibration_distribution=distribution_of(calibration),
        shape=_shape(distribution, incoherent[1]),
        source_incoherent=incoherent[0],
        target_incoherent=incoherent[1],
        alpha=krippendorff_alpha(matrix.values),
        alpha_calibration=krippendorff_alpha(anchors.values) if anchors else None,
        ranking_allowed=direction not in validated.checked.unrankable,
        automatic=automatic,
    )  # fmt: skip


def _automatic(
    direction: Direction, rows: Sequence[Rating], checked: Checked, scorer: AutomaticScorer
) -> dict[str, float]:
    """Return automatic scores of the rated items with a known reference."""
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


def _ordinal(
    groups: Grouped, anchors: Mapping[Direction, RatingMatrix], *, centre: float
) -> dict[tuple[Direction, str], Estimate]:
    """Fit the ordinal model to the directions that have calibration ratings."""
    keys = {f"{number}": key for number, key in enumerate(groups.evaluated) if key[0] in anchors}
    of_stratum: defaultdict[int, dict[tuple[str, int], Rating]] = defaultdict(dict)
    for direction in anchors:
        for rating in groups.calibration[direction]:
            of_stratum[rating.stratum or 0][rating.file, rating.line] = rating
    fit = fit_ordinal(
        {name: rating_matrix(groups.evaluated[key]) for name, key in keys.items()},
        {step: rating_matrix(list(of_stratum[step].values())) for step in sorted(of_stratum)},
        centre=centre,
    )
    return {keys[name]: one for name, one in fit.scores.items()}


def _with_fitted_strength(
    settings: ScoreSettings,
    scored: Mapping[tuple[Direction, str], Scored],
    automatic_of: Mapping[tuple[Direction, str], dict[str, float]],
) -> ScoreSettings:
    """Fit against chrF++ (or else the first metric) over the calibrated directions."""
    metrics = sorted({name for scores in automatic_of.values() for name in scores})
    metric = "chrF++" if "chrF++" in metrics else next(iter(metrics), "")
    usable = [
        (one.score, one.calibration_score, automatic_of[key][metric])
        for key, one in scored.items()
        if one.calibration_score is not None and metric in automatic_of[key]
    ]
    if len(usable) < MIN_DIRECTIONS_TO_FIT:
        raise DataError(
            f"fitting the strength of 'alpha' needs {MIN_DIRECTIONS_TO_FIT} directions with "
            f"automatic scores and calibration, there are {len(usable)}; give --flores or do not "
            f"fit"
        )
    strength = best_strength(*np.array(usable).T)
    return replace(settings, calibration=replace(settings.calibration, strength=strength))


def _centre(anchors: dict[Direction, RatingMatrix], settings: ScoreSettings) -> float:
    if settings.calibration.centre is not None or not anchors:
        return 3.0 if settings.calibration.centre is None else settings.calibration.centre
    scores = [np.nanmean(item_medians(one.values, kind=settings.median))
              for one in anchors.values()]  # fmt: skip
    return float(np.mean(scores))


def _flagged(findings: Sequence[FindingRecord]) -> dict[str, set[str]]:
    flags: defaultdict[str, set[str]] = defaultdict(set)
    for one in findings:
        if one.rater and one.code in ("X06", "X12"):
            flags[one.rater].add(one.code)
    return dict(flags)


def _notes(
    directions: Sequence[DirectionScore], validated: Validated, settings: ScoreSettings
) -> list[str]:
    withheld = [one for one in directions if one.withheld]
    notes = []
    if validated.validation.blank:
        notes.append(
            f"Interim results: {validated.validation.blank:,} of {validated.validation.rows:,} "
            "ratings are still blank; the scores will change."
        )
    notes.append(
        f"Scores are means over items of the {settings.median} over raters; intervals resample "
        "items and raters."
    )
    if len(withheld) < len(directions):
        notes.append(
            f"Calibrated scores use the method {settings.method!r}; the sensitivity table has "
            "all methods. 'moderated' has the properties that the paper states; the paper's "
            "formula is not public."
        )
    if withheld:
        notes.append(
            f"{len(withheld)} of {len(directions)} scores are not calibrated: do not compare them "
            f"with the scores of other raters."
        )
    if validated.has_unknown_raters:
        notes.append(
            "A wide file does not identify the raters: there is no calibration by rater and no "
            "table of raters."
        )
    unranked = sum(not one.ranking_allowed for one in directions)
    if unranked:
        notes.append(f"{unranked} of {len(directions)} scores are too uncertain for a ranking.")
    return notes


def _shape(distribution: Five, incoherent: float) -> str:
    """Return the shape of a distribution by the paper's classes, which a mean does not show."""
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
