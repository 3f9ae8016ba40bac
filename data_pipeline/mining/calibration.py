"""Thresholds of an encoder, which are calibrated on held-out pairs and stored with the encoder.

A margin, or a cosine, has no fixed meaning: its values depend on the encoder, on the number of
neighbours and on the number of sentences that are searched. Calibration therefore hides held-out
pairs among distractors on both sides, in pools of several sizes, and chooses the threshold with the
highest mean F1 over the languages. Between pool sizes, thresholds are interpolated. The threshold
for the cosine of a single pair keeps a fixed share of held-out pairs; its precision is measured
among as many pairs with a wrong partner.

The thresholds are stored with the encoder, in `calibration.json` next to its file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy
from numpy.typing import NDArray

from nllb.errors import DataError
from nllb.io.progress import track
from nllb.io.text import read_json, write_json

from .encoders.encoder import Encoder, Vectors, normalized
from .encoders.load_encoder import encoder_path
from .margins import MARGINS, retrieve
from .mining_config import Margin
from .neighbours import Neighbours, find_neighbours

FILE_NAME: Final = "calibration.json"
FORMAT: Final = "nllb-encoder-calibration-1"
NEIGHBOURS: Final = (4, 16)
"""Numbers of neighbours for which margins are calibrated."""
POOL_SIZES: Final = (650, 3000, 12_000)
"""Sentences per side among which the pairs are hidden."""
MAX_PAIRS: Final = 300
"""Hidden pairs of one language in one pool."""
MIN_PAIRS: Final = 60
"""Languages with fewer held-out pairs are not used."""
MAX_LARGE_POOLS: Final = 4
"""Languages in pools above the smallest size: those with the most held-out pairs."""
SIMILARITY_RECALL: Final = 0.98
"""Share of the right pairs that the threshold for single pairs keeps. Most pairs of a corpus are
right, so the threshold with the best F1 on as many wrong ones would cost more than it gains."""
_PAIRS_SHARE: Final = 300 / 650
_GRID: Final = 400

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """A threshold, and the mean scores that it reached in the calibration."""

    threshold: float
    """Minimum value of a pair that is kept."""
    precision: float | None = None
    """Share of right pairs among the kept pairs, mean over the languages; None if unknown."""
    recall: float | None = None
    """Share of the right pairs that are kept, mean over the languages; None if unknown."""
    f1: float | None = None
    """Mean F1 over the languages; None if unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolPoint(OperatingPoint):
    """The operating point of one pool size."""

    sentences: int
    """Sentences per side."""
    languages: int
    """Languages that had enough text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The thresholds of one encoder."""

    encoder: str
    """Name of the encoder."""
    key: str
    """Key of the encoder; thresholds of another encoder are never used."""
    text: str
    """The held-out text."""
    margins: Mapping[str, tuple[PoolPoint, ...]]
    """`KIND/NEIGHBOURS` -> operating points by ascending pool size."""
    similarity: OperatingPoint
    """Threshold of the cosine of a single pair."""

    def margin_point(self, margin: Margin, neighbours: int, sentences: float) -> OperatingPoint:
        """Return the operating point for a pool, interpolated over the logarithm of its size.

        Args:
            margin: kind of margin.
            neighbours: number of neighbours of the margin.
            sentences: geometric mean of the numbers of sentences of both sides.

        Raises:
            DataError: if the margin is not calibrated for this number of neighbours.
        """
        points = self.margins.get(f"{margin}/{neighbours}")
        if not points:
            known = ", ".join(sorted(self.margins))
            raise DataError(
                f"the encoder {self.encoder!r} has no calibrated threshold for margin {margin} "
                f"with {neighbours} neighbours; calibrated: {known}. Set `threshold`, or use one "
                "of these"
            )
        sizes = numpy.log([point.sentences for point in points])
        at = math.log(max(sentences, 1.0))
        values = {
            name: float(numpy.interp(at, sizes, [getattr(point, name) for point in points]))
            for name in ("threshold", "precision", "recall", "f1")
        }
        return OperatingPoint(**{name: round(value, 4) for name, value in values.items()})


def calibration_path(name: str | Path) -> Path | None:
    """Return where the calibration of an encoder is stored; None for an encoder without a file."""
    if str(name).startswith("hub:"):
        return None
    path = encoder_path(name)
    return path / FILE_NAME if path.is_dir() else path.with_suffix(f".{FILE_NAME}")


def find_calibration(name: str | Path, encoder: Encoder) -> Calibration | None:
    """Read the calibration that is stored with an encoder; None if there is none.

    Raises:
        DataError: if the file is not a calibration of this encoder.
    """
    path = calibration_path(name)
    return read_calibration(path, encoder) if path is not None and path.is_file() else None


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as JSON."""
    write_json(path, {"format": FORMAT, **asdict(calibration)})


def read_calibration(path: Path, encoder: Encoder) -> Calibration:
    """Read the calibration of an encoder.

    Raises:
        DataError: if the file is not a calibration, or belongs to another encoder.
    """
    value = read_json(path)
    try:
        if value.pop("format") != FORMAT:
            raise ValueError("unknown format")
        value["margins"] = {
            name: tuple(PoolPoint(**point) for point in points)
            for name, points in value["margins"].items()
        }
        value["similarity"] = OperatingPoint(**value["similarity"])
        calibration = Calibration(**value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: not a calibration of an encoder: {error}; calibrate the encoder again"
        ) from None
    if calibration.key != encoder.key:
        raise DataError(
            f"{path} was made for another version of the encoder {calibration.encoder!r}; run "
            "`nllb data calibrate-encoder` again, or set `threshold`"
        )
    return calibration


def calibrate(
    encoder: Encoder,
    held_out: Mapping[str, Pairs],
    distractors: Mapping[str, Sequence[str]] | None = None,
    *,
    pivot: str = "eng_Latn",
    text: str = "",
    pool_sizes: Sequence[int] = POOL_SIZES,
    quiet: bool = True,
) -> Calibration:
    """Calibrate an encoder.

    Args:
        encoder: the encoder.
        held_out: language -> pairs of that language and the pivot, not used in training.
        distractors: language -> further sentences without a translation in the held-out pairs.
        pivot: language of the second side of the pairs.
        text: name of the held-out text, for reports.
        pool_sizes: sentences per side.
        quiet: whether progress is hidden.

    Raises:
        DataError: if no language has enough held-out pairs.
    """
    encoder = _RememberingEncoder(encoder)
    rankings: dict[tuple[str, int], list[_Ranking]] = {}
    cosines: list[_Ranking] = []
    distinct = {code: _distinct(pairs) for code, pairs in held_out.items()}
    used = {code: pairs for code, pairs in distinct.items() if len(pairs) >= MIN_PAIRS}
    if not used:
        raise DataError(
            f"no language has {MIN_PAIRS} held-out pairs to calibrate with; got "
            f"{ {code: len(pairs) for code, pairs in held_out.items()} }"
        )
    pivot_pool = list((distractors or {}).get(pivot, ()))
    large = sorted(used, key=lambda code: (-len(used[code]), code))[:MAX_LARGE_POOLS]
    pools = {code: list((distractors or {}).get(code, ())) for code in used}
    capacity = {
        code: _capacity(len(pairs), min(len(pools[code]), len(pivot_pool)))
        for code, pairs in used.items()
    }
    if max(capacity.values()) < pool_sizes[0]:
        pool_sizes = (min(capacity.values()),)
    for code in track(sorted(used), "calibration", total=len(used), quiet=quiet):
        pairs = used[code]
        cosines.append(_cosine_ranking(encoder, pairs[:MAX_PAIRS], code, pivot))
        sizes = pool_sizes if code in large else pool_sizes[:1]
        for size in (size for size in sizes if size <= capacity[code]):
            sides = _hide(pairs, pools[code], pivot_pool, size)
            vectors = encoder.encode(sides.sources, code), encoder.encode(sides.targets, pivot)
            for name, ranking in _margin_rankings(*vectors, sides.num_pairs).items():
                rankings.setdefault((name, size), []).append(ranking)
    margins: dict[str, list[PoolPoint]] = {}
    for (name, size), found in sorted(rankings.items(), key=lambda item: item[0]):
        point = best_point(found)
        margins.setdefault(name, []).append(
            PoolPoint(**asdict(point), sentences=size, languages=len(found))
        )
    return Calibration(
        encoder=encoder.name,
        key=encoder.key,
        text=text,
        margins={name: tuple(points) for name, points in margins.items()},
        similarity=point_of_recall(cosines, SIMILARITY_RECALL),
    )


def _distinct(pairs: Pairs) -> list[tuple[str, str]]:
    """Return the pairs without a repeated sentence on either side."""
    seen: set[str] = set()
    found = []
    for pair in pairs:
        if seen.isdisjoint(pair):
            seen.update(pair)
            found.append(pair)
    return found


def _capacity(num_pairs: int, num_distractors: int) -> int:
    """Return the number of sentences per side that pairs and further distractors can fill."""
    hidden = min(MAX_PAIRS, int(_PAIRS_SHARE * num_pairs))
    return hidden + (num_pairs - hidden) // 2 + num_distractors


class _RememberingEncoder:
    """Encodes each distinct sentence once, because pools of several sizes share sentences."""

    def __init__(self, encoder: Encoder) -> None:
        self.name, self.key, self.dimension = encoder.name, encoder.key, encoder.dimension
        self._encoder = encoder
        self._vectors: dict[tuple[str, str], Vectors] = {}

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        """Return the vectors of sentences."""
        wanted = list(dict.fromkeys(sentences))
        fresh = [text for text in wanted if (language, text) not in self._vectors]
        for text, vector in zip(fresh, self._encoder.encode(fresh, language), strict=True):
            self._vectors[language, text] = vector
        rows = [self._vectors[language, text] for text in sentences]
        return numpy.stack(rows) if rows else numpy.zeros((0, self.dimension), numpy.float32)


class _Hidden(NamedTuple):
    """Pairs hidden among distractors: the first `num_pairs` sentences of both sides are pairs."""

    sources: list[str]
    targets: list[str]
    num_pairs: int


class _Ranking(NamedTuple):
    """Retrieved pairs of one language, best first."""

    values: NDArray[numpy.float32]
    right: NDArray[numpy.bool_]
    num_pairs: int


def _hide(pairs: Pairs, own_pool: Sequence[str], pivot_pool: Sequence[str], size: int) -> _Hidden:
    """Choose pairs, and fill both sides with sentences whose partner is not on the other side."""
    num_pairs = min(MAX_PAIRS, int(_PAIRS_SHARE * min(size, len(pairs))))
    chosen = pairs[:num_pairs]
    rest = pairs[num_pairs:]
    half = len(rest) // 2
    known = {text for pair in chosen for text in pair}
    fillers = (
        [own for own, _ in rest[:half]] + list(own_pool),
        [other for _, other in rest[half:]] + list(pivot_pool),
    )
    sides = []
    for side, filler in enumerate(fillers):
        texts = dict.fromkeys(text for text in filler if text not in known)
        sides.append([pair[side] for pair in chosen] + list(texts)[: size - num_pairs])
    return _Hidden(sides[0], sides[1], num_pairs)


def _margin_rankings(sources: Vectors, targets: Vectors, num_pairs: int) -> dict[str, _Ranking]:
    """Return the ranking of each kind of margin and number of neighbours."""
    widest = max(NEIGHBOURS)
    forward = find_neighbours(sources, targets, widest)
    backward = find_neighbours(targets, sources, widest)
    rankings = {}
    for k in NEIGHBOURS:
        near = [
            Neighbours(indices=found.indices[:, :k], similarities=found.similarities[:, :k])
            for found in (forward, backward)
        ]
        for margin in MARGINS:
            found = retrieve([near[0]], [near[1]], margin=margin, retrieval="max")
            right = (found.source == found.target) & (found.source < num_pairs)
            rankings[f"{margin}/{k}"] = _Ranking(found.margin, right, num_pairs)
    return rankings


def _cosine_ranking(encoder: Encoder, pairs: Pairs, code: str, pivot: str) -> _Ranking:
    """Return the cosines of pairs, and of the same sentences with a wrong partner, best first."""
    sources = normalized(encoder.encode([pair[0] for pair in pairs], code))
    targets = normalized(encoder.encode([pair[1] for pair in pairs], pivot))
    # Neighbours in order of length make wrong partners of similar length.
    order = numpy.argsort([len(pair[1]) for pair in pairs], kind="stable")
    wrong = numpy.empty_like(order)
    wrong[order] = numpy.roll(order, 1)
    values = numpy.concatenate(
        [(sources * targets).sum(axis=1), (sources * targets[wrong]).sum(axis=1)]
    )
    right = numpy.arange(len(values)) < len(pairs)
    best_first = numpy.argsort(-values, kind="stable")
    return _Ranking(values[best_first].astype(numpy.float32), right[best_first], len(pairs))


def best_point(rankings: Sequence[_Ranking]) -> OperatingPoint:
    """Return the threshold with the highest mean F1 over the languages."""
    grid, scores = _mean_scores(rankings)
    return _point(grid, scores, int(scores[2].argmax()))


def point_of_recall(rankings: Sequence[_Ranking], recall: float) -> OperatingPoint:
    """Return the highest threshold with at least this mean recall over the languages."""
    grid, scores = _mean_scores(rankings)
    return _point(grid, scores, int(numpy.flatnonzero(scores[1] >= recall).max(initial=0)))


def _mean_scores(
    rankings: Sequence[_Ranking],
) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """Return thresholds in ascending order, and precision, recall and F1 at each of them."""
    values = numpy.concatenate([ranking.values for ranking in rankings])
    grid = numpy.unique(numpy.quantile(values, numpy.linspace(0, 1, _GRID)))
    return grid, numpy.array([_scores(ranking, grid) for ranking in rankings]).mean(axis=0)


def _point(grid: NDArray[Any], scores: NDArray[Any], at: int) -> OperatingPoint:
    return OperatingPoint(
        threshold=round(float(grid[at]), 4),
        precision=round(float(scores[0, at]), 4),
        recall=round(float(scores[1, at]), 4),
        f1=round(float(scores[2, at]), 4),
    )


def _scores(ranking: _Ranking, grid: NDArray[Any]) -> NDArray[numpy.float64]:
    """Return precision, recall and F1 at each threshold, shape (3, thresholds)."""
    kept = numpy.searchsorted(-ranking.values, -grid, side="right")
    hits = numpy.concatenate([[0], numpy.cumsum(ranking.right)])[kept]
    precision = hits / numpy.maximum(kept, 1)
    recall = hits / ranking.num_pairs
    f1 = 2 * precision * recall / numpy.maximum(precision + recall, 1e-9)
    return numpy.stack([precision, recall, f1])
