"""Coverage of the ordinal model's intervals, and errors of all calibrations against a known truth.

`python -m tests.bench.xsts [STUDIES]`: 60 simulated studies of 12 directions take a few minutes.
"""

import sys
import time

import numpy as np

from eval.xsts.calibration import CalibrationSettings
from eval.xsts.ordinal import fit_ordinal
from eval.xsts.ratings import spearman
from eval.xsts.scores import calibrated_estimates, score_direction
from eval.xsts.simulation import SimulatedStudy, simulate_study


def main(num_studies: int = 60) -> int:
    """Print error, rank correlation and coverage by method; the exit code is 1 outside 93-97 %."""
    values: dict[str, list[float]] = {}
    truths: dict[str, list[float]] = {}
    covered: dict[str, list[bool]] = {}
    started = time.process_time()
    for seed in range(num_studies):
        study = simulate_study(seed)
        for name, method, value, low, high in _scores(study):
            values.setdefault(method, []).append(value)
            truths.setdefault(method, []).append(study.truth[name])
            covered.setdefault(method, []).append(low <= study.truth[name] <= high)
    print(f"{num_studies} studies, {time.process_time() - started:.0f} s of processor time")
    raw = 0.0
    for method, found in values.items():
        error = float(np.sqrt(np.mean((np.array(found) - truths[method]) ** 2)))
        raw = raw or error
        print(
            f"{method:<10} RMSE {error:.3f} ({error / raw:.2f} of raw), Spearman "
            f"{spearman(found, truths[method]):.3f}, coverage {np.mean(covered[method]):.1%} "
            f"of {len(found)}"
        )
    return int(not 0.93 <= np.mean(covered["ordinal"]) <= 0.97)


def _scores(study: SimulatedStudy) -> list[tuple[str, str, float, float, float]]:
    """Return (direction, method, value, low, high) for every method."""
    rows = []
    settings = CalibrationSettings(centre=study.centre)
    items = [item for step, one in study.calibration.items() for item in
             (f"{step}-{item}" for item in one.items)]  # fmt: skip
    whole = np.hstack([one.values for one in study.calibration.values()])
    names = study.calibration[1].raters
    fit = fit_ordinal(study.populations, study.calibration, centre=study.centre)
    for name, matrix in study.populations.items():
        anchors = type(matrix)(raters=names, items=tuple(items), values=whole)
        scored = score_direction(
            matrix,
            anchors.of_raters(matrix.raters),
            centre=study.centre,
            strata={item: int(item[0]) for item in items},
            resamples=400,
        )
        low, high = np.quantile(scored.resampled, [0.025, 0.975])
        rows.append((name, "none", scored.score, float(low), float(high)))
        found = calibrated_estimates(scored, centre=study.centre, settings=settings)
        for method, one in (found | {"ordinal": fit.scores[name]}).items():
            rows.append((name, method, one.value, one.low or 1.0, one.high or 5.0))
    return rows


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
