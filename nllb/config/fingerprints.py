"""Fingerprints decide whether two runs, or parts of them, do the same work.

A fingerprint is a short hash of values: settings, sections, hashes of files. Everything that is
resumed or reused has a fingerprint in its name, or is in a folder that records its dependencies.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import xxhash

from nllb.errors import ConfigError, DataError
from nllb.io.text import read_object, write_json

MADE_BY_FILE = "made_by.json"
"""The file in which a folder records what its contents depend on."""
_SAMPLE_BYTES = 1 << 16


def fingerprint(*parts: Any) -> str:
    """Return a hash of JSON values, configuration sections, languages and paths."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=_plain)
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))[:16]


def file_fingerprint(path: Path | str) -> str:
    """Return the XXH3-128 of a file, hexadecimal.

    Raises:
        DataError: the file cannot be read.
    """
    digest = xxhash.xxh3_128()
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def model_fingerprint(model: Path) -> str:
    """Return a hash of names, sizes and samples of a model's files: any training changes it."""
    digest = sha256()
    files = model.iterdir() if model.is_dir() else [model]
    for path in sorted(path for path in files if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}\t{size}\n".encode())
        with path.open("rb") as stream:
            for start in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
                stream.seek(start)
                digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def file_states(paths: Iterable[Path]) -> list[str]:
    """Return name, size and time of files, sorted: a fast check for changes."""
    states = []
    for path in paths:
        status = path.stat()
        states.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return sorted(states)


def changed_fields(
    before: Mapping[str, Any], now: Mapping[str, Any], *, ignored: Iterable[str] = ()
) -> list[str]:
    """Return the names whose values differ, sorted."""
    names = (before.keys() | now.keys()) - set(ignored)
    return sorted(name for name in names if before.get(name) != now.get(name))


def claim_directory(
    directory: Path,
    made_by: Mapping[str, Any],
    *,
    ignored: Iterable[str] = (),
    only_check: bool = False,
) -> None:
    """Record in a folder what its contents depend on, so that two different runs never mix.

    A folder without other contents can be claimed again.

    Args:
        directory: the folder; it is created if it is missing.
        made_by: what the contents depend on: text, model, settings.
        ignored: names that are recorded but may change, such as the path of a model.
        only_check: write nothing, as a dry run does.

    Raises:
        ConfigError: the contents of the folder depend on something else.
    """
    path = directory / MADE_BY_FILE
    wanted = json.loads(json.dumps(made_by, default=_plain))
    recorded = read_object(path) if path.is_file() else None
    if recorded is not None and any(entry != path for entry in directory.iterdir()):
        if changed := changed_fields(recorded, wanted, ignored=ignored):
            differences = "; ".join(
                f"{name} was {_shown(recorded, name)}, now {_shown(wanted, name)}"
                for name in changed
            )
            raise ConfigError(
                f"{directory} was created with other settings ({path}): {differences}. Its "
                f"finished parts cannot be used in this run; give another folder, or remove it"
            )
        return
    if recorded != wanted and not only_check:
        write_json(path, wanted)


def _shown(made_by: Mapping[str, Any], name: str) -> str:
    if name not in made_by:
        return "not recorded"
    value = made_by[name]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: Any) -> Any:
    """Return the fields of a section as JSON values; languages and paths as text."""
    from .loading import plain

    return plain(value)
