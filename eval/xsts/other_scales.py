"""Human scores on scales other than XSTS: ESA (0 to 100) and MQM (penalty points).

They are reported on their own scale and never converted to XSTS. The score of a system is the mean
over segments of the mean over raters, as in WMT. For ESA, the mean of z-scores, which removes the
severity and the spread of each rater, is reported as well. Intervals resample segments, and systems
of one direction are compared in pairs.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from eval.markdown import table
from eval.metrics.significance import benjamini_hochberg
from nllb.errors import DataError
from nllb.io.records import to_record
from nllb.io.text import read_json, write_json

from .differences import MIN_ITEMS, sign_flip_p_value
from .ingestion import RatingsFile
from .ratings import Direction, Floats, Rating
from .readers.raw_table import Scale
from .result import Estimate, SourceFile, SystemDifference, Validation
from .scores import estimate
from .validation import ScoreSettings, Validated

SCHEMA = "nllb-human-scores/1"
FILE_NAME = "human_scores.json"
SCALE_WORDS: dict[Scale, str] = {
    "xsts": "1 to 5, higher is better",
    "esa": "0 to 100, higher is better",
    "mqm": "penalty points per segment, lower is better",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemScore:
    """One system in one direction."""

    study: str
    """Name of the study; empty if the file does not give it."""
    source: str
    """FLORES-200 code."""
    target: str
    """FLORES-200 code."""
    system: str
    """Name of the system; empty if the file does not give it."""
    segments: int
    """Segments rated."""
    raters: int
    """Number of raters."""
    ratings: int
    """Number of ratings."""
    score: Estimate
    """Mean over segments of the mean over raters; bootstrap over segments."""
    z_score: float | None
    """The same of scores standardised per rater (ESA); null on other scales."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherScaleResult:
    """The content of `human_scores.json`."""

    schema: str = SCHEMA
    """Name and version of this format."""
    scale: Scale
    """`esa` or `mqm`."""
    files: tuple[SourceFile, ...]
    """Files with the ratings."""
    validation: Validation
    """Results of the checks."""
    systems: tuple[SystemScore, ...]
    """Scores, best first within a direction."""
    differences: tuple[SystemDifference, ...]
    """Pairs of systems of a direction on common segments."""
    attention: int
    """Number of quality-control items (BAD, REF, CHK, repeats), which no score includes."""


def score_other_scale(
    files: Sequence[RatingsFile], validated: Validated, settings: ScoreSettings
) -> OtherScaleResult:
    """Score validated ratings on their own scale.

    Raises:
        DataError: if no translation has a usable rating, or a check rejects a file.
    """
    if validated.refused:
        raise DataError("; ".join(one.message for one in validated.refused))
    ratings = [one for one in validated.checked.ratings if one.set == "eval"]
    if not ratings:
        raise DataError("no ratings of translations are usable")
    standard = _standardised(ratings) if validated.scale == "esa" else {}
    by_system: defaultdict[tuple[Direction, str], list[Rating]] = defaultdict(list)
    for one in ratings:
        by_system[one.direction, one.system].append(one)
    means = {key: _segment_means(rows) for key, rows in by_system.items()}
    sign = 1 if validated.scale == "mqm" else -1
    systems = [
        SystemScore(
            study=direction.study, source=direction.source, target=direction.target, system=system,
            segments=len(means[direction, system]), raters=len({one.rater for one in rows}),
            ratings=len(rows), score=_mean(means[direction, system], settings),
            z_score=_mean_z(rows, standard) if standard else None,
        )
        for (direction, system), rows in by_system.items()
    ]  # fmt: skip
    systems.sort(key=lambda one: (one.study, one.source, one.target, sign * one.score.value))
    return OtherScaleResult(
        scale=validated.scale,
        files=tuple(one.source for one in files),
        validation=validated.validation,
        systems=tuple(systems),
        differences=_differences(by_system, means, settings),
        attention=sum(one.set == "attention" for one in validated.checked.ratings),
    )


def write_other_scale(result: OtherScaleResult, directory: Path) -> Path:
    """Write a result into a directory and return the file's path."""
    path = directory / FILE_NAME
    write_json(path, asdict(result))
    return path


def read_other_scale(path: Path) -> dict[str, Any]:
    """Read a result back as plain values.

    Raises:
        DataError: if the file has another format.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        got = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise DataError(
            f"{path}: schema is {repr(got)[:60]}, this version reads {SCHEMA!r}; score again"
        )
    to_record(OtherScaleResult, value, path)
    return value


def as_markdown(result: OtherScaleResult) -> str:
    """Return the scores and differences as Markdown tables."""
    head = ["direction", "system", "segments", "raters", f"{result.scale.upper()}", "95 %", "z"]
    rows = [
        [
            f"{one.source}-{one.target}", one.system or "-", str(one.segments), str(one.raters),
            f"{one.score.value:.2f}", _ends(one.score),
            "-" if one.z_score is None else f"{one.z_score:+.2f}",
        ]
        for one in result.systems
    ]  # fmt: skip
    parts = [f"Scale: {result.scale.upper()}, {SCALE_WORDS[result.scale]}.", "", table(head, rows)]
    if result.differences:
        parts += ["", differences_table(result.differences)]
    if result.attention:
        parts += ["", f"{result.attention:,} quality-control items are in no score."]
    if result.validation.blank:
        parts += ["", f"Interim results: {result.validation.blank:,} ratings are still blank."]
    return "\n".join(parts)


def differences_table(differences: Sequence[SystemDifference]) -> str:
    """Return paired differences as a Markdown table."""
    head = ["direction", "from", "to", "items", "difference", "95 %", "p", "q"]
    rows = [
        [
            f"{one.source}-{one.target}", one.first or "-", one.second or "-", str(one.items),
            f"{one.difference.value:+.2f}", _ends(one.difference), f"{one.p_value:.4f}",
            f"{one.q_value:.4f}",
        ]
        for one in differences
    ]  # fmt: skip
    return table(head, rows)


def _ends(one: Estimate) -> str:
    return "-" if one.low is None else f"{one.low:.2f} to {one.high:.2f}"


def _segment_means(rows: Sequence[Rating]) -> dict[str, float]:
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for one in rows:
        scores[one.item].append(one.score)
    return {item: float(np.mean(values)) for item, values in sorted(scores.items())}


def _standardised(ratings: Sequence[Rating]) -> dict[tuple[str, int, str, str], float]:
    """Return z-scores per rater, by place and item; a rater without spread has zeros."""
    by_rater: defaultdict[str, list[Rating]] = defaultdict(list)
    for one in ratings:
        by_rater[one.rater].append(one)
    found = {}
    for rows in by_rater.values():
        values = np.array([one.score for one in rows])
        spread = float(values.std()) or 1.0
        for one, z in zip(rows, (values - values.mean()) / spread, strict=True):
            found[_place(one)] = float(z)
    return found


def _place(one: Rating) -> tuple[str, int, str, str]:
    return (one.file, one.line, one.item, one.system)


def _mean_z(rows: Sequence[Rating], standard: dict[tuple[str, int, str, str], float]) -> float:
    by_item: defaultdict[str, list[float]] = defaultdict(list)
    for one in rows:
        by_item[one.item].append(standard[_place(one)])
    return float(np.mean([np.mean(values) for values in by_item.values()]))


def _mean(means: dict[str, float], settings: ScoreSettings) -> Estimate:
    values = np.array(list(means.values()))
    return estimate(float(values.mean()), _resampled(values, settings))


def _resampled(values: Floats, settings: ScoreSettings) -> Floats:
    random = np.random.default_rng(settings.seed)
    number = len(values)
    draws = random.multinomial(number, np.full(number, 1 / number), size=settings.resamples)
    return np.asarray(draws @ values / number, dtype=np.float64)


def _differences(
    by_system: dict[tuple[Direction, str], list[Rating]],
    means: dict[tuple[Direction, str], dict[str, float]],
    settings: ScoreSettings,
) -> tuple[SystemDifference, ...]:
    found = []
    for first, second in combinations(sorted(by_system), 2):
        common = sorted(means[first].keys() & means[second].keys())
        if first[0] != second[0] or len(common) < MIN_ITEMS:
            continue
        gaps = np.array([means[second][item] - means[first][item] for item in common])
        raters = {one.rater for key in (first, second) for one in by_system[key]}
        found.append((first, second, gaps, len(raters)))
    if not found:
        return ()
    p_values = [sign_flip_p_value(gaps, seed=settings.seed) for _, _, gaps, _ in found]
    q_values = benjamini_hochberg(np.array(p_values))
    return tuple(
        SystemDifference(
            study=first[0].study, source=first[0].source, target=first[0].target, first=first[1],
            second=second[1], items=len(gaps), raters=raters,
            difference=estimate(float(gaps.mean()), _resampled(gaps, settings)),
            p_value=p, q_value=float(q),
        )
        for (first, second, gaps, raters), p, q in zip(found, p_values, q_values, strict=True)
    )  # fmt: skip
