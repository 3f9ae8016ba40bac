"""The cumulative-logit mixed model: severity, spread and items of all directions in one fit.

    logit P(score <= k) = spread_r * (threshold_k + severity_r - worth_j)

A rater's `severity` and (log) `spread` are random over raters; an item's `worth` is random with a
mean and a deviation of its direction and system. Calibration items form populations, too, one per
stratum; all raters share them, so that they are the anchors. Items are integrated out (adaptive
Gauss-Hermite quadrature), and everything else is found by a trust-region Newton method (scipy) with
Louis's information matrix. The variances of the random rater effects are empirical Bayes estimates.

A direction's score is that of standard raters (usual spread, and the severity at which the
calibration set scores the centre): the mean over its items of their median. It is comparable with
the other calibrations, stays in [1, 5], and its interval accounts for items, raters and anchors.

Source: McCullagh 1980 (cumulative logit); Louis 1982 (information); Naylor and Smith 1982
(quadrature).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb

import numpy as np
from numpy.typing import NDArray

from eval.extras import scipy_module
from nllb.errors import DataError

from .ratings import Floats, RatingMatrix
from .result import Estimate

NUM_NODES = 15
_MAX_STEPS = 40
# Gains in log-likelihood: 0.02 moves no estimate by more than a fifth of its standard error.
_TOLERANCE = 1e-3
_NEGLIGIBLE = 0.02
_VARIANCE_ROUNDS = 4
_Z_95 = 1.959963984540054
_FAR = 40.0
_MIN_PROBABILITY = 1e-12
# Weak prior of thresholds, means and deviations: it keeps an empty category from diverging.
_WIDE = 5.0
_NUM_GAPS = 3
_SMALL = 1e-4
_STIFF = 1e4
# The gap that determines an unused score, and its fixed value: closed, or wide at an end.
_GAP_OF_UNUSED = {1: (0, 10.0), 2: (0, 0.05), 3: (1, 0.05), 4: (2, 0.05), 5: (2, 10.0)}
_MIN_CURVATURE = 1e-6
_POINTS_Q, _WEIGHTS_Q = np.polynomial.hermite.hermgauss(NUM_NODES)

Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class OrdinalFit:
    """Estimates of the model."""

    scores: dict[str, Estimate]
    """Calibrated score by population name, with its interval."""
    severity: dict[str, float]
    """Severity of each rater in logits; positive is severe, 0 is the standard rater."""
    spread: dict[str, float]
    """How strongly each rater distinguishes items; 1 is usual."""
    severity_deviation: float
    """Standard deviation of severities over raters, in logits."""
    steps: int
    """Newton steps taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """Positions of the parameters: gaps, populations, severities, log spreads."""

    num_populations: int
    num_raters: int

    @property
    def size(self) -> int:
        return _NUM_GAPS + 2 * (self.num_populations + self.num_raters)

    @property
    def severities(self) -> slice:
        first = _NUM_GAPS + 2 * self.num_populations
        return slice(first, first + self.num_raters)

    @property
    def spreads(self) -> slice:
        return slice(self.severities.stop, self.size)

    def population(self, number: int) -> slice:
        first = _NUM_GAPS + 2 * number
        return slice(first, first + 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Population:
    """Items of one direction and system, or of one stratum of the calibration set."""

    values_RI: Floats
    raters_R: Integers
    number: int

    def columns(self, layout: _Layout) -> Integers:
        """Return the positions of the parameters that this population depends on."""
        return np.concatenate(
            [
                np.arange(_NUM_GAPS),
                np.arange(layout.size)[layout.population(self.number)],
                layout.severities.start + self.raters_R,
                layout.spreads.start + self.raters_R,
            ]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prior:
    """Normal prior of each parameter."""

    expected: Floats
    precision: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class _Nodes:
    """Quadrature nodes of each item: centre and deviation of its posterior."""

    centre_I: Floats
    deviation_I: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class _Terms:
    """Contribution of one population to likelihood, gradient and information."""

    log_likelihood: float
    gradient_P: Floats
    information_PP: Floats
    nodes: _Nodes


def fit_ordinal(
    populations: Mapping[str, RatingMatrix],
    calibration: Mapping[int, RatingMatrix],
    *,
    centre: float,
    raters: int = 3,
) -> OrdinalFit:
    """Fit the model.

    Args:
        populations: ratings by name of direction and system.
        calibration: ratings of the calibration items by stratum.
        centre: expected score of the calibration set.
        raters: odd number of standard raters whose median an item's score is.

    Raises:
        DataError: without calibration items, or where the fit does not converge.
    """
    if not calibration or not populations:
        raise DataError("the ordinal model needs ratings and calibration items")
    matrices = [*populations.values(), *calibration.values()]
    names = sorted({name for one in matrices for name in one.raters})
    row_of = {name: row for row, name in enumerate(names)}
    blocks = [
        _Population(
            values_RI=np.nan_to_num(one.values),
            raters_R=np.array([row_of[name] for name in one.raters]),
            number=number,
        )
        for number, one in enumerate(matrices)
    ]
    layout = _Layout(num_populations=len(blocks), num_raters=len(names))
    parameters = np.zeros(layout.size)
    parameters[:_NUM_GAPS] = 0.5
    precision = np.full(layout.size, 1 / _WIDE**2)
    prior = _Prior(expected=np.zeros(layout.size), precision=precision)
    _pin_unused(blocks, parameters, prior)
    precision[layout.severities], precision[layout.spreads] = 1.0, 10.0
    nodes = []
    for block in blocks:
        mean = 1.5 * (float(block.values_RI[block.values_RI > 0].mean()) - 2.5)
        parameters[layout.population(block.number)] = mean, 0.3
        num_items = block.values_RI.shape[1]
        nodes.append(_Nodes(centre_I=np.full(num_items, mean), deviation_I=np.full(num_items, 1.2)))
    steps = 0
    for _ in range(_VARIANCE_ROUNDS):
        parameters, covariance, taken = _maximise(blocks, layout, nodes, parameters, prior)
        steps += taken
        for part in (layout.severities, layout.spreads):
            moments = parameters[part] ** 2 + np.diag(covariance)[part]
            precision[part] = 1 / max(float(moments.mean()), 1e-4)
    weights = np.array([len(one.items) for one in calibration.values()], dtype=np.float64)
    standard = _Standard(
        layout=layout,
        anchors=tuple(range(len(populations), len(blocks))),
        weights=weights / weights.sum(),
        centre=centre,
        raters=raters,
    )
    severity = standard.severity(parameters)
    scores = standard.estimates(parameters, covariance, range(len(populations)))
    return OrdinalFit(
        scores=dict(zip(populations, scores, strict=True)),
        severity={
            name: float(parameters[layout.severities][row] - severity)
            for name, row in row_of.items()
        },
        spread={
            name: float(np.exp(parameters[layout.spreads][row])) for name, row in row_of.items()
        },
        severity_deviation=float(precision[layout.severities][0] ** -0.5),
        steps=steps,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Standard:
    """Scores of populations by standard raters, on the scale from 1 to 5."""

    layout: _Layout
    anchors: tuple[int, ...]
    weights: Floats
    centre: float
    raters: int

    def severity(self, parameters: Floats) -> float:
        """Return the severity at which the calibration set scores the centre."""
        optimize = scipy_module("optimize", purpose="fits of the ordinal model")

        def gap(severity: float) -> float:
            return self.calibration_worth(parameters, severity) - self.centre

        return float(optimize.brentq(gap, -_FAR, _FAR, xtol=1e-12))

    def calibration_worth(self, parameters: Floats, severity: float) -> float:
        """Return the score of the calibration set by standard raters of a severity."""
        worth = [self.worth(parameters, number, severity) for number in self.anchors]
        return float(self.weights @ np.array(worth))

    def severity_slope(self, parameters: Floats, severity: float) -> Floats:
        """Return the derivative of that severity in each parameter (implicit function)."""
        slope = self._slope(
            lambda values: self.calibration_worth(values, severity), parameters, self.anchors
        )
        above, below = (
            self.calibration_worth(parameters, severity + side) for side in (_SMALL, -_SMALL)
        )
        return slope / ((below - above) / (2 * _SMALL))

    def _slope(
        self, function: Callable[[Floats], float], parameters: Floats, populations: Sequence[int]
    ) -> Floats:
        """Return numeric derivatives in the gaps and in the parameters of some populations."""
        columns = [*range(_NUM_GAPS)]
        for number in populations:
            columns += range(self.layout.size)[self.layout.population(number)]
        slope = np.zeros(self.layout.size)
        for column in columns:
            above, below = parameters.copy(), parameters.copy()
            above[column] += _SMALL
            below[column] -= _SMALL
            slope[column] = (function(above) - function(below)) / (2 * _SMALL)
        return slope

    def worth(self, parameters: Floats, number: int, severity: float) -> float:
        """Return the mean over a population's items of the median of standard raters."""
        mean, log_deviation = parameters[self.layout.population(number)]
        worth_Q = mean + np.sqrt(2) * np.exp(log_deviation) * _POINTS_Q
        edges_K = _thresholds(parameters)
        below_QK = 1 / (1 + np.exp(-(edges_K + severity - worth_Q[:, None])))
        half = (self.raters + 1) // 2
        median_below_QK = sum(
            comb(self.raters, most) * below_QK**most * (1 - below_QK) ** (self.raters - most)
            for most in range(half, self.raters + 1)
        )
        expected_Q = 5 - np.sum(median_below_QK, axis=1)
        return float(_WEIGHTS_Q @ expected_Q / np.sqrt(np.pi))

    def estimates(
        self, parameters: Floats, covariance: Floats, numbers: Sequence[int]
    ) -> list[Estimate]:
        """Return the scores of populations with their intervals, by the delta method."""
        severity = self.severity(parameters)
        severity_slope = self.severity_slope(parameters, severity)
        found = []
        for number in numbers:
            value = self.worth(parameters, number, severity)
            slope = self._slope(
                partial(self.worth, number=number, severity=severity), parameters, [number]
            )
            above, below = (
                self.worth(parameters, number, severity + side) for side in (_SMALL, -_SMALL)
            )
            slope += (above - below) / (2 * _SMALL) * severity_slope
            half = _Z_95 * float(np.sqrt(slope @ covariance @ slope))
            found.append(
                Estimate(value=value, low=max(1.0, value - half), high=min(5.0, value + half))
            )
        return found


def _thresholds(parameters: Floats) -> Floats:
    """Return the four thresholds: the second is 0, the others follow by positive gaps."""
    gaps = np.exp(parameters[:_NUM_GAPS])
    return np.array([-gaps[0], 0.0, gaps[1], gaps[1] + gaps[2]])


def _maximise(
    blocks: Sequence[_Population],
    layout: _Layout,
    nodes: list[_Nodes],
    parameters: Floats,
    prior: _Prior,
) -> tuple[Floats, Floats, int]:
    """Maximise with scipy's trust-region Newton method.

    Returns: parameters, their covariance, and the number of steps.
    """
    optimize = scipy_module("optimize", purpose="fits of the ordinal model")
    objective = _Objective(blocks, layout, nodes, prior)
    found = optimize.minimize(
        objective.value,
        parameters,
        jac=objective.gradient,
        hess=objective.information,
        method="trust-exact",
        callback=objective.stop_when_settled,
        options={"maxiter": _MAX_STEPS, "initial_trust_radius": 1.0, "max_trust_radius": 10.0},
    )
    gain = objective.predicted_gain(found.x)
    # The threshold of a rarely used score moves on and on with a negligible gain.
    if gain > _NEGLIGIBLE:
        raise DataError(
            f"the ordinal model did not converge in {_MAX_STEPS} steps ({gain:.2g} to gain); "
            "look for raters with very few ratings, or skip the model with --no-ordinal"
        )
    information = objective.information(found.x)
    return (
        np.asarray(found.x), np.asarray(np.linalg.inv(_positive(information))), int(found.nit)
    )  # fmt: skip


class _Objective:
    """The negative penalised log-likelihood with its derivatives, evaluated once per point."""

    def __init__(
        self,
        blocks: Sequence[_Population],
        layout: _Layout,
        nodes: list[_Nodes],
        prior: _Prior,
    ) -> None:
        self._arguments = (blocks, layout, nodes)
        self._prior = prior
        self._known: dict[bytes, tuple[float, Floats, Floats]] = {}

    def _at(self, parameters: Floats) -> tuple[float, Floats, Floats]:
        key = parameters.tobytes()
        if key not in self._known:
            found = _evaluate(*self._arguments, parameters, self._prior)
            self._known = {key: found, **dict(list(self._known.items())[:1])}
        return self._known[key]

    def value(self, parameters: Floats) -> float:
        return -self._at(parameters)[0]

    def gradient(self, parameters: Floats) -> Floats:
        return -self._at(parameters)[1]

    def information(self, parameters: Floats) -> Floats:
        return self._at(parameters)[2]

    def predicted_gain(self, parameters: Floats) -> float:
        """Return the gain in log-likelihood that the quadratic model predicts."""
        _, gradient, information = self._at(parameters)
        return float(gradient @ np.linalg.solve(_positive(information), gradient))

    def stop_when_settled(self, parameters: Floats) -> None:
        if self.predicted_gain(parameters) < _TOLERANCE:
            raise StopIteration


def _positive(information: Floats) -> Floats:
    """Return the matrix with reflected negative eigenvalues, which occur far from the maximum."""
    values, vectors = np.linalg.eigh((information + information.T) / 2)
    if values[0] > _MIN_CURVATURE:
        return information
    return np.asarray((vectors * np.maximum(np.abs(values), _MIN_CURVATURE)) @ vectors.T)


def _pin_unused(blocks: Sequence[_Population], parameters: Floats, prior: _Prior) -> None:
    """Fix the gap of a score that nobody gave, which would diverge."""
    used = np.unique(np.concatenate([block.values_RI.ravel() for block in blocks]))
    for score, (gap, width) in _GAP_OF_UNUSED.items():
        if score not in used:
            parameters[gap] = prior.expected[gap] = np.log(width)
            prior.precision[gap] = _STIFF


def _evaluate(
    blocks: Sequence[_Population],
    layout: _Layout,
    nodes: list[_Nodes],
    parameters: Floats,
    prior: _Prior,
) -> tuple[float, Floats, Floats]:
    """Return penalised log-likelihood, gradient, information; nodes move to the posterior."""
    pull = prior.precision * (parameters - prior.expected)
    information = np.diag(prior.precision)
    # Ratings determine only differences of severities and ratios of spreads: fix the means.
    for part in (layout.severities, layout.spreads):
        pull[part] += _STIFF * parameters[part].mean()
        information[part, part] += _STIFF / layout.num_raters
    value = -0.5 * float(pull @ (parameters - prior.expected))
    gradient = -pull
    for place, block in enumerate(blocks):
        columns = block.columns(layout)
        terms = _terms(block, nodes[place], parameters[columns])
        value += terms.log_likelihood
        gradient[columns] += terms.gradient_P
        information[np.ix_(columns, columns)] += terms.information_PP
        nodes[place] = terms.nodes
    return value, gradient, information


def _terms(block: _Population, nodes: _Nodes, parameters: Floats) -> _Terms:
    """One population's likelihood.

    Shapes: I items, Q nodes, R raters, P parameters it depends on, O own ones of a rating (gaps,
    severity, log spread).
    """
    num_raters, num_items = block.values_RI.shape
    # Twice, because nodes of other parameters may be far from the posterior of these.
    for _ in range(2):
        worth_IQ, log_joint_IQ, ratings = _joint(block, nodes, parameters)
        log_item_I = np.logaddexp.reduce(log_joint_IQ, axis=1)
        posterior_IQ = np.exp(log_joint_IQ - log_item_I[:, None])
        centre_I = (posterior_IQ * worth_IQ).sum(axis=1)
        variance_I = (posterior_IQ * (worth_IQ - centre_I[:, None]) ** 2).sum(axis=1)
        deviation_I = np.sqrt(np.maximum(variance_I, 1e-4))
        nodes = _Nodes(centre_I=centre_I, deviation_I=deviation_I)
    deviation = np.exp(parameters[_NUM_GAPS + 1])
    standing_IQ = (worth_IQ - parameters[_NUM_GAPS]) / deviation
    num_parameters = _NUM_GAPS + 2 + 2 * num_raters
    mean, log_deviation, first = _NUM_GAPS, _NUM_GAPS + 1, _NUM_GAPS + 2
    score_IQP = np.zeros((num_items, NUM_NODES, num_parameters))
    score_IQP[..., mean] = standing_IQ / deviation
    score_IQP[..., log_deviation] = standing_IQ**2 - 1
    # Louis: the information for known worths minus the information lost because they are unknown.
    information = np.zeros((num_parameters, num_parameters))
    information[mean, mean] = num_items / deviation**2
    information[log_deviation, log_deviation] = 2 * (posterior_IQ * standing_IQ**2).sum()
    both = 2 * (posterior_IQ * standing_IQ).sum() / deviation
    information[mean, log_deviation] = information[log_deviation, mean] = both
    for row, rating in enumerate(ratings):
        slopes_IQO, curvature = _derivatives(rating, parameters, posterior_IQ[rating.rated_I])
        own = [first + row, first + num_raters + row]
        score_IQP[rating.rated_I, :, :_NUM_GAPS] += slopes_IQO[..., :_NUM_GAPS]
        for place, column in enumerate(own, _NUM_GAPS):
            score_IQP[rating.rated_I, :, column] = slopes_IQO[..., place]
        information[np.ix_([*range(_NUM_GAPS), *own], [*range(_NUM_GAPS), *own])] -= curvature
    root_IQ1 = np.sqrt(posterior_IQ)[..., None]
    score_IQP *= root_IQ1
    mean_IP = (score_IQP * root_IQ1).sum(axis=1)
    rooted = score_IQP.reshape(-1, num_parameters)
    information += mean_IP.T @ mean_IP - rooted.T @ rooted
    return _Terms(
        log_likelihood=float(log_item_I.sum()),
        gradient_P=mean_IP.sum(axis=0),
        information_PP=information,
        nodes=nodes,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ratings:
    """One rater's ratings of a population at each node."""

    rated_I: NDArray[np.bool_]
    steps_I: Integers
    spread: float
    upper_IQ: Floats
    lower_IQ: Floats
    p_IQ: Floats


def _joint(
    block: _Population, nodes: _Nodes, parameters: Floats
) -> tuple[Floats, Floats, list[_Ratings]]:
    """Worth at each node, log of the weighted joint density there, and the ratings."""
    mean, log_deviation = parameters[_NUM_GAPS : _NUM_GAPS + 2]
    severity_R, log_spread_R = np.split(parameters[_NUM_GAPS + 2 :], 2)
    edges = np.concatenate([[-np.inf], _thresholds(parameters), [np.inf]])
    worth_IQ = nodes.centre_I[:, None] + np.sqrt(2) * nodes.deviation_I[:, None] * _POINTS_Q
    log_joint_IQ = (
        -0.5 * ((worth_IQ - mean) / np.exp(log_deviation)) ** 2 - log_deviation
        - 0.5 * np.log(np.pi) + np.log(nodes.deviation_I)[:, None] + np.log(_WEIGHTS_Q)
        + _POINTS_Q**2
    )  # fmt: skip
    found = []
    for values_I, severity, log_spread in zip(
        block.values_RI, severity_R, log_spread_R, strict=True
    ):
        rated_I = values_I > 0
        steps_I = values_I[rated_I].astype(np.int64)
        spread = float(np.exp(log_spread))
        standing_IQ = severity - worth_IQ[rated_I]
        upper_IQ = np.clip(spread * (edges[steps_I][:, None] + standing_IQ), -_FAR, _FAR)
        lower_IQ = np.clip(spread * (edges[steps_I - 1][:, None] + standing_IQ), -_FAR, _FAR)
        # F(u) - F(l), mirrored in the upper half so that nothing cancels.
        side = np.where(lower_IQ > 0, -1.0, 1.0)
        p_IQ = np.abs(1 / (1 + np.exp(-side * upper_IQ)) - 1 / (1 + np.exp(-side * lower_IQ)))
        p_IQ = np.maximum(p_IQ, _MIN_PROBABILITY)
        log_joint_IQ[rated_I] += np.log(p_IQ)
        found.append(
            _Ratings(
                rated_I=rated_I, steps_I=steps_I, spread=spread, upper_IQ=upper_IQ,
                lower_IQ=lower_IQ, p_IQ=p_IQ,
            )
        )  # fmt: skip
    return worth_IQ, log_joint_IQ, found


def _derivatives(rating: _Ratings, parameters: Floats, weights_IQ: Floats) -> tuple[Floats, Floats]:
    """Slopes of the log-probability in gaps, severity and log spread (O), and its curvature.

    The curvature is the sum over items and nodes under their weights.
    """
    gaps = np.exp(parameters[:_NUM_GAPS])
    # Each gap moves the thresholds beyond it; edges are -inf, -gap, 0, gap, sum of gaps, inf.
    moves = np.zeros((6, _NUM_GAPS))
    moves[1, 0], moves[3, 1], moves[4, 1], moves[4, 2] = -gaps[0], gaps[1], gaps[1], gaps[2]
    sides = []
    for sign, steps_I, edge_IQ in (
        (1.0, rating.steps_I, rating.upper_IQ),
        (-1.0, rating.steps_I - 1, rating.lower_IQ),
    ):
        below_IQ = 1 / (1 + np.exp(-edge_IQ))
        slope_IQ = sign * below_IQ * (1 - below_IQ) / rating.p_IQ
        move_IQO = np.empty((*edge_IQ.shape, _NUM_GAPS + 2))
        move_IQO[..., :_NUM_GAPS] = rating.spread * moves[steps_I][:, None]
        move_IQO[..., _NUM_GAPS] = rating.spread
        move_IQO[..., _NUM_GAPS + 1] = edge_IQ
        bend_IQ = slope_IQ * (1 - 2 * below_IQ) - slope_IQ**2
        sides.append((slope_IQ, bend_IQ, move_IQO))
    (up_IQ, up_bend_IQ, up_move), (down_IQ, down_bend_IQ, down_move) = sides
    slopes_IQO = up_IQ[..., None] * up_move + down_IQ[..., None] * down_move
    flat = (-1, _NUM_GAPS + 2)
    curvature = np.zeros((_NUM_GAPS + 2, _NUM_GAPS + 2))
    for bend_IQ, left, right in (
        (up_bend_IQ, up_move, up_move),
        (down_bend_IQ, down_move, down_move),
        (-2 * up_IQ * down_IQ, up_move, down_move),
    ):
        part = left.reshape(flat).T @ ((weights_IQ * bend_IQ)[..., None] * right).reshape(flat)
        curvature += (part + part.T) / 2
    # Second derivatives of the edges: the exponentials of gaps and spread, and their products.
    bends_O = (weights_IQ[..., None] * slopes_IQO).sum(axis=(0, 1))
    last = _NUM_GAPS + 1
    curvature[range(_NUM_GAPS), range(_NUM_GAPS)] += bends_O[:_NUM_GAPS]
    curvature[last] += bends_O
    curvature[:last, last] += bends_O[:last]
    return slopes_IQO, curvature
