"""The result of a comparison in one sentence, and whether people would notice the change."""

from collections.abc import Sequence
from typing import Final

from eval.metrics.registry import LOWER_IS_BETTER, metric_title

from .changes import PartChange

USUALLY_NOTICED: Final = 0.5
ALMOST_ALWAYS_NOTICED: Final = 1.0
"""chrF++ points from which human ratings usually, and almost always, differ significantly.

Source: NLLB Team 2022, the ablation study with XSTS (506 sentences, 24 directions).
"""
MIN_DIRECTIONS_FOR_A_CLAIM: Final = 3
"""Minimum number of directions of a part (a script, a family) that the verdict names."""


def verdict(
    first: str,
    second: str,
    metric: str,
    groups: Sequence[PartChange],
    parts: Sequence[PartChange],
) -> str:
    """Return one sentence: the change, where it is largest, and whether people would notice."""
    whole = next(group for group in groups if group.part == "all" and group.metric == metric)
    title = metric_title(metric)
    where = f"over {whole.count:,} directions" if whole.count > 1 else "in the one direction"
    numbers = f"{whole.delta:+.2f} {title}, 95 % {whole.low:+.2f} to {whole.high:+.2f}"
    if whole.low <= 0 <= whole.high:
        text = f"{second} and {first} do not differ measurably {where} ({numbers})"
    else:
        better = (whole.delta > 0) != (metric in LOWER_IS_BETTER)
        word = "better" if better else "worse"
        text = f"{second} is {word} than {first} {where} ({numbers})"
    if whole.count > 1:
        text += (
            f", significantly better in {whole.better:,} and worse in {whole.worse:,} of them "
            "(Benjamini-Hochberg, 5 %)"
        )
        text += _for_whom(whole, metric, parts)
    return text + _noticed(whole, metric) + "."


def _for_whom(whole: PartChange, metric: str, parts: Sequence[PartChange]) -> str:
    candidates = [
        part for part in parts
        if part.metric == metric and MIN_DIRECTIONS_FOR_A_CLAIM <= part.count < whole.count
        and not part.low <= 0 <= part.high
    ]  # fmt: skip
    sign = -1 if metric in LOWER_IS_BETTER else 1
    gains = sorted((p for p in candidates if sign * p.delta > 0), key=lambda p: -sign * p.delta)
    losses = sorted((p for p in candidates if sign * p.delta < 0), key=lambda p: sign * p.delta)
    said = [
        f"{word} {side[0].part} ({side[0].delta:+.2f})"
        for word, side in (("the largest gain is", gains), ("the largest loss is", losses))
        if side
    ]
    return "; " + ", ".join(said) if said else ""


def _noticed(whole: PartChange, metric: str) -> str:
    if metric != "chrf++":
        return f"; for {metric_title(metric)} there is no rule about what people notice"
    size = abs(whole.delta)
    surely = 0.0 if whole.low <= 0 <= whole.high else min(abs(whole.low), abs(whole.high))
    if surely >= ALMOST_ALWAYS_NOTICED:
        return "; people would almost always notice"
    if surely >= USUALLY_NOTICED:
        return "; people would usually notice"
    if size >= USUALLY_NOTICED:
        return "; people may notice, but the interval reaches below 0.5"
    return "; people would hardly notice (under 0.5)"
