"""Reads `nllb.json` of a model directory.

This module does not import torch, because languages are parsed before a model is loaded.
"""

from pathlib import Path
from typing import Any

from nllb.errors import CheckpointError
from nllb.io.paths import is_plain_name, path_inside
from nllb.model.configuration import read_document
from nllb.model.token_layout import language_codes

SETTINGS_FILE = "nllb.json"
"""Settings that `config.json` does not cover: storage type, shortlists, provenance, licence."""
_SETTINGS_KINDS: dict[str, type] = {
    "added_characters": list,
    "added_languages": list,
    "covered_languages": list,
    "pivot_directions": list,
    "licence": str,
    "shortlists": dict,
    "source": dict,
    "storage": dict,
    "summary": str,
    "training": dict,
}
"""The type of each setting."""


def added_languages(path: Path) -> list[str]:
    """Return the language codes that a model may add to the language table.

    They are those of its settings and of the language tokens in its tokenizer files, which tools
    for fine-tuning extend.
    """
    return [*read_settings(path).get("added_languages", ()), *language_codes(path)]


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a model from `nllb.json`; they are empty if the file does not exist.

    Raises:
        CheckpointError: the file is damaged.
    """
    if not (path / SETTINGS_FILE).is_file():
        return {}
    where = path_inside(path, SETTINGS_FILE)
    settings = {name: value for name, value in read_document(where).items() if value is not None}
    for name, kind in _SETTINGS_KINDS.items():
        if not isinstance(settings.get(name, kind()), kind):
            raise CheckpointError(
                f"{where}: {name} is {repr(settings[name])[:60]}; it must be a {kind.__name__}"
            )
    for name in ("added_languages", "covered_languages", "pivot_directions"):
        codes = settings.get(name, ())
        if invalid := [code for code in codes if not is_plain_name(code)]:
            raise CheckpointError(
                f"{where}: {name} has {repr(invalid[0])[:60]}, which is not a code"
            )
    return settings
