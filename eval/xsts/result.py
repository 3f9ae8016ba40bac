"""The result file of `eval xsts score`, `xsts.json`, which the report and other programs read.

The file is one `XstsResult`, each field under its name; a tuple is a list, an absent number is
null. `schema` changes whenever a field changes its meaning or goes; new fields do not change it.
"""

from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nllb.errors import DataError
from nllb.io.records import to_record
from nllb.io.text import read_json, write_json

SCHEMA = "nllb-xsts/1"
FILE_NAME = "xsts.json"
METHODS = ("none", "linear", "alpha", "clip", "moderated", "rater", "ordinal")
"""The calibrations, in the order in which tables show them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    """The number itself."""
    low: float | None = None
    """Lower end, or null where there were too few items or raters to say."""
    high: float | None = None
    """Upper end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file that ratings were read from."""

    name: str
    """Name without its folder."""
    sha256: str
    """SHA-256 of its bytes."""
    rows: int
    """Rows read from it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingRecord:
    """One thing that the checks found."""

    code: str
    """Code of the check, X01 to X18."""
    severity: str
    """`refuse` (the file), `quarantine` (the row), `withhold` (the claim) or `warn`."""
    file: str
    """Name of the file; empty where the finding is about a study."""
    line: int | None
    """Line (or spreadsheet row) in it, counted from 1 with the header."""
    rater: str | None
    """Pseudonym of the rater, where it is about one."""
    message: str
    """What is wrong, and what the file has."""
    mend: str
    """What to do about it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """What the checks did to the input."""

    rows: int
    """Rows read, those that were set aside while reading included."""
    kept: int
    """Ratings that the scores rest on, training and attention rows included."""
    quarantined: dict[str, int]
    """Rows set aside, by code."""
    counts: dict[str, int]
    """Findings by code, all of them."""
    findings: tuple[FindingRecord, ...]
    """The findings, at most 100 of each code."""
    blank: int = 0
    """Rows whose score is still blank; the scores are interim results while there are any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How the calibrated scores were made."""

    method: str
    """The one that the tables show as calibrated; all others are in `sensitivity`."""
    centre: float
    """What the calibration items are taken to be worth."""
    centre_kind: str
    """`fixed` (3, as the paper takes it for one study) or `study mean`."""
    parameters: dict[str, float]
    """Strength, limit, tau and rho, by method parameter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectionScore:
    """One system in one direction in one study."""

    study: str
    """Name of the study; empty where the file has none."""
    system: str
    """Name of the system; empty where the file has none."""
    source: str
    """FLORES-200 code."""
    target: str
    """FLORES-200 code."""
    items: int
    """Items rated."""
    raters: int
    """Raters who took part."""
    ratings: int
    """Ratings behind the score."""
    score: Estimate
    """Uncalibrated: mean over items of the median over raters; bootstrap over items and raters."""
    item_interval: tuple[float, float] | None
    """The narrower interval that resamples items only: for the same raters again."""
    calibration_items: int
    """Calibration items that the same raters rated."""
    calibration_score: Estimate | None
    """C: mean of the medians on the calibration items, or null where withheld."""
    withheld: str | None
    """Why there is no calibrated score, or null."""
    calibrated: dict[str, Estimate]
    """By method; empty where withheld (`none` is `score`)."""
    share_3: Estimate
    """Share of items with a median of 3 or more; Wilson interval."""
    share_4: Estimate
    """Share of items with a median of 4 or more."""
    distribution: tuple[int, int, int, int, int]
    """How many ratings were 1, 2, 3, 4, 5."""
    calibration_distribution: tuple[int, int, int, int, int]
    """The same on the calibration items."""
    shape: str
    """`high` (most at 5), `flat`, `low` (many at 1, many incoherent) or `middle`."""
    source_incoherent: float
    """Share of ratings with the source flagged incoherent."""
    target_incoherent: float
    """Share of ratings with the translation flagged incoherent."""
    alpha: float | None
    """Krippendorff's alpha (ordinal) of the raw ratings."""
    alpha_calibration: float | None
    """The same on the calibration items."""
    ranking_allowed: bool
    """False where items differ between systems or are too few to rank by (X07, X13)."""
    automatic: dict[str, float]
    """Automatic scores on exactly the items rated, by metric name (`chrF++`, `spBLEU`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterScore:
    """One rater, under a pseudonym."""

    rater: str
    """Pseudonym."""
    ratings: int
    """Ratings given, calibration items included."""
    directions: tuple[str, ...]
    """`SOURCE-TARGET` of what was rated."""
    mean: float
    """Mean of the ratings of translations."""
    severity: float | None
    """How far below the other raters of the same items on average; positive is severe."""
    calibration_mean: float | None
    """Mean on the calibration items."""
    calibration_spearman: float | None
    """Rank correlation with the strata of the calibration items."""
    weighted_kappa: float | None
    """Mean quadratic-weighted kappa with the other raters of the same items."""
    repeated: int
    """Items rated twice."""
    self_agreement: float | None
    """Share of these with the same score both times."""
    distribution: tuple[int, int, int, int, int]
    """How many 1, 2, 3, 4, 5 were given."""
    flags: tuple[str, ...]
    """Codes of the findings about this rater."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far raters agree, over everything."""

    alpha: float | None
    """Krippendorff's alpha (ordinal) on the raw ratings of translations."""
    alpha_calibration: float | None
    """The same on the calibration items."""
    weighted_kappa: float | None
    """Mean quadratic-weighted kappa over pairs of raters, weighted by common items."""
    pairs: int
    """Pairs of raters with at least two common items."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """What one way of calibrating does to the result."""

    method: str
    """One of METHODS, or `without flagged raters`."""
    directions: int
    """Directions that it could be computed for."""
    mean: float
    """Mean score over them."""
    mean_shift: float
    """Mean difference from the uncalibrated score."""
    largest_shift: float
    """Largest difference from it, with its sign."""
    rank_correlation: float | None
    """Spearman with the uncalibrated order."""
    correlations: dict[str, float]
    """Spearman with each automatic metric over the directions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """Automatic against human scores over directions."""

    metric: str
    """Name of the automatic metric."""
    method: str
    """Calibration of the human side."""
    spearman: Estimate
    """Rank correlation; bootstrap over directions."""
    directions: int
    """How many directions it rests on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemDifference:
    """Two systems of one direction, compared on the items that both have."""

    study: str
    """Name of the study; empty where the file has none."""
    source: str
    """FLORES-200 code."""
    target: str
    """FLORES-200 code."""
    first: str
    """Name of the first system."""
    second: str
    """Name of the second system."""
    items: int
    """Items rated under both."""
    raters: int
    """Raters of these items."""
    difference: Estimate
    """Score of the second minus score of the first; bootstrap over items and raters."""
    p_value: float
    """Two-sided p-value of a paired randomisation test over the items."""
    q_value: float
    """Benjamini-Hochberg over all pairs of systems of the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class XstsResult:
    """A whole human evaluation."""

    schema: str = SCHEMA
    """Name and version of this form."""
    files: tuple[SourceFile, ...]
    """Where the ratings came from."""
    settings: dict[str, Any]
    """Median kind, least raters, seed, resamples, package version."""
    validation: Validation
    """What the checks found."""
    calibration: Calibration
    """How scores were calibrated."""
    directions: tuple[DirectionScore, ...]
    """Scores, best calibrated first."""
    raters: tuple[RaterScore, ...]
    """Raters, most severe first; empty where the files name no raters."""
    agreement: Agreement
    """Agreement over all."""
    sensitivity: tuple[Sensitivity, ...]
    """Every method side by side: the choice is never hidden."""
    correlations: tuple[Correlation, ...]
    """Against automatic scores, where these were given."""
    notes: tuple[str, ...]
    """What a reader must know, in sentences."""
    differences: tuple[SystemDifference, ...] = ()
    """Pairs of systems that were rated in the same direction."""
    interim: bool = False
    """Whether ratings are still missing."""


def write_result(result: XstsResult, directory: Path) -> Path:
    """Write a result into a directory and return the file's path."""
    path = directory / FILE_NAME
    write_json(path, asdict(result))
    return path


def read_result(path: Path) -> dict[str, Any]:
    """Read a result back as plain values, from a file or the directory that holds it.

    Raises:
        DataError: where it is another form, or lacks a part.
    """
    path = path / FILE_NAME if path.is_dir() else path
    value = read_json(path)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        got = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise DataError(
            f"{path}: schema is {repr(got)[:60]}, this version reads {SCHEMA!r}; score again"
        )
    missing = [
        field.name
        for field in fields(XstsResult)
        if field.default is MISSING and field.name not in value
    ]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing; the file was cut or edited")
    to_record(XstsResult, value, path)
    return value
