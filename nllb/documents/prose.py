"""Distinguishes text for people from other values of a data file, and matches chosen keys."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

_LETTER: Final = re.compile(r"[^\W\d_]")
_SPACE: Final = re.compile(r"\s")
_CODE: Final = re.compile(
    r"""
      \w+://\S+                                  # a URL
    | [\w.+-]+@[\w-]+\.[\w.-]+                   # an e-mail address
    | \S*[_/\\@\#$&=~<>|*;\[\]{}]\S*             # a path, a variable, an expression
    | [\w-]+(?:[.:]+[\w-]+)+                     # a dotted name or a time
    | [a-z]+[A-Z]\w*                             # an identifier such as `fileName`
    | [a-z0-9]+(?:-[a-z0-9]+)+                   # ... or `file-name`
    | \S*\d\S*                                   # a version, a date, a colour
    | true | false | yes | no | on | off | null | none
    """,
    re.VERBOSE,
)


def is_prose(text: str) -> bool:
    """Return whether a value is text to translate, not an identifier, a path or a number."""
    text = text.strip()
    if _LETTER.search(text) is None:
        return False
    if _SPACE.search(text) is not None:
        return not text.startswith(("<?", "<!DOCTYPE"))
    return _CODE.fullmatch(text.rstrip(".:!?…") or text) is None


def is_chosen(path: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether a dotted path, its end, or one of its parents matches a pattern."""
    if not patterns:
        return True
    dotted = [".".join(path[:end]) for end in range(1, len(path) + 1)]
    return any(
        fnmatchcase(name, pattern) or fnmatchcase(path[-1], pattern)
        for pattern in patterns
        for name in dotted
    )
