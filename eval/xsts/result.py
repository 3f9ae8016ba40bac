"""The result file of `eval xsts score`, `xsts.json`, which the report and other programs read.

The file is one `XstsResult` with each field under its name; tuples are stored as lists and absent
numbers as null. `schema` changes when a field is removed or changes its meaning; new fields do not
change it.
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
    """Lower end; null if there were too few items or raters."""
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
    """One finding of the checks."""

    code: str
    """Code of the check, X01 to X18."""
    severity: str
    """`refuse` (the file), `quarantine` (the row), `withhold` (the claim) or `warn`."""
    file: str
    """Name of the file; empty if the finding is about a study."""
    line: int | None
    """Line (or spreadsheet row) in it, counted from 1 with the header."""
    rater: str | None
    """Pseudonym of the rater, if the finding is about a rater."""
    message: str
    """The problem, and the content of the file."""
    mend: str
    """Advice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """Effects of the checks on the input."""

    rows: int
    """Number of rows that were read, including those set aside while reading."""
    kept: int
    """Number of ratings on which the scores are based, including training and attention rows."""
    quarantined: dict[str, int]
    """Rows set aside, by code."""
    counts: dict[str, int]
    """Number of findings by code."""
    findings: tuple[FindingRecord, ...]
    """The findings, at most 100 of each code."""
    blank: int = 0
    """Number of rows with a blank score; if there are any, the scores are interim results."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How the calibrated scores were made."""

    method: str
    """Method of the calibrated scores in the tables; `sensitivity` has all methods."""
    centre: float
    """Expected score of the calibration items."""
    centre_kind: str
    """`fixed` (3, as in the paper for one study) or `study mean`."""
    parameters: dict[str, float]
    """Strength, limit, tau and rho, by method parameter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DirectionScore:
    """One system in one direction in one study."""

    study: str
    """Name of the study; empty if the file does not give it."""
    system: str
    """Name of the system; empty if the file does not give it."""
    source: str
    """FLORES-200 code."""
    target: str
    """FLORES-200 code."""
    items: int
    """Items rated."""
    raters: int
    """Number of raters."""
    ratings: int
    """Number of ratings."""
    score: Estimate
    """Uncalibrated: mean over items of the median over raters; bootstrap over items and raters."""
    item_interval: tuple[float, float] | None
    """The narrower interval that resamples only items, as if the same raters rated again."""
    calibration_items: int
    """Calibration items that the same raters rated."""
    calibration_score: Estimate | None
    """C: mean of the medians on the calibration items; null if withheld."""
    withheld: str | None
    """Why the calibrated score is missing, or null."""
    calibrated: dict[str, Estimate]
    """Calibrated scores by method; empty if withheld (`none` is `score`)."""
    share_3: Estimate
    """Share of items with a median of 3 or more; Wilson interval."""
    share_4: Estimate
    """Share of items with a median of 4 or more."""
    distribution: tuple[int, int, int, int, int]
    """Numbers of ratings of 1, 2, 3, 4 and 5."""
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
    """False if items differ between systems or are too few for a ranking (X07, X13)."""
    automatic: dict[str, float]
    """Automatic scores of the rated items, by metric name (`chrF++`, `spBLEU`)."""


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
    """Numbers of ratings of 1, 2, 3, 4 and 5."""
    flags: tuple[str, ...]
    """Codes of the findings about this rater."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Agreement of the raters over all directions."""

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
    """Effect of one calibration method on the result."""

    method: str
    """One of METHODS, or `without flagged raters`."""
    directions: int
    """Number of directions for which it could be computed."""
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
    """Number of directions on which it is based."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemDifference:
    """Two systems of one direction, compared on the items that both have."""

    study: str
    """Name of the study; empty if the file does not give it."""
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
    """A complete human evaluation."""

    schema: str = SCHEMA
    """Name and version of this format."""
    files: tuple[SourceFile, ...]
    """Files with the ratings."""
    settings: dict[str, Any]
    """Kind of median, minimum number of raters, seed, resamples, package version."""
    validation: Validation
    """Results of the checks."""
    calibration: Calibration
    """Calibration of the scores."""
    directions: tuple[DirectionScore, ...]
    """Scores, best calibrated first."""
    raters: tuple[RaterScore, ...]
    """Raters, most severe first; empty if the files do not identify raters."""
    agreement: Agreement
    """Agreement over all directions."""
    sensitivity: tuple[Sensitivity, ...]
    """All calibration methods side by side."""
    correlations: tuple[Correlation, ...]
    """Correlation with automatic scores, if these were given."""
    notes: tuple[str, ...]
    """Warnings, as sentences."""
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
    """Read a result back as plain values, from a file or its directory.

    Raises:
        DataError: if it has another format, or a part is missing.
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
