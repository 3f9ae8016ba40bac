"""Runs all checks on ratings files, for `eval xsts check` and for scoring."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nllb.errors import ConfigError, DataError

from .calibration import CalibrationSettings, Method
from .ingestion import RatingsFile
from .readers.raw_table import Scale
from .result import FindingRecord, Validation
from .row_checks import parse_rows
from .scores import MedianKind
from .study_checks import Checked, DetectLanguage, References, check_study

MAX_FINDINGS_PER_CODE = 100
"""Maximum number of findings of a code that are kept; findings that reject a file are all kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSettings:
    """How to read and score ratings."""

    median: MedianKind = "median"
    """Median of an even number of raters: the middle (x.5) or the lower value."""
    min_raters: int = 3
    """Required number of raters per item."""
    method: Method = "linear"
    """Calibration method of the calibrated scores in the tables."""
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    """Parameters of the methods."""
    ordinal: bool = True
    """Whether to fit the ordinal model, which is the slowest step on large studies."""
    fit_strength: bool = False
    """Whether to fit the strength of `alpha` to the automatic scores, leaving one direction out."""
    calibration_size: int | None = None
    """Number of items in the full calibration set; None takes those of the study."""
    intersect: bool = False
    """Whether to score only items that all systems of a direction have."""
    resamples: int = 1000
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the bootstrap."""
    keep_rater_ids: bool = False
    """Whether to show the raters' ids of the files instead of pseudonyms."""
    merge_raters: bool = False
    """Whether to join rater ids that differ only in case or spacing."""

    def __post_init__(self) -> None:
        if self.method == "ordinal" and not self.ordinal:
            raise ConfigError("the method 'ordinal' requires the ordinal model to be fitted")
        if self.min_raters < 1 or self.resamples < 2:
            raise ConfigError(
                f"min_raters is {self.min_raters} and must be 1 or more; resamples is "
                f"{self.resamples} and must be 2 or more"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Validated:
    """Files after all checks."""

    checked: Checked
    """Usable ratings and findings about the study."""
    validation: Validation
    """Record of the checks in the result."""
    refused: tuple[FindingRecord, ...]
    """Findings that reject a file; if there are any, nothing is scored."""
    has_unknown_raters: bool
    """Whether some raters cannot be distinguished (wide files)."""
    scale: Scale = "xsts"
    """Scale of all files."""


def validate(
    files: Sequence[RatingsFile],
    settings: ScoreSettings,
    *,
    references: References | None = None,
    detect: DetectLanguage | None = None,
    calibration_set: Mapping[str, tuple[str, str]] | None = None,
) -> Validated:
    """Run all checks on files.

    Raises:
        DataError: if the files have scores of different scales.
    """
    scale = common_scale(files)
    rows = [row for one in files for row in one.rows]
    set_aside = sum(one.set_aside for one in files)
    parsed = parse_rows(
        rows,
        scale=scale,
        keep_rater_ids=settings.keep_rater_ids,
        merge_raters=settings.merge_raters,
    )
    checked = check_study(
        parsed.ratings,
        min_raters=settings.min_raters,
        intersect=settings.intersect,
        references=references,
        detect=detect,
        calibration_size=settings.calibration_size,
        calibration_set=calibration_set,
        scale=scale,
    )
    findings = [found for one in files for found in one.findings]
    findings += [*parsed.findings, *checked.findings]
    findings.sort(key=lambda one: (one.code, one.file, one.line or 0))
    quarantined = parsed.quarantined + checked.quarantined
    if set_aside:
        quarantined["X01"] += set_aside
    return Validated(
        checked=checked,
        validation=Validation(
            rows=len(rows) + set_aside,
            kept=len(checked.ratings),
            quarantined=dict(sorted(quarantined.items())),
            counts=dict(sorted(Counter(one.code for one in findings).items())),
            findings=tuple(_limited(findings)),
            blank=parsed.blank,
        ),
        refused=tuple(one for one in findings if one.severity == "refuse"),
        has_unknown_raters=any(one.preset == "wide" for one in files),
        scale=scale,
    )


def common_scale(files: Sequence[RatingsFile]) -> Scale:
    """Return the scale of all files.

    Raises:
        DataError: if they differ: such scores must not be averaged.
    """
    scales = {one.scale: one.source.name for one in files}
    if len(scales) > 1:
        named = ", ".join(f"{name} is {scale}" for scale, name in scales.items())
        raise DataError(
            f"files with scores of different scales cannot be read together: {named}; read them in "
            f"separate runs, or give --scale"
        )
    return next(iter(scales), "xsts")


def as_line(one: FindingRecord) -> str:
    """Return a finding as one line: place, rater, problem and advice."""
    place = (
        "" if not one.file else f"{one.file}: " if one.line is None else f"{one.file}:{one.line}: "
    )
    rater = f"[{one.rater}] " if one.rater and one.rater not in one.message else ""
    return f"{one.code} {one.severity}: {place}{rater}{one.message}. {one.mend}"


def check_summary(validated: Validated, *, num_unread: int = 0) -> str:
    """Return the outcome of all checks in one line."""
    severities = Counter(one.severity for one in validated.validation.findings)
    listed = ", ".join(f"{number} {severity}" for severity, number in sorted(severities.items()))
    unread = f"; files that cannot be read: {num_unread}" if num_unread else ""
    return (
        f"{validated.validation.kept} of {validated.validation.rows} ratings usable; findings: "
        f"{listed or 'none'}{unread}"
    )


def _limited(findings: Sequence[FindingRecord]) -> list[FindingRecord]:
    seen: Counter[str] = Counter()
    kept = []
    for one in findings:
        seen[one.code] += 1
        if seen[one.code] <= MAX_FINDINGS_PER_CODE or one.severity == "refuse":
            kept.append(one)
    return kept
