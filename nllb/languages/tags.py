"""BCP 47 tags of languages for files and web pages, such as `sw`, `zh-Hant` or `ace-Arab`."""

from collections import Counter
from functools import cache
from typing import Final

from .table import Language, languages

_DEFAULTS: Final = frozenset({"arb_Arab"})
"""The script that a tag without a script means, for languages with several scripts."""


def language_tag(language: Language) -> str:
    """Return the BCP 47 tag: the two-letter code if there is one, and the script if needed."""
    base, _, script = language.code.partition("_")
    short = _short_codes().get(base, base)
    if _scripts_by_base()[base] > 1 and language.code not in _DEFAULTS:
        return f"{short}-{script}"
    return short


@cache
def _short_codes() -> dict[str, str]:
    codes: dict[str, str] = {}
    for language in languages():
        for alias in language.aliases:
            if len(alias) == 2 and alias.isascii() and alias.islower():
                codes.setdefault(language.code.partition("_")[0], alias)
    return codes


@cache
def _scripts_by_base() -> Counter[str]:
    return Counter(language.code.partition("_")[0] for language in languages())
