"""Holds a folder to the work that it was begun with, so that parts of two never mix."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nllb.errors import ConfigError
from nllb.io.text import read_json, write_json

MADE_BY_FILE = "made_by.json"


def claim(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Say in a folder what its parts depend on; without parts in it, it is free for other work.

    Raises:
        ConfigError: the parts that are there depend on something else.
    """
    path = folder / MADE_BY_FILE
    wanted = json.loads(json.dumps(made_by))
    there = read_json(path) if path.is_file() else None
    if there == wanted:
        return
    if there is None or all(part == path for part in folder.iterdir()):
        write_json(path, wanted)
        return
    if changed := sorted(name for name in wanted if there.get(name) != wanted[name]):
        raise ConfigError(
            f"{folder} was begun with another {' and '.join(changed)} (see {path}): its finished "
            f"parts would not belong to the rest; name another folder, or remove it"
        )
