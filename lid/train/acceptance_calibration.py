"""Fit the acceptance score and set the threshold of each label.

An answer counts as right if the best label is in the macro group of the right one, so that a text
that could be in either of two closely related languages is not answered with `und`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from lid.acceptance import AcceptanceRegression, Evidence
from lid.decision import Decider
from lid.groups import group_of_language
from lid.ngrams import NgramSets

from ..identifier_card import DEFAULT_THRESHOLD
from .collection import Lines
from .lid_config import CalibrationConfig

_BATCH = 512
_MIN_SHARE_FRACTION = 0.8
_CUT_LENGTHS = (10_000, 10, 5, 3, 2, 1)
_ALPHABETS = ("Latn", "Cyrl", "Arab", "Deva")
_CURVE_LETTERS = (1000, 3000, 10_000, 30_000, 100_000, 300_000)
_CURVE_BYTES = 1 << 16
_MAX_CURVE_LABELS = 40
_MIN_CURVE_LABELS = 5

Texts = Mapping[str, Sequence[str]]
"""Label -> texts in that language."""


def acceptance_scores(
    decider: Decider, texts: Sequence[str]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return the index of the best label and the acceptance score of each text."""
    best: list[npt.NDArray[np.intp]] = [np.empty(0, np.intp)]
    scores: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)]
    for start in range(0, len(texts), _BATCH):
        decision = decider.decide(texts[start : start + _BATCH])
        best.append(decision.best)
        scores.append(decision.acceptance_score)
    return np.concatenate(best), np.concatenate(scores)


def expected_shares(
    ngrams: NgramSets,
    held_out_lines: Texts,
    held_out_sources: Texts,
    share_by_letters: Mapping[int, float] | None = None,
    letters: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """Estimate the share of known n-grams to expect in text of each label.

    The share is measured on text of held-out sources. For a label without such text it is estimated
    from the held-out lines of its training sources: their share is scaled by the ratio of both
    shares over the other labels, and by `_MIN_SHARE_FRACTION`, because such labels have little text
    and generalise worse to other domains. This estimate is also the minimum for all labels: a
    held-out source with a lower share is in another variety or spelling.

    That estimate is far too high for a label with a few hundred lines of one domain, and its text
    would never be accepted. It is therefore at most the share that other labels reach with as
    little text.

    Args:
        ngrams: The n-gram sets.
        held_out_lines: Label -> held-out lines of the training sources.
        held_out_sources: Label -> texts of sources that the model was not trained on.
        share_by_letters: The result of `shares_with_little_text`.
        letters: Label -> number of letters in its training text.
    """
    line_shares, source_shares = (
        {label: _share(ngrams, label, texts) for label, texts in by_label.items() if texts}
        for by_label in (held_out_lines, held_out_sources)
    )
    both = sorted(line_shares.keys() & source_shares.keys())
    ratio = sum(source_shares[label] for label in both) / max(
        1e-9, sum(line_shares[label] for label in both)
    )
    sizes = sorted(share_by_letters or ())
    shares: dict[str, float] = {}
    for label in ngrams.index:
        min_share = _MIN_SHARE_FRACTION * line_shares.get(label, 0.5) * (ratio if both else 1)
        if sizes and share_by_letters and letters and label not in source_shares:
            reached = np.interp(
                np.log(max(1, letters[label])),
                np.log(sizes),
                [share_by_letters[size] for size in sizes],
            )
            min_share = min(min_share, float(reached))
        shares[label] = round(max(source_shares.get(label, 0.0), min_share), 4)
    return shares


def shares_with_little_text(
    lines: Lines, held_out_sources: Texts, max_ngrams: int
) -> dict[int, float]:
    """Measure the share of known n-grams of labels whose n-gram sets are built from little text.

    Args:
        lines: Training lines of all labels.
        held_out_sources: Label -> texts of sources that are not in `lines`.
        max_ngrams: Maximum number of n-grams of one label.

    Returns:
        Number of letters, of the largest domain of a label -> mean share of the n-grams of its
        held-out texts that are known. A size that fewer than `_MIN_CURVE_LABELS` labels have is
        missing.
    """
    labels = sorted(
        (label for label in held_out_sources if label[-4:] in _ALPHABETS and label in lines),
        key=lambda label: xxhash.xxh3_64_intdigest(label.encode()),
    )[:_MAX_CURVE_LABELS]
    shares: dict[int, list[float]] = {size: [] for size in _CURVE_LETTERS}
    for label in labels:
        texts = max(lines[label].values(), key=num_letters)
        by_hash = sorted(texts, key=lambda text: xxhash.xxh3_64_intdigest(text.encode()))
        ends = np.cumsum([num_letters([text]) for text in by_hash])
        for size in _CURVE_LETTERS:
            if ends[-1] >= size:
                few = by_hash[: int(np.searchsorted(ends, size)) + 1]
                ngrams = NgramSets.build(
                    {label: {"": few}}, max_ngrams=max_ngrams, size_bytes=_CURVE_BYTES
                )
                shares[size].append(_share(ngrams, label, held_out_sources[label]))
    return {
        size: float(np.mean(measured))
        for size, measured in shares.items()
        if len(measured) >= _MIN_CURVE_LABELS
    }


def num_letters(texts: Iterable[str]) -> int:
    """Return the number of letters and marks of normalised texts."""
    return sum(len(text) - text.count(" ") for text in texts)


def _share(ngrams: NgramSets, label: str, texts: Sequence[str]) -> float:
    known, total = ngrams.count(texts, np.full((len(texts), 1), ngrams.index[label], np.int32))
    return float(known.sum() / max(1, total.sum()))


def fit_acceptance(
    decider: Decider, in_set: Texts, out_of_set: Sequence[str], config: CalibrationConfig
) -> AcceptanceRegression:
    """Fit the acceptance score on held-out and out-of-set texts, complete and truncated."""
    texts = [(label, text) for label, lines in in_set.items() for text in lines]
    samples = [
        (label, " ".join(text.split(" ")[:words]))
        for words in _CUT_LENGTHS
        for label, text in [*texts, *(("", text) for text in out_of_set)]
    ]
    batches: list[Evidence] = []
    right: list[bool] = []
    for start in range(0, len(samples), _BATCH):
        batch = samples[start : start + _BATCH]
        evidence, _, best = decider.evidence_for([text for _, text in batch])
        batches.append(evidence)
        right += [
            _group(decider.labels[index]) == _group(label)
            for index, (label, _) in zip(best.tolist(), batch, strict=True)
        ]
    evidence = Evidence(
        **{
            item.name: np.concatenate([getattr(one, item.name) for one in batches])
            for item in dataclasses.fields(Evidence)
        }
    )
    return AcceptanceRegression.fit(
        evidence,
        np.array(right),
        np.array([bool(label) for label, _ in samples]),
        target_recall=config.target_recall,
        target_recall_short=config.target_recall_short,
    )


def calibrate(
    decider: Decider,
    held_out_sources: Texts,
    out_of_set: Sequence[str],
    config: CalibrationConfig,
) -> dict[str, float]:
    """Return the threshold of each label.

    The default is 0.5, which is what the acceptance score was fitted for. If the answers with a
    label miss the target precision at 0.5, its threshold is raised until they reach it, or until
    `max_rejected_fraction` of the label's own text is rejected. For the precision all labels have
    the same weight, and out-of-set text has `out_of_set_odds` times the weight of one label. A
    label without held-out sources keeps 0.5: the model would accept lines like its training text at
    any threshold.

    Args:
        decider: The model.
        held_out_sources: Label -> texts from sources that the model was not trained on.
        out_of_set: Lines in out-of-set languages that the model was not trained on.
        config: The targets.
    """
    groups = [_group(label) for label in decider.labels]
    in_set: dict[str, list[float]] = {label: [] for label in decider.labels}
    false_positives: dict[str, list[tuple[float, float]]] = {label: [] for label in decider.labels}
    for label, texts in held_out_sources.items():
        best, scores = acceptance_scores(decider, texts)
        for index, value in zip(best.tolist(), scores.tolist(), strict=True):
            if groups[index] == _group(label):
                in_set[label].append(value)
            else:
                false_positives[decider.labels[index]].append((value, 1 / len(texts)))
    best, scores = acceptance_scores(decider, out_of_set)
    for index, value in zip(best.tolist(), scores.tolist(), strict=True):
        false_positives[decider.labels[index]].append(
            (value, config.out_of_set_odds / len(out_of_set))
        )
    return {
        label: _threshold(in_set[label], false_positives[label], config) for label in decider.labels
    }


def _group(label: str) -> str:
    return group_of_language().get(label, label)


def _threshold(
    in_set: Sequence[float],
    false_positives: Sequence[tuple[float, float]],
    config: CalibrationConfig,
) -> float:
    if not in_set:
        return DEFAULT_THRESHOLD
    values = np.array(in_set)
    errors = np.array(false_positives or [(0.0, 0.0)])
    default = DEFAULT_THRESHOLD
    max_threshold = max(default, float(np.quantile(values, config.max_rejected_fraction)))
    candidates = errors[(errors[:, 0] >= default) & (errors[:, 0] < max_threshold), 0]
    for threshold in (default, *(np.unique(candidates) + 1e-6)):
        right = float((values >= threshold).mean())
        wrong = float(errors[errors[:, 0] >= threshold, 1].sum())
        if right / (right + wrong + 1e-12) >= config.target_precision:
            return round(float(threshold), 6)
    return round(max_threshold, 6)
