"""The two sets of filters: NLLB's own, in its order, and ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nllb.errors import did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterSet:
    """Filters in the order in which they judge, and their thresholds."""

    order: tuple[str, ...]
    """Names of the filters; the first that objects gives the reason."""
    thresholds: dict[str, float]
    """Defaults; each can be changed in the configuration."""


_LENGTH = {"min_length": 1.0, "max_length": 1050.0, "length_ratio_smoothing": 0.0}
_TOXICITY = {"max_toxicity": 1e9, "max_toxicity_difference": 2.0}

FILTER_SETS: Final = {
    # Source: NLLB Team 2022, 5.3, and the published pipeline. Lengths are characters times the
    # language's factor; ratio 9 on those. Deduplication follows as a stage of its own.
    "reference": FilterSet(
        order=("empty", "length", "language", "toxicity"),
        thresholds={**_LENGTH, "max_length_ratio": 9.0, **_TOXICITY},
    ),
    # Cheap and selective first, so that language identification sees the fewest lines.
    "strict": FilterSet(
        order=(
            "empty",
            "length",
            "copy",
            "script",
            "placeholders",
            "urls",
            "numbers",
            "repetition",
            "margin",
            "toxicity",
            "language",
        ),
        thresholds={
            **_LENGTH,
            "max_length_ratio": 3.0,
            "length_ratio_smoothing": 15.0,
            "min_script_share": 0.5,
            "max_number_mismatch": 0.5,
            "min_unique_words": 0.3,
            "max_run": 12.0,
            "min_margin": 1.06,
            **_TOXICITY,
        },
    ),
}


def threshold_faults(name: str, thresholds: dict[str, float]) -> Iterator[str]:
    """Yield what is wrong with thresholds that a configuration sets."""
    valid = FILTER_SETS[name].thresholds
    for key in thresholds:
        if key not in valid:
            listed = ", ".join(f"{known} ({value:g})" for known, value in valid.items())
            hint = did_you_mean(key, valid) or ";"
            yield f"thresholds: unknown {key!r}{hint} valid in the set {name!r}: {listed}"
