"""Converts the search options that a model recommends to those of this package."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from nllb.errors import CheckpointError, ConfigError

from .generator import SearchOptions
from .search import check_options

_PROMPT_TOKENS: Final = 2
"""Number of tokens before the output that `min_length` of transformers counts."""
_BEAM_OPTIONS: Final[Mapping[str, str]] = {
    "num_beams": "beam_size",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
    "no_repeat_ngram_size": "no_repeat_ngram",
    "repetition_penalty": "repetition_penalty",
    "min_length": "min_output_tokens",
}
_SAMPLING_OPTIONS: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}
_DEFAULT_TOP_K: Final = 50
"""The value of transformers for sampling without `top_k`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendedSearch:
    """The search options of a model.

    Attributes:
        options: the defaults of this package with the options of the model that are supported.
        used: the model's options that are used, by their names in transformers.
        unused: the model's options that are not supported.
    """

    options: SearchOptions
    used: Mapping[str, Any]
    unused: Mapping[str, Any]

    def describe(self) -> list[str]:
        """Return lines that describe which options of the model are used, if it has any."""
        lines = []
        if self.used:
            lines.append(f"search options of the model: {_list(self.used)}")
        if self.unused:
            lines.append(
                f"unsupported search options of the model, which are not used: {_list(self.unused)}"
            )
        return lines


def recommended_search(generation: Mapping[str, Any], *, where: str) -> RecommendedSearch:
    """Return the search that a model's generation options describe.

    Args:
        generation: the options by their names in transformers, without neutral values.
        where: the model, for messages.

    Raises:
        CheckpointError: a value is invalid.
    """
    names: dict[str, str] = dict(_BEAM_OPTIONS)
    samples = generation.get("do_sample") is True and generation.get("num_beams", 1) == 1
    if samples:
        names |= _SAMPLING_OPTIONS
    values = {names[name]: value for name, value in generation.items() if name in names}
    used = {name: value for name, value in generation.items() if name in names}
    if samples:
        used["do_sample"] = True
        values = {"top_k": _DEFAULT_TOP_K} | values | {"sampling": True, "beam_size": 1}
    if not isinstance(values.get("early_stopping", False), bool):  # "never"
        values["early_stopping"] = False
        used.pop("early_stopping")
    if "min_output_tokens" in values:
        values["min_output_tokens"] = max(values["min_output_tokens"] - _PROMPT_TOKENS, 0)
    ignored = () if samples else _SAMPLING_OPTIONS  # without sampling they have no effect
    unused = {n: value for n, value in generation.items() if n not in used and n not in ignored}
    try:
        options = replace(SearchOptions(), **values)
        check_options(options, num_positions=1 << 30)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{where}, generation_config.json: {error}") from None
    return RecommendedSearch(options=options, used=used, unused=unused)


def _list(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {repr(value)[:40]}" for name, value in options.items())
