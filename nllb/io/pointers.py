"""Recognises git-lfs pointers, which replace large files that were not fetched."""

from pathlib import Path
from typing import Final

from nllb.errors import CheckpointError

_POINTER: Final = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(path: Path) -> None:
    """Raise a CheckpointError if a file is a git-lfs pointer."""
    if _is_pointer(path):
        raise CheckpointError(
            f"{path} is a git-lfs pointer, not the file itself: run 'git lfs pull' in "
            f"{path.parent}, or download the file from the model's page"
        )


def _is_pointer(path: Path) -> bool:
    """Return whether a file is the pointer that git-lfs stores in place of a large file."""
    try:
        if not path.is_file() or path.stat().st_size > 1024:
            return False
        with path.open("rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False
