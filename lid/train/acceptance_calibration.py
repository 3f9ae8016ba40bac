"""When the answer is `und`: the certainty is fitted, then a threshold set per label.

Whether an answer is right means the best label's macro group, so that a text in one of two near
siblings is not called undetermined because it could be either.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lid.acceptance import AcceptanceRegression, Evidence
from lid.decision import Decider
from lid.groups import group_of_language
from lid.ngrams import NgramSets
from lid.train.identifier_card import DEFAULT_THRESHOLD
from lid.train.lid_config import CalibrationConfig

_BATCH = 512
_MIN_SHARE_FRACTION = 0.8
_CUTS = (10_000, 10, 5, 3, 2, 1)

Texts = Mapping[str, Sequence[str]]
"""Label -> texts in it."""


def acceptance_scores(
    decider: Decider, texts: Sequence[str]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return for each text the best label and what its threshold is compared with."""
    best: list[npt.NDArray[np.intp]] = [np.empty(0, np.intp)]
    scores: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)]
    for start in range(0, len(texts), _BATCH):
        decision = decider.decide(texts[start : start + _BATCH])
        best.append(decision.best)
        scores.append(decision.acceptance_score)
    return np.concatenate(best), np.concatenate(scores)


def expected_shares(grams: NgramSets, held_out: Texts, left_out: Texts) -> dict[str, float]:
    """Return the share of grams that each label knows of its own text.

    Text of a source that was left out tells it. Where a label has none, its held-out lines do, less
    what other labels know less of left-out than of held-out text, and less a fifth: such a label
    has little text, and knows other domains still less. No label has less than that: a source that
    says so is in another variety or spelling.
    """
    inside, outside = (
        {label: _share(grams, label, texts) for label, texts in by_label.items() if texts}
        for by_label in (held_out, left_out)
    )
    both = sorted(inside.keys() & outside.keys())
    loss = sum(outside[label] for label in both) / max(1e-9, sum(inside[label] for label in both))
    shares: dict[str, float] = {}
    for label in grams.index:
        least = _MIN_SHARE_FRACTION * inside.get(label, 0.5) * (loss if both else 1)
        shares[label] = round(max(outside.get(label, 0.0), least), 4)
    return shares


def _share(grams: NgramSets, label: str, texts: Sequence[str]) -> float:
    known, total = grams.count(texts, np.full((len(texts), 1), grams.index[label], np.int32))
    return float(known.sum() / max(1, total.sum()))


def fit_acceptance(
    decider: Decider, own: Texts, out_of_set: Sequence[str], config: CalibrationConfig
) -> AcceptanceRegression:
    """Fit the certainty on texts that the decider has not seen the like of, whole and cut short."""
    texts = [(label, text) for label, lines in own.items() for text in lines]
    cut = [
        (label, " ".join(text.split(" ")[:words]))
        for words in _CUTS
        for label, text in [*texts, *(("", text) for text in out_of_set)]
    ]
    parts: list[Evidence] = []
    right: list[bool] = []
    for start in range(0, len(cut), _BATCH):
        batch = cut[start : start + _BATCH]
        evidence, _, best = decider.evidence_for([text for _, text in batch])
        parts.append(evidence)
        right += [
            _group(decider.labels[index]) == _group(label)
            for index, (label, _) in zip(best.tolist(), batch, strict=True)
        ]
    evidence = Evidence(
        **{
            item.name: np.concatenate([getattr(part, item.name) for part in parts])
            for item in dataclasses.fields(Evidence)
        }
    )
    return AcceptanceRegression.fit(
        evidence,
        np.array(right),
        np.array([bool(label) for label, _ in cut]),
        target_recall=config.target_recall,
        target_recall_short=config.target_recall_short,
    )


def calibrate(
    decider: Decider,
    left_out: Texts,
    out_of_set: Sequence[str],
    config: CalibrationConfig,
) -> dict[str, float]:
    """Return each label's threshold.

    It is one half, which is what the certainty was fitted to mean. Where a label's answers miss the
    target precision there, it rises until they reach it, or until `most_rejected` of the label's
    own text is lost. Precision counts each label as often as any other, and foreign text
    `foreign_odds` times as often as one label. A label without left-out text keeps one half: of
    lines like those that it was trained on, it would be sure at any threshold.

    Args:
        decider: the model.
        left_out: label -> text of it from sources that the model was not trained on.
        foreign: lines of languages that the model has not seen and that are not in the table.
        config: the targets.
    """
    groups = [_group(label) for label in decider.labels]
    own: dict[str, list[float]] = {label: [] for label in decider.labels}
    taken: dict[str, list[tuple[float, float]]] = {label: [] for label in decider.labels}
    for label, texts in left_out.items():
        best, scores = acceptance_scores(decider, texts)
        for index, value in zip(best.tolist(), scores.tolist(), strict=True):
            if groups[index] == _group(label):
                own[label].append(value)
            else:
                taken[decider.labels[index]].append((value, 1 / len(texts)))
    best, scores = acceptance_scores(decider, out_of_set)
    for index, value in zip(best.tolist(), scores.tolist(), strict=True):
        taken[decider.labels[index]].append((value, config.out_of_set_odds / len(out_of_set)))
    return {label: _threshold(own[label], taken[label], config) for label in decider.labels}


def _group(label: str) -> str:
    return group_of_language().get(label, label)


def _threshold(
    own: Sequence[float], taken: Sequence[tuple[float, float]], config: CalibrationConfig
) -> float:
    if not own:
        return DEFAULT_THRESHOLD
    values = np.array(own)
    others = np.array(taken or [(0.0, 0.0)])
    usual = DEFAULT_THRESHOLD
    last = max(usual, float(np.quantile(values, config.max_rejected_fraction)))
    higher = others[(others[:, 0] >= usual) & (others[:, 0] < last), 0]
    for threshold in (usual, *(np.unique(higher) + 1e-6)):
        right = float((values >= threshold).mean())
        wrong = float(others[others[:, 0] >= threshold, 1].sum())
        if right / (right + wrong + 1e-12) >= config.target_precision:
            return round(float(threshold), 6)
    return round(last, 6)
