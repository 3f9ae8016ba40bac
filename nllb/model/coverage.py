"""The languages that a model covers, which may be fewer than its vocabulary has tokens for."""

from collections.abc import Mapping
from typing import Any, Final

from nllb.config import format_size
from nllb.languages import Language

from .formats.weight_names import num_parameters
from .known_models import known_models

COVERED: Final = "covered_languages"
"""Key of `nllb.json`: codes of the languages whose translations passed the model's tests."""

PIVOTED: Final = "pivot_directions"
"""Key of `nllb.json`: directions (SOURCE-TARGET) that are translated through `PIVOT`."""
PIVOT: Final = "eng_Latn"
"""The language through which a model translates the directions that are better in two steps."""


def covered_languages(settings: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the codes that a model's settings declare as covered; None if they declare none."""
    return frozenset(settings[COVERED]) if COVERED in settings else None


def suggest_models(language: Language) -> str:
    """Return the published models that translate a language, with size and licence."""
    if not language.in_nllb:
        return "no published model of NLLB has it; 'nllb finetune' adds a language to a model"
    named = [
        f"{model.name} ({format_size(4 * num_parameters(model.config))}, {model.licence})"
        for model in known_models()
    ]
    return f"models that do: {', '.join(named)}"
