"""Paths from names in a file: they stay in the folder of the file.

The origin of a model directory, a manifest or a folder of results may be unknown. A name in it must
not lead to another file of this machine by `..`, an absolute path or a link.
"""

import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from nllb.errors import CheckpointError, NllbError

_NAME = re.compile(r"[\w.-]+")
_SHOWN_CHARACTERS = 80
_PACKAGES = Path(__file__).parents[2]


def is_plain_name(name: object) -> bool:
    """Return whether a value is a file name of letters, digits, `.`, `_` and `-` only."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and name not in (".", "..")


def path_inside(
    folder: Path,
    name: object,
    *,
    error: type[NllbError] = CheckpointError,
    where: Path | None = None,
) -> Path:
    """Return the path of a file in a folder, or below it, by a name that was read from a file.

    Links may stay in the folder. In a snapshot of the Hugging Face cache they may also lead to the
    `blobs` of the same model, which is where that cache keeps its files.

    Args:
        folder: the folder.
        name: the name, relative to it; the file need not exist.
        error: type of the error.
        where: the file that contains the name, for the message.

    Raises:
        NllbError: of the type `error`, if the name is not a relative path or leaves the folder.
    """
    source = f"{where}: " if where else ""
    shown = repr(name)[:_SHOWN_CHARACTERS]
    if not isinstance(name, str) or not _is_relative(name):
        raise error(
            f"{source}{shown} is not the name of a file in {folder}; paths must be relative, "
            f"without '..'"
        )
    path = folder / name
    try:
        real = path.resolve()
        homes = _homes(folder)
    except (OSError, RuntimeError) as fault:  # links in a circle, or a name too long
        raise error(f"{source}{shown} cannot be looked up in {folder}: {fault}") from None
    if not any(real.is_relative_to(home) for home in homes):
        raise error(
            f"{source}{shown} is a link that leaves {folder}, which is refused; copy the file into "
            f"the folder in place of the link"
        )
    return path


def _is_relative(name: str) -> bool:
    # A name that leaves the folder on any system is rejected on all systems.
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or path.root or ".." in path.parts or not path.parts:
            return False
    try:
        longest = max(len(os.fsencode(part)) for part in PurePosixPath(name).parts)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return "\0" not in name and longest < 256


def _homes(folder: Path) -> list[Path]:
    real = folder.resolve()
    if _is_shipped(folder):
        return [Path(real.anchor)]
    blobs = real.parent.parent / "blobs"
    is_snapshot = real.parent.name == "snapshots" and blobs.is_dir()
    return [real, blobs.resolve()] if is_snapshot else [real]


def _is_shipped(folder: Path) -> bool:
    """Return whether a folder belongs to the package: some installers fill those with links."""
    try:
        return "_models" in folder.absolute().relative_to(_PACKAGES).parts[1:2]
    except ValueError:
        return False
