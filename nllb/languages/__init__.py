"""Languages: the table, their names and scripts, normalization and sentence segmentation.

`table` has the rows, `names` finds a row by what a person wrote, `scripts` knows how each script
is written, `normalization` and `segmentation` work on text, and `detection` is what a language
detector answers.
"""

from .names import find_languages, parse_language, resolution
from .table import Language, Level, add_languages, languages

__all__ = [
    "Language",
    "Level",
    "add_languages",
    "find_languages",
    "languages",
    "parse_language",
    "resolution",
]
