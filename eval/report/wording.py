"""Text from results as a report may show it."""

import re

_ABSOLUTE_FOLDERS = re.compile(r"(?<![\w./])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\:,;'\"]+[\\/])+")


def without_folders(text: str) -> str:
    """Return a text in which absolute paths are cut to their last part: pages travel."""
    return _ABSOLUTE_FOLDERS.sub("", text)
