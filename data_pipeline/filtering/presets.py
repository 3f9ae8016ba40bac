"""The filter presets: `reference`, which is NLLB's pipeline, and `strict`, which is ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nllb.errors import did_you_mean


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterPreset:
    """Filters in the order in which they are applied, and their thresholds.

    Attributes:
        order: names of the filters; the first filter that rejects a line provides the reason.
        thresholds: default thresholds; the configuration can override each of them.
        name_swapped: whether lines with swapped sides get a reason of their own.
    """

    order: tuple[str, ...]
    thresholds: dict[str, float]
    name_swapped: bool = False


_LENGTH = {"min_length": 1.0, "max_length": 1050.0, "length_ratio_smoothing": 0.0}
_TOXICITY = {"max_toxicity": 1e9, "max_toxicity_difference": 2.0}

FILTER_PRESETS: Final = {
    # Source: NLLB Team 2022, section 5.3, and the published pipeline. Lengths are characters times
    # the language's factor; their maximum ratio is 9. Deduplication is a separate stage.
    "reference": FilterPreset(
        order=("empty", "length", "navigation", "language", "toxicity", "similarity"),
        thresholds={**_LENGTH, "max_length_ratio": 9.0, **_TOXICITY},
    ),
    # Cheap and selective filters come first, so that the expensive ones see fewer lines.
    "strict": FilterPreset(
        order=(
            "empty",
            "length",
            "copy",
            "script",
            "placeholders",
            "urls",
            "numbers",
            "repetition",
            "navigation",
            "margin",
            "toxicity",
            "language",
            "similarity",
        ),
        name_swapped=True,
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


def threshold_errors(name: str, thresholds: dict[str, float]) -> Iterator[str]:
    """Yield the errors in the thresholds of a configuration."""
    valid = FILTER_PRESETS[name].thresholds
    for key in thresholds:
        if key not in valid:
            listed = ", ".join(f"{known} ({value:g})" for known, value in valid.items())
            hint = did_you_mean(key, valid) or ";"
            yield f"thresholds: unknown {key!r}{hint} valid in the preset {name!r}: {listed}"
