"""Weight interpolation: the result keeps only a part of the change that fine-tuning made.

The result lies on the line between the original and the fine-tuned weights. A point on the way is
often as good in the new directions and forgets far less of the old ones.

Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT).
"""

from collections.abc import Collection, Mapping
from typing import Final

import torch
from torch import Tensor

from nllb.model.formats.model_directory import ModelDirectory
from nllb.model.formats.open_model import load_model
from nllb.model.formats.weights import read_weight
from nllb.training.validation import Scorer

TOLERANCE: Final = 0.5
"""Accepted loss in mean chrF++ of the new directions in exchange for a smaller change."""


def interpolate(original: ModelDirectory, tuned: ModelDirectory, share: float) -> dict[str, Tensor]:
    """Return original + share * (tuned - original), in float32."""
    weights = {}
    for name in tuned.weights:
        before = read_weight(original.weights, name).float()
        weights[name] = torch.lerp(before, read_weight(tuned.weights, name).float(), share)
    return weights


def score_shares(
    original: ModelDirectory, tuned: ModelDirectory, shares: Collection[float], scorer: Scorer
) -> dict[float, dict[str, float]]:
    """Return the chrF++ of each direction for each share of the change."""
    model = load_model(tuned)
    scores = {}
    for share in shares:
        model.load_state_dict(interpolate(original, tuned, share))
        scores[share] = dict(scorer(model))
    return scores


def choose_share(
    scores: Mapping[float, Mapping[str, float]], new_directions: Collection[str]
) -> float:
    """Return the smallest share that is about as good as the best one in the new directions."""
    means = {
        share: sum(found[name] for name in new_directions) / max(1, len(new_directions))
        for share, found in scores.items()
    }
    return min(share for share, mean in means.items() if mean >= max(means.values()) - TOLERANCE)
