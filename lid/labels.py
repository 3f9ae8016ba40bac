"""Other models' label spellings -> codes of the language table; unknown ones stay as they are."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lid.engine import NOISE_PREFIX
from nllb.errors import LanguageError
from nllb.io.text import read_table
from nllb.languages import languages, parse_language


def map_label(label: str) -> str:
    """Return the FLORES-200 code of a label, or the label itself where the table has none.

    Knows the spellings of lid218e and OpenLID (`eng_Latn`), GlotLID (`cmn_Hani`), OpenLID v2
    (`cmn_Hans`, `ekk_Latn`) and of models with ISO 639 or BCP-47 labels (`en`, `zh-Hant`).
    """
    codes = {language.code for language in languages()}
    if label in codes:
        return label
    renamed = _renamed().get(label)
    if renamed is not None:
        return renamed
    if label.startswith(NOISE_PREFIX) or (len(label) == 8 and label[3] == "_"):
        return label  # a language, and not one of ours: nothing to guess
    try:
        return parse_language(label).code
    except LanguageError:
        return label


def map_labels(labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the mapped labels and, sorted, those that the table does not have."""
    mapped = tuple(map(map_label, labels))
    known = {language.code for language in languages()}
    return mapped, tuple(sorted(set(mapped) - known))


@cache
def _renamed() -> dict[str, str]:
    table = Path(__file__).with_name("labels.tsv")
    return {row["label"]: row["code"] for row in read_table(table)}
