"""The language table: codes, names, scripts, normalization, segmentation and detection results."""

from nllb.languages.table import (
    Language,
    Level,
    add_languages,
    find_languages,
    languages,
    parse_language,
    resolution,
)

__all__ = [
    "Language",
    "Level",
    "add_languages",
    "find_languages",
    "languages",
    "parse_language",
    "resolution",
]
