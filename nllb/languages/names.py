"""Resolves codes, tags and names of languages to rows of the table.

A text resolves to a language or is rejected with suggestions; nothing is guessed.
`suggestions.tsv` lists texts that people write although they are not languages, such as country
codes, and codes that are often mistaken for another language.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from unicodedata import normalize

from nllb.errors import LanguageError
from nllb.io.text import read_table

from .scripts import scripts
from .table import Language, added_languages, languages, register_parser

# The default script of a language that has several scripts, as in other systems.
_DEFAULT_SCRIPTS = {"zho": "zho_Hans"}
_MIN_LENGTH_OF_MISSPELLING = 3  # of two letters, any two codes are alike


@dataclass(frozen=True, kw_only=True, slots=True)
class _Suggestion:
    """A row of `suggestions.tsv`."""

    kind: str
    languages: tuple[str, ...]
    note: str


@lru_cache(maxsize=4096)  # tags can have any number of forms
def parse_language(text: str, *, choose_script: bool = True) -> Language:
    """Return the language of a code, tag or name; `resolution` describes the result.

    Accepts FLORES-200 codes in any case with `_` or `-`, ISO 639-1, -2 and -3, BCP-47 tags with
    script and region (`pt-BR`, `zh-Hant-HK`), English names and own names. A requested script is
    used or rejected, never replaced; a region selects between rows of the table, or requests the
    script that is used there (`pa-PK`).

    Args:
        text: a code, tag or name.
        choose_script: accept `zh` and similar texts, which can be Chinese in two scripts, as
            Simplified Chinese. If false, they are rejected: a corpus must name its script.

    Raises:
        LanguageError: the text is not a language, or is ambiguous.
    """
    suggestion = _suggestions().get(_key(text))
    if suggestion is not None and suggestion.kind == "refuse":
        raise _unknown(f"{text!r} ({suggestion.note})", _named(suggestion.languages))
    found = _candidates(text)
    if choose_script:
        found = _with_default_script(found)
    if len(found) != 1:
        raise _unknown(repr(text), found or _near(text))
    return found[0]


register_parser(parse_language)


def find_languages(text: str) -> tuple[Language, ...]:
    """Return the languages that a text may mean, or else those with the text in a code or name."""
    key = _key(text)
    suggestion = _suggestions().get(key)
    if suggestion is not None and suggestion.languages:
        return _named(suggestion.languages)
    return _candidates(text) or tuple(
        language
        for language in languages()
        if any(key in _key(name) for name in (language.code, *_names(language)))
    )


def resolution(text: str) -> str:
    """Return the resolution of `text` in one line, such as `en -> eng_Latn (English)`.

    The line contains the other scripts of the language in the table, unless `text` selects one, and
    a hint if the code is often mistaken for another language.
    """
    language = parse_language(text)
    line = f"{text} -> {language.code} ({language.name})"
    same = [other for other in languages() if other.code[:3] == language.code[:3]]
    if len(same) > 1 and "-" not in _key(text):
        line += "; also " + " and ".join(other.code for other in same if other is not language)
    suggestion = _suggestions().get(_key(text))
    if suggestion is not None and suggestion.kind == "note":
        line += f"; {suggestion.note}"
    return line


def _key(text: str) -> str:
    return " ".join(normalize("NFC", text).replace("_", "-").casefold().split())


def _names(language: Language) -> tuple[str, ...]:
    return (language.name, language.own_name, *language.aliases)


@cache
def _index() -> dict[str, tuple[Language, ...]]:
    """Return the languages by code, name and alias in the form of `_key`; some are ambiguous."""
    index: dict[str, tuple[Language, ...]] = {}
    for language in languages():
        for key in {_key(name) for name in (language.code, *_names(language))}:
            index[key] = (*index.get(key, ()), language)
    return index


def _named(codes: tuple[str, ...]) -> tuple[Language, ...]:
    return tuple(_index()[_key(code)][0] for code in codes)


def _candidates(text: str) -> tuple[Language, ...]:
    index = _index()
    key = _key(text)
    if key in index:
        return index[key]
    added = {_key(code): language for code, language in added_languages().items()}
    if key in added:
        return (added[key],)
    first, *rest = key.split("-")
    # An extended language subtag (`zh-yue`, `ar-arz`) is more specific than the one before it.
    if rest and len(rest[0]) == 3 and rest[0] in index:
        first = rest.pop(0)
    tags = _subtags(rest)
    if first not in index or not re.fullmatch("[a-z]{2,3}", first) or tags is None:
        return ()
    script, region = tags
    script = script or _region_scripts().get(f"{first}-{region}", "")
    if script:
        return index.get(f"{first}-{script}") or _in_script(text, index[first], script)
    return index.get(f"{first}-{region}") or index[first]


def _with_default_script(found: tuple[Language, ...]) -> tuple[Language, ...]:
    """Select the default script if the candidates are one language in several scripts."""
    bases = {language.code[:3] for language in found}
    default = _DEFAULT_SCRIPTS.get(next(iter(bases))) if len(bases) == 1 else None
    return tuple(one for one in found if one.code == default) or found


@cache
def _region_scripts() -> dict[str, str]:
    rows = read_table(Path(__file__).with_name("region_scripts.tsv"))
    return {_key(row["tag"]): row["script"].casefold() for row in rows}


@cache
def _suggestions() -> dict[str, _Suggestion]:
    rows = read_table(Path(__file__).with_name("suggestions.tsv"))
    return {
        row["text"]: _Suggestion(
            kind=row["kind"], languages=tuple(row["languages"].split()), note=row["note"]
        )
        for row in rows
    }


def _subtags(rest: list[str]) -> tuple[str, str] | None:
    """Return script and region of the subtags after the language; None if they are invalid."""
    variants = {v.casefold(): s.code.casefold() for s in scripts().values() for v in s.variants}
    script = region = ""
    for tag in rest:
        if len(tag) == 1:  # a singleton: extensions and private use follow
            break
        if re.fullmatch("[a-z]{4}", tag) and not script and not region:
            script = variants.get(tag, tag)
        elif re.fullmatch("[a-z]{2}|[0-9]{3}", tag) and not region:
            region = tag
        elif not re.fullmatch("[a-z0-9]{5,8}|[0-9][a-z0-9]{3}", tag):  # not a variant either
            return None
    return script, region


def _in_script(text: str, of_language: tuple[Language, ...], script: str) -> tuple[Language, ...]:
    """Return the rows of a language in a requested script; raise an error if there are none."""
    bases = {language.code[:3] for language in of_language}
    same = tuple(language for language in languages() if language.code[:3] in bases)
    found = tuple(language for language in same if language.script.casefold() == script)
    if found:
        return found
    names = " and ".join(sorted({language.name.partition(" (")[0] for language in same}))
    keys = (f"{base}-{script}" for base in sorted(bases))
    nearest = next((_suggestions()[key] for key in keys if key in _suggestions()), None)
    hint = f"; {nearest.note}: {_choice(_named(nearest.languages))}" if nearest is not None else ""
    raise LanguageError(
        f"language {text!r} asks for the script {script.capitalize()}, but {names} is in the "
        f"table only as {_choice(same)}{hint}. Use one of these, or see 'nllb languages'"
    )


def _near(text: str) -> tuple[Language, ...]:
    """Return the languages that a misspelled text may mean."""
    key = _key(text)
    first = _suggestions().get(key.partition("-")[0])
    if first is not None and first.languages:  # such as `dk-DK`
        return _named(first.languages)
    if len(key) < _MIN_LENGTH_OF_MISSPELLING:
        return ()
    near = get_close_matches(key, list(_index()), n=3, cutoff=0.6)
    return tuple(dict.fromkeys(one for name in near for one in _index()[name]))[:3]


def _unknown(shown: str, found: tuple[Language, ...]) -> LanguageError:
    question = f"; did you mean {_choice(found)}?" if found else "."
    return LanguageError(f"unknown language {shown}{question} See 'nllb languages'")


def _choice(found: tuple[Language, ...]) -> str:
    """Return `zho_Hans (Simplified) or zho_Hant (Traditional)`: names without their common part."""
    names = [language.name for language in found]
    heads = {name.partition(" (")[0] for name in names}
    if len(found) > 1 and len(heads) == 1:
        names = [name.partition(" (")[2].rstrip(")") or name for name in names]
    shown = [f"{language.code} ({name})" for language, name in zip(found, names, strict=True)]
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
