"""Language codes in the forms that clients of other services write and expect.

Every code, tag and name of the language table is accepted everywhere. Responses use the form of the
protocol: ISO 639-1 codes where they exist, in capitals for DeepL.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from nllb.errors import LanguageError
from nllb.languages import Language, find_languages, parse_language

from .errors import RequestError

AUTO: Final = "auto"
_SCRIPT_CODES: Final = {"zho_Hans": "zh-Hans", "zho_Hant": "zh-Hant"}
_FURTHER_CODES: Final = {"por_Latn": ("pt-BR",), "heb_Hebr": ("iw",), "nob_Latn": ("no",)}
"""Codes that some clients look for in the list of languages, in addition to the usual code."""
_DEEPL_TARGETS: Final = {
    "eng_Latn": ("EN-GB", "EN-US"),
    "por_Latn": ("PT-BR", "PT-PT"),
    "zho_Hans": ("ZH", "ZH-HANS"),
    "zho_Hant": ("ZH-HANT",),
}
_DEEPL_REGIONS: Final = {
    "EN-GB": "English (British)",
    "EN-US": "English (American)",
    "PT-BR": "Portuguese (Brazilian)",
    "PT-PT": "Portuguese (European)",
    "ZH": "Chinese (simplified)",
    "ZH-HANS": "Chinese (simplified)",
    "ZH-HANT": "Chinese (traditional)",
}


@cache
def short_code(language: Language) -> str:
    """Return the shortest code of a language: `de`, `fur`, `ace-Arab`."""
    if language.code in _SCRIPT_CODES:
        return _SCRIPT_CODES[language.code]
    codes = [alias for alias in language.aliases if alias.isascii() and alias.islower()]
    for length in (2, 3):
        for code in [*codes, language.code[:3]]:
            if len(code) == length and _stands_for(code, language):
                return code
    return language.code.replace("_", "-")


def _stands_for(code: str, language: Language) -> bool:
    try:
        return parse_language(code) == language
    except LanguageError:
        return False


def listed_codes(language: Language) -> Iterator[str]:
    """Yield the codes under which a language is listed for clients of LibreTranslate."""
    yield short_code(language)
    yield from _FURTHER_CODES.get(language.code, ())


def deepl_code(language: Language) -> str:
    """Return DeepL's code of a source language: `EN`, `ZH`, `FUR`."""
    code = short_code(language)
    return "ZH" if code in _SCRIPT_CODES.values() else code.upper()


def deepl_targets(language: Language) -> Iterator[tuple[str, str]]:
    """Yield the codes and names of a language as a target language of DeepL's API."""
    for code in _DEEPL_TARGETS.get(language.code, (short_code(language).upper(),)):
        yield code, _DEEPL_REGIONS.get(code, language.name)


def read_language(text: str, known: Iterable[Language]) -> Language:
    """Return the language of a model that corresponds to a client's code or name.

    Raises:
        RequestError: The language does not exist, or the model does not cover it.
    """
    try:
        language = parse_language(text[:80])
    except LanguageError as error:
        near = [each.code for each in find_languages(text[:80])[:3]]
        raise RequestError(400, str(error), code="unknown_language", suggestions=near) from None
    if language not in set(known):
        raise RequestError(
            400,
            f"the model does not have {language.code} ({language.name}); GET /v1/languages lists "
            "what it has",
            code="unsupported_language",
        )
    return language
