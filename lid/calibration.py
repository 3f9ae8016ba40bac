"""Per-label thresholds: below them the answer is `und`.

What is compared is the probability of the best label's macro group, so that a text in one of two
near siblings is not called undetermined because it could be either.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lid.config import CalibrationConfig
from lid.decision import Decider
from lid.groups import group_of_language

_GRID = np.unique(
    np.concatenate([np.linspace(0.2, 0.95, 16), [0.97, 0.98, 0.99, 0.995, 0.998, 0.999]])
)
_BATCH = 512


def supports(
    decider: Decider, texts: Sequence[str]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return the best label and the probability of its group for each text."""
    best: list[npt.NDArray[np.intp]] = [np.empty(0, np.intp)]
    support: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)]
    for start in range(0, len(texts), _BATCH):
        decision = decider.decide(texts[start : start + _BATCH])
        best.append(decision.best)
        support.append(np.where(decision.readable, decision.support, 0))
    return np.concatenate(best), np.concatenate(support)


def calibrate(
    decider: Decider,
    held_out: Mapping[str, Sequence[str]],
    foreign: Sequence[str],
    config: CalibrationConfig,
) -> dict[str, float]:
    """Return each label's threshold: the lowest at which its answers reach the target precision.

    Args:
        decider: the model.
        held_out: label -> lines of it that the model was not trained on.
        foreign: lines of languages that the model has not seen and that are not in the table.
        config: the targets.

    A threshold never turns more than `most_rejected` of the label's own lines into `und`. Precision
    counts each label as often as any other, and foreign text `foreign_odds` times as often as one.
    """
    groups = [group_of_language().get(label, label) for label in decider.labels]
    own: dict[str, list[float]] = {label: [] for label in decider.labels}
    taken: dict[str, list[tuple[float, float]]] = {label: [] for label in decider.labels}
    for label, texts in held_out.items():
        best, support = supports(decider, texts)
        for index, value in zip(best.tolist(), support.tolist(), strict=True):
            if groups[index] == group_of_language().get(label, label):
                own[label].append(value)
            else:
                taken[decider.labels[index]].append((value, 1 / len(texts)))
    best, support = supports(decider, foreign)
    for index, value in zip(best.tolist(), support.tolist(), strict=True):
        taken[decider.labels[index]].append((value, config.foreign_odds / len(foreign)))
    return {label: _threshold(own[label], taken[label], config) for label in decider.labels}


def _threshold(
    own: list[float], taken: list[tuple[float, float]], config: CalibrationConfig
) -> float:
    values = np.array(own or [1.0])
    others = np.array(taken or [(0.0, 0.0)])
    highest = max(config.lowest, float(np.quantile(values, config.most_rejected)))
    for threshold in _GRID[(_GRID >= config.lowest) & (_GRID <= highest)]:
        right = float((values >= threshold).mean())
        wrong = float(others[others[:, 0] >= threshold, 1].sum())
        if right / (right + wrong + 1e-12) >= config.precision:
            return round(float(threshold), 4)
    return round(highest, 4)
