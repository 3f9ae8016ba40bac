"""Languages: the table, their names and scripts, normalization and sentence segmentation.

`table` contains the rows, `names` finds the row that a person means, `selection` filters rows,
`scripts` describes the writing systems, `normalization` and `segmentation` process text, and
`detection` defines the result of a language detector.
"""

from .names import find_languages, parse_language, resolution
from .selection import select_languages
from .table import Language, Level, add_languages, languages

__all__ = [
    "Language",
    "Level",
    "add_languages",
    "find_languages",
    "languages",
    "parse_language",
    "resolution",
    "select_languages",
]
