"""Removes local paths from text that a report shows."""

import re

_ABSOLUTE_FOLDERS = re.compile(r"(?<![\w./])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\:,;'\"]+[\\/])+")


def without_folders(text: str) -> str:
    """Return a text with absolute paths reduced to their last part, because pages are shared."""
    return _ABSOLUTE_FOLDERS.sub("", text)
