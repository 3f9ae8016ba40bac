"""One rating, and ratings as arrays: one row per rater, one column per item, NaN if not rated."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Set = Literal["eval", "calibration", "training", "attention"]
SETS: tuple[str, ...] = get_args(Set)
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rating:
    """One rater's judgement of one pair of sentences."""

    file: str
    """Name of the file."""
    line: int
    """Line or spreadsheet row, counted from 1 with the header."""
    study: str
    """Name of the study, or empty."""
    item: str
    """Identity of the sentence within its set."""
    set: Set
    """Purpose of the item."""
    system: str
    """Name of the translation system, or empty."""
    source: str
    """Source language."""
    target: str
    """Target language."""
    source_text: str
    """Sentence 1; empty if the file does not have it."""
    target_text: str
    """Sentence 2."""
    rater: str
    """Pseudonym."""
    score: float
    """1 to 5; on other scales 0 to 100 (ESA), or penalty points (MQM)."""
    source_incoherent: bool
    """Sentence 1 flagged."""
    target_incoherent: bool
    """Sentence 2 flagged."""
    stratum: int | None
    """Quality level of a calibration item."""
    timestamp: str
    """Time of the rating, or empty."""
    duration_s: float | None
    """Seconds spent on the rating."""
    protocol: str
    """Version of the guidelines, or empty."""

    @property
    def direction(self) -> "Direction":
        """The direction and study that the rating belongs to."""
        return Direction(study=self.study, source=self.source, target=self.target)


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Direction:
    """A direction within a study: the unit that is calibrated."""

    study: str
    """Name of the study, or empty."""
    source: str
    """Source language."""
    target: str
    """Target language."""

    def __str__(self) -> str:
        name = f"{self.source}-{self.target}"
        return f"{self.study}: {name}" if self.study else name


@dataclass(frozen=True, kw_only=True, slots=True)
class RatingMatrix:
    """Ratings of one set of items."""

    raters: tuple[str, ...]
    """Names of the rows, sorted."""
    items: tuple[str, ...]
    """Names of the columns, sorted."""
    values: Floats
    """Scores, raters x items; NaN where a rater did not rate an item."""

    def of_raters(self, wanted: Iterable[str]) -> "RatingMatrix":
        """Return the ratings of some raters, without items that none of them rated."""
        names = set(wanted)
        rows = [row for row, rater in enumerate(self.raters) if rater in names]
        values = self.values[rows]
        columns = np.flatnonzero(~np.isnan(values).all(axis=0)) if rows else np.array([], dtype=int)
        return RatingMatrix(
            raters=tuple(self.raters[row] for row in rows),
            items=tuple(self.items[column] for column in columns),
            values=values[:, columns],
        )


def rating_matrix(ratings: Sequence[Rating]) -> RatingMatrix:
    """Return ratings as a matrix; only the first of repeated ratings of an item counts."""
    raters = sorted({rating.rater for rating in ratings})
    items = sorted({rating.item for rating in ratings})
    row_of = {rater: row for row, rater in enumerate(raters)}
    column_of = {item: column for column, item in enumerate(items)}
    values = np.full((len(raters), len(items)), np.nan)
    for rating in reversed(ratings):
        values[row_of[rating.rater], column_of[rating.item]] = rating.score
    return RatingMatrix(raters=tuple(raters), items=tuple(items), values=values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grouped:
    """Ratings by direction and system."""

    evaluated: dict[tuple[Direction, str], list[Rating]]
    """Ratings of translations by direction and system, sorted."""
    calibration: dict[Direction, list[Rating]]
    """Calibration ratings that belong to each evaluated direction."""


def group(ratings: Iterable[Rating]) -> Grouped:
    """Sort ratings by direction and system.

    The calibration ratings of a direction are the rows with that direction. If there are none, they
    are those of its raters in the same study: the calibration set is in one language, and its rows
    rarely name the direction that they calibrate.
    """
    evaluated: defaultdict[tuple[Direction, str], list[Rating]] = defaultdict(list)
    raters: defaultdict[Direction, set[str]] = defaultdict(set)
    own: defaultdict[Direction, list[Rating]] = defaultdict(list)
    of_study: defaultdict[str, list[Rating]] = defaultdict(list)
    for rating in ratings:
        direction = rating.direction
        if rating.set == "eval":
            evaluated[direction, rating.system].append(rating)
            raters[direction].add(rating.rater)
        elif rating.set == "calibration":
            own[direction].append(rating)
            of_study[rating.study].append(rating)
    return Grouped(
        evaluated={key: evaluated[key] for key in sorted(evaluated)},
        calibration={
            direction: own.get(direction)
            or [one for one in of_study[direction.study] if one.rater in members]
            for direction, members in sorted(raters.items())
        },
    )


def ranks(values: Floats) -> Floats:
    """Return ranks from 1, ties at their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def spearman(left: Sequence[float] | Floats, right: Sequence[float] | Floats) -> float | None:
    """Return the rank correlation; None if a side is constant, or below three pairs."""
    first, second = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if len(first) < 3:
        return None
    one, other = ranks(first), ranks(second)
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return None if scale == 0 else float(one @ other) / scale
