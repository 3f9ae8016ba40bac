"""A whole human evaluation: files in, checks, scores, calibration, agreement, one result out."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eval.metrics.proportions import proportion
from eval.xsts.agreement import krippendorff_alpha
from eval.xsts.calibration import CalibrationSettings, Method, best_strength
from eval.xsts.ingestion import RatingsFile
from eval.xsts.ordinal import fit_ordinal
from eval.xsts.rater_scores import Five, agreement_of, distribution_of, score_raters
from eval.xsts.ratings import (
    Direction,
    Floats,
    Grouped,
    Rating,
    RatingMatrix,
    group,
    rating_matrix,
)
from eval.xsts.result import (
    Calibration,
    DirectionScore,
    Estimate,
    FindingRecord,
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
from eval.xsts.sensitivity import compare_methods, shown
from eval.xsts.study_checks import Checked, DetectLanguage, References, check_study
from nllb import __version__
from nllb.errors import ConfigError, DataError

MOST_HALF_WIDTH = 0.25
"""Half-width of the interval over items above which systems are not ranked."""
LEAST_TO_FIT = 4
"""Directions needed to fit the strength of `alpha`."""
_MOST_FINDINGS = 100
_MOST_TOLD = 20

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
    ordinal: bool = True
    """Whether to fit the ordinal model, which takes longest on large studies."""
    fit_strength: bool = False
    """Whether to fit the strength of `alpha` to the automatic scores, leaving one out."""
    calibration_size: int | None = None
    """Items of the full calibration set; None takes what the study has."""
    intersect: bool = False
    """Whether to score only items that all systems of a direction have."""
    resamples: int = 1000
    """Bootstrap resamples."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        if self.method == "ordinal" and not self.ordinal:
            raise ConfigError("the method 'ordinal' is shown only where the model is fitted")
        if self.min_raters < 1 or self.resamples < 2:
            raise ConfigError(
                f"min_raters {self.min_raters} must be 1 or more, resamples {self.resamples} 2"
            )


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
    calibration_set: Mapping[str, tuple[str, str]] | None = None,
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
        calibration_set=calibration_set,
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
    calibration_set: Mapping[str, tuple[str, str]] | None = None,
) -> XstsResult:
    """Score files.

    Args:
        files: ratings that were read.
        settings: how to score.
        references: lines of the test set with their references; checks X10 and `automatic` need it.
        detect: names the language of texts.
        automatic: scores the rated translations by machine, on exactly the items rated.
        calibration_set: item -> its two texts, where the set itself is at hand.

    Raises:
        DataError: where a check refuses a file; the message lists every such finding.
    """
    validated = validate(
        files, settings, references=references, detect=detect, calibration_set=calibration_set
    )
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
    findings = list(validated.validation.findings)
    ordinal: dict[tuple[Direction, str], Estimate] = {}
    notes: list[str] = []
    if settings.ordinal and anchors and not validated.blind:
        try:
            ordinal = _ordinal(groups, anchors, centre=centre)
        except DataError as error:
            if settings.method == "ordinal":
                raise
            notes.append(str(error))
    directions = []
    for key, rows in groups.evaluated.items():
        one = _direction_score(
            key, rows, scored[key], groups=groups, checked=checked, settings=settings,
            centre=centre, blind=validated.blind, automatic=automatic_of[key],
        )  # fmt: skip
        if key in ordinal:
            one = replace(one, calibrated=one.calibrated | {"ordinal": ordinal[key]})
        # Systems of a direction share their raters: what ranks them is the spread over items.
        low, high = one.item_interval or (0.0, 0.0)
        half_width = (high - low) / 2
        if half_width > MOST_HALF_WIDTH:
            one = replace(one, ranking_allowed=False)
            text = f"{key[0]} {key[1]}".strip() + f": half-width {half_width:.2f}"
            findings.append(finding("X13", f"{text} is above {MOST_HALF_WIDTH}", at=rows[0]))
        directions.append(one)
    directions.sort(
        key=lambda one: (
            not one.calibrated, -shown(one, settings.method), one.study, one.source, one.target
        )
    )  # fmt: skip
    flagged = _flagged(findings)
    sensitivity, correlations = compare_methods(
        directions,
        groups,
        flagged,
        median=settings.median,
        resamples=settings.resamples,
        seed=settings.seed,
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
        raters=() if validated.blind else score_raters(
            groups, checked.ratings, checked.repeated, flagged=flagged
        ),
        agreement=agreement_of(groups),
        sensitivity=sensitivity,
        correlations=correlations,
        notes=(*_notes(directions, validated, settings), *notes),
    )  # fmt: skip


def tell(one: FindingRecord) -> str:
    """Return a finding as one line: place, rater, what was wrong, how to mend it."""
    place = f"{one.file}:{one.line}: " if one.file else ""
    rater = f"[{one.rater}] " if one.rater and one.rater not in one.message else ""
    return f"{one.code} {one.severity}: {place}{rater}{one.message}. {one.mend}"


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
    automatic: dict[str, float],
) -> DirectionScore:
    direction, system = key
    matrix = rating_matrix(rows)
    medians = item_medians(matrix.values, kind=settings.median)
    calibration = groups.calibration[direction]
    anchors = rating_matrix(calibration) if calibration else None
    calibrated = calibrated_estimates(scored, centre=centre, settings=settings.calibration)
    if blind:
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
        withheld=checked.withheld.get(direction),
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
        ranking_allowed=direction not in checked.unrankable,
        automatic=automatic,
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
    """Fit against chrF++ (or the first metric there is) over the calibrated directions."""
    metrics = sorted({name for scores in automatic_of.values() for name in scores})
    metric = "chrF++" if "chrF++" in metrics else next(iter(metrics), "")
    usable = [
        (one.score, one.calibration_score, automatic_of[key][metric])
        for key, one in scored.items()
        if one.calibration_score is not None and metric in automatic_of[key]
    ]
    if len(usable) < LEAST_TO_FIT:
        raise DataError(
            f"the strength of 'alpha' can be fitted to {len(usable)} directions with automatic "
            f"scores and calibration; it needs {LEAST_TO_FIT} (give --flores, or do not fit)"
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
