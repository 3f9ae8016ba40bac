"""Reads the search options that a model recommends, from `generation_config.json`.

Older directories have them in `config.json`. Limits of the length are not search options here:
the `max_length` of 200 tokens that transformers writes into every NLLB model would cut long
translations short.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nllb.errors import CheckpointError
from nllb.io.paths import path_inside
from nllb.model.configuration import read_document

GENERATION_FILE: Final = "generation_config.json"
NEUTRAL: Final[Mapping[str, Any]] = {
    "num_beams": None,
    "length_penalty": 1.0,
    "early_stopping": False,
    "no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
    "min_length": 0,
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_eos_token_id": None,
    "min_p": None,
    "min_new_tokens": None,
    "penalty_alpha": None,
    "sequence_bias": None,
    "suppress_tokens": None,
}
"""The options of transformers that change outputs, with the values that change nothing.

One beam is not such a value, because this package uses more by default.
"""


def read_generation_options(directory: Path) -> dict[str, Any]:
    """Return the options of a model directory that are not neutral, by their names in the file.

    Raises:
        CheckpointError: the file is damaged.
    """
    names = [name for name in (GENERATION_FILE, "config.json") if (directory / name).is_file()]
    if not names:
        return {}
    document = read_document(path_inside(directory, names[0]))
    found = {}
    for option, neutral in NEUTRAL.items():
        value = document.get(option)
        if value is None or value == neutral:
            continue
        if isinstance(neutral, int | float) and not isinstance(value, int | float | str):
            raise CheckpointError(
                f"{directory / names[0]}: {option} is {repr(value)[:60]}, which is not a number"
            )
        found[option] = value
    return found
