"""Map the labels of other models to the codes of the language table."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from nllb.errors import LanguageError
from nllb.io.text import read_table
from nllb.languages import languages, parse_language

from .engine import OUT_OF_SET_PREFIX


def map_label(label: str) -> str:
    """Return the FLORES-200 code of a label, or the label itself if the table has no such language.

    The labels of lid218e and OpenLID (`eng_Latn`), GlotLID (`cmn_Hani`) and OpenLID v2
    (`cmn_Hans`, `ekk_Latn`) are recognised, as are ISO 639 and BCP-47 labels (`en`, `zh-Hant`).
    """
    codes = {language.code for language in languages()}
    if label in codes:
        return label
    renamed = _renamed().get(label)
    if renamed is not None:
        return renamed
    if label.startswith(OUT_OF_SET_PREFIX) or (len(label) == 8 and label[3] == "_"):
        return label  # a well-formed label of a language outside the table: do not guess
    try:
        return parse_language(label).code
    except LanguageError:
        return label


def map_labels(labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the mapped labels and the sorted labels that are not in the language table."""
    mapped = tuple(map(map_label, labels))
    known = {language.code for language in languages()}
    return mapped, tuple(sorted(set(mapped) - known))


@cache
def _renamed() -> dict[str, str]:
    table = Path(__file__).with_name("labels.tsv")
    return {row["label"]: row["code"] for row in read_table(table)}
