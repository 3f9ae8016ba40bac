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

_BATCH = 512


def certainties(
    decider: Decider, texts: Sequence[str]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return for each text the best label and what its threshold is compared with."""
    best: list[npt.NDArray[np.intp]] = [np.empty(0, np.intp)]
    certain: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)]
    for start in range(0, len(texts), _BATCH):
        decision = decider.decide(texts[start : start + _BATCH])
        best.append(decision.best)
        certain.append(decision.certainty())
    return np.concatenate(best), np.concatenate(certain)


def calibrate(
    decider: Decider,
    held_out: Mapping[str, Sequence[str]],
    foreign: Sequence[str],
    config: CalibrationConfig,
) -> dict[str, float]:
    """Return each label's threshold.

    It is as high as the label's own text allows (`most_rejected` of it may become `und`), between
    `lowest` and `highest`: a label that is always sure of its own text need not accept less. Where
    its answers still miss the target precision, the threshold rises until they reach it, or until
    `most_rejected_if_imprecise` of its own text is lost. Precision counts each label as often as
    any other, and foreign text `foreign_odds` times as often as one label.

    Args:
        decider: the model.
        held_out: label -> lines of it that the model was not trained on.
        foreign: lines of languages that the model has not seen and that are not in the table.
        config: the targets.
    """
    groups = [group_of_language().get(label, label) for label in decider.labels]
    own: dict[str, list[float]] = {label: [] for label in decider.labels}
    taken: dict[str, list[tuple[float, float]]] = {label: [] for label in decider.labels}
    for label, texts in held_out.items():
        best, certain = certainties(decider, texts)
        for index, value in zip(best.tolist(), certain.tolist(), strict=True):
            if groups[index] == group_of_language().get(label, label):
                own[label].append(value)
            else:
                taken[decider.labels[index]].append((value, 1 / len(texts)))
    best, certain = certainties(decider, foreign)
    for index, value in zip(best.tolist(), certain.tolist(), strict=True):
        taken[decider.labels[index]].append((value, config.foreign_odds / len(foreign)))
    return {label: _threshold(own[label], taken[label], config) for label in decider.labels}


def _threshold(
    own: Sequence[float], taken: Sequence[tuple[float, float]], config: CalibrationConfig
) -> float:
    if not own:
        return config.highest
    values = np.array(own)
    others = np.array(taken or [(0.0, 0.0)])
    usual = float(np.clip(np.quantile(values, config.most_rejected), config.lowest, config.highest))
    last = max(usual, float(np.quantile(values, config.most_rejected_if_imprecise)))
    higher = others[(others[:, 0] >= usual) & (others[:, 0] < last), 0]
    for threshold in (usual, *(np.unique(higher) + 1e-6)):
        right = float((values >= threshold).mean())
        wrong = float(others[others[:, 0] >= threshold, 1].sum())
        if right / (right + wrong + 1e-12) >= config.precision:
            return round(float(threshold), 6)
    return round(last, 6)
