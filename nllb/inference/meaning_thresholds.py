"""The languages that the shipped encoder knows, with the thresholds for checks of meaning."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from nllb.errors import DataError
from nllb.io.text import read_table

PIVOT: Final = "eng_Latn"
THRESHOLDS_FILE: Final = Path(__file__).with_suffix(".tsv")


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """The minimum similarities of correct translations between a language and English.

    Attributes:
        as_source: threshold of translations from the language into English.
        as_target: threshold of translations from English into the language.
    """

    as_source: float
    as_target: float


def find_threshold(source: str, target: str) -> float | None:
    """Return the threshold of a direction; None if the encoder lacks one of the languages."""
    table = read_thresholds()
    if not {source, target} <= {PIVOT, *table}:
        return None
    found = [table[source].as_source] if source != PIVOT else []
    found += [table[target].as_target] if target != PIVOT else []
    return min(found, default=None)


@cache
def read_thresholds(path: Path = THRESHOLDS_FILE) -> dict[str, Thresholds]:
    """Return the thresholds of languages with English.

    Raises:
        DataError: a threshold is not between 0 and 1.
    """
    table = {}
    for row in read_table(path):
        found = Thresholds(as_source=float(row["as_source"]), as_target=float(row["as_target"]))
        if not (0 < found.as_source < 1 and 0 < found.as_target < 1):
            raise DataError(f"{path}: the thresholds of {row['language']} are not between 0 and 1")
        table[row["language"]] = found
    return table
