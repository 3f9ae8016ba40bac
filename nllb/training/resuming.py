"""Ties an output folder to the inputs that its contents were made from.

A run resumes only with the same inputs, so that results of different inputs never mix.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from nllb.errors import ConfigError
from nllb.io.shards import file_xxh3_128
from nllb.io.text import read_json, write_json
from nllb.model.formats.model_directory import ModelDirectory

MADE_BY_FILE = "made_by.json"


def claim(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Record in a folder what its contents depend on; an empty folder may be claimed again.

    Raises:
        ConfigError: The existing contents depend on something else.
    """
    path = folder / MADE_BY_FILE
    wanted = json.loads(json.dumps(made_by))
    recorded = read_json(path) if path.is_file() else None
    if recorded == wanted:
        return
    if recorded is None or all(part == path for part in folder.iterdir()):
        write_json(path, wanted)
        return
    if changed := [name for name in wanted if recorded.get(name) != wanted[name]]:
        raise ConfigError(
            f"{folder} was started with a different {' and '.join(sorted(changed))} (see {path}), "
            f"so its finished parts do not match: name another folder, or delete it"
        )


def model_fingerprint(model: ModelDirectory) -> str:
    """Return a hash of a model's weights and vocabulary, whatever its name or path is."""
    digest = xxhash.xxh3_128()
    for path, _ in sorted(model.weights.files()):
        digest.update(file_xxh3_128(path).encode())
    tokenizer = model.tokenizer()
    digest.update(tokenizer.vocabulary)
    digest.update(json.dumps(tokenizer.languages).encode())
    return digest.hexdigest()
