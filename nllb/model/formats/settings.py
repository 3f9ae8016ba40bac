"""`nllb.json`, beside a model: read without torch, since languages come before models."""

from pathlib import Path
from typing import Any

from nllb.errors import CheckpointError
from nllb.io.paths import is_plain_name, path_inside
from nllb.model.configuration import read_document

SETTINGS_FILE = "nllb.json"
"""What transformers has no place for: storage type, shortlists, provenance, licence."""
_SETTINGS_KINDS: dict[str, type] = {
    "added_characters": list,
    "added_languages": list,
    "licence": str,
    "shortlists": dict,
    "source": dict,
    "storage": dict,
    "summary": str,
    "training": dict,
}
"""What a setting must be where the file has it."""


def added_languages(path: Path) -> list[str]:
    """Return the codes that a model directory's settings add to the table of languages."""
    return list(read_settings(path).get("added_languages", ()))


def read_settings(path: Path) -> dict[str, Any]:
    """Read what `nllb.json` says of a model; without that file nothing.

    Raises:
        CheckpointError: it is damaged.
    """
    if not (path / SETTINGS_FILE).is_file():
        return {}
    where = path_inside(path, SETTINGS_FILE)
    settings = {name: value for name, value in read_document(where).items() if value is not None}
    for name, kind in _SETTINGS_KINDS.items():
        if not isinstance(settings.get(name, kind()), kind):
            raise CheckpointError(
                f"{where}: {name} is {repr(settings[name])[:60]}, not a {kind.__name__}"
            )
    if odd := [code for code in settings.get("added_languages", ()) if not is_plain_name(code)]:
        raise CheckpointError(f"{where}: added_languages has {repr(odd[0])[:60]}, which is no code")
    return settings
