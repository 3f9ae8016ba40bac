"""The languages of FLORES-200 and NLLB, and the way from what a person writes to one of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unicodedata import normalize

from nllb.errors import LanguageError
from nllb.io.text import read_table

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

Direction = Literal["ltr", "rtl"]
Level = Literal["high", "low", "very_low"]

_CODE = re.compile("[a-z]{3}_[A-Z][a-z]{3}")
# ISO 15924 codes that name a style or a superset of a script of the table.
_SCRIPT_VARIANTS = {
    "aran": "arab",
    "cyrs": "cyrl",
    "kore": "hang",
    "latf": "latn",
    "latg": "latn",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """One language in one script. `str(language)` is its FLORES-200 code."""

    code: str
    """FLORES-200 code: ISO 639-3 and ISO 15924, such as `zho_Hans`."""
    name: str
    """English name, with the script where the language has two."""
    own_name: str
    """The language's name in itself."""
    script: str
    """ISO 15924 code of the script."""
    direction: Direction
    """Whether the script runs from left to right or from right to left."""
    family: str
    """Language family, for grouping."""
    branch: str
    """Branch of the family, for finer grouping."""
    in_nllb: bool
    """Whether the NLLB models know it (202 of the 204 do)."""
    public_bitext: int
    """Public sentence pairs in NLLB's training data; 0 where no figure was published."""
    terminators: str
    """Characters that end a sentence; empty where the script writes none."""
    aliases: tuple[str, ...]
    """Other codes and names that lead here."""
    faults: tuple[str, ...]
    """Known faults of data sets under this label."""

    def __str__(self) -> str:
        return self.code

    def __hash__(self) -> int:
        return hash(self.code)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> "CoreSchema":
        """Let pydantic read a language from any of its codes and names, and write its code."""
        from pydantic_core import PydanticCustomError, core_schema

        def parse(value: object) -> Language:
            if isinstance(value, Language):
                return value
            text = getattr(value, "text", value)
            if not isinstance(text, str):
                raise PydanticCustomError("language", "expected a language, as text")
            try:
                return parse_language(text)
            except LanguageError as error:
                raise PydanticCustomError("language", "{reason}", {"reason": str(error)}) from None

        return core_schema.no_info_plain_validator_function(
            parse, serialization=core_schema.to_string_ser_schema()
        )

    @property
    def level(self) -> Level:
        """Resource level: high from 1 M public pairs (the NLLB paper's rule), low from 100 k."""
        if self.public_bitext >= 1_000_000:
            return "high"
        return "low" if self.public_bitext >= 100_000 else "very_low"


@cache
def languages() -> tuple[Language, ...]:
    """Return the 204 languages of FLORES-200 in the order of their codes."""
    table = tuple(map(_language, read_table(Path(__file__).with_name("languages.tsv"))))
    codes = [language.code for language in table]
    assert codes == sorted(set(codes)), "languages.tsv: codes are not sorted or not unique"
    return table


def _language(row: dict[str, str]) -> Language:
    code = row["code"]
    assert _CODE.fullmatch(code) and code[4:] == row["script"], row
    assert row["name"] and row["own_name"] and row["family"] and row["branch"], row
    assert row["direction"] in {"ltr", "rtl"} and row["nllb"] in {"yes", "no"}, row
    return Language(
        code=code,
        name=row["name"],
        own_name=row["own_name"],
        script=row["script"],
        direction="rtl" if row["direction"] == "rtl" else "ltr",
        family=row["family"],
        branch=row["branch"],
        in_nllb=row["nllb"] == "yes",
        public_bitext=int(row["public_bitext"]),
        terminators=row["terminators"],
        aliases=tuple(filter(None, row["aliases"].split(", "))),
        faults=tuple(filter(None, row["faults"].split("; "))),
    )


def add_languages(codes: Iterable[str]) -> None:
    """Make codes known to this process that the table lacks: what a model was taught besides.

    Direction and ends of sentences are those of the first language in the same script.
    """
    listed = {language.code: language for language in languages()}
    for code in codes:
        if code not in listed:
            script = code.rpartition("_")[2]
            same = (language for language in languages() if language.script == script)
            _added[_key(code)] = replace(
                next(same, listed["eng_Latn"]),
                code=code,
                name=code,
                own_name=code,
                script=script,
                family="",
                branch="",
                in_nllb=False,
                public_bitext=0,
                aliases=(),
                faults=(),
            )


_added: dict[str, Language] = {}


@cache
def parse_language(text: str) -> Language:
    """Return the language that a code, tag or name stands for; `resolution` says which it was.

    Accepts FLORES-200 codes in any case with `_` or `-`, ISO 639-1, -2 and -3, BCP-47 tags with
    script and region (`pt-BR`, `zh-Hant-HK`), English names and own names. A script that is asked
    for is kept or refused, never replaced; a region chooses between rows of the table, or asks for
    the script that is written there (`pa-PK`).

    Raises:
        LanguageError: the text stands for none or for more than one language.
    """
    found = _candidates(text)
    if len(found) == 1:
        return found[0]
    if not found:
        index = _index()
        near = get_close_matches(_key(text), list(index), n=3, cutoff=0.6)
        found = tuple(dict.fromkeys(language for key in near for language in index[key]))[:3]
    question = f"; did you mean {_choice(found)}?" if found else "."
    raise LanguageError(f"unknown language {text!r}{question} See 'nllb languages'")


def find_languages(text: str) -> tuple[Language, ...]:
    """Return the languages that a text may stand for, else those whose codes or names hold it."""
    exact = _candidates(text)
    key = _key(text)
    return exact or tuple(
        language
        for language in languages()
        if any(key in _key(name) for name in (language.code, *_names(language)))
    )


def resolution(text: str) -> str:
    """Return one line that says what `text` stands for, such as `en -> eng_Latn (English)`.

    It names the other scripts that the table has the language in, unless `text` chose one.
    """
    language = parse_language(text)
    note = f"{text} -> {language.code} ({language.name})"
    same = [other for other in languages() if other.code[:3] == language.code[:3]]
    if len(same) > 1 and "-" not in _key(text):
        note += "; also " + " and ".join(other.code for other in same if other is not language)
    return note


def _key(text: str) -> str:
    return " ".join(normalize("NFC", text).replace("_", "-").casefold().split())


def _names(language: Language) -> tuple[str, ...]:
    return (language.name, language.own_name, *language.aliases)


@cache
def _index() -> dict[str, tuple[Language, ...]]:
    """Every code, name and alias in the form of `_key`; several languages where ambiguous."""
    index: dict[str, tuple[Language, ...]] = {}
    for language in languages():
        for key in {_key(name) for name in (language.code, *_names(language))}:
            index[key] = (*index.get(key, ()), language)
    return index


def _candidates(text: str) -> tuple[Language, ...]:
    index = _index()
    key = _key(text)
    if key in index:
        return index[key]
    if key in _added:
        return (_added[key],)
    first, *rest = key.split("-")
    # An extended language subtag (`zh-yue`, `ar-arz`) says more than the one before it.
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


@cache
def _region_scripts() -> dict[str, str]:
    rows = read_table(Path(__file__).with_name("region_scripts.tsv"))
    return {_key(row["tag"]): row["script"].casefold() for row in rows}


def _subtags(rest: list[str]) -> tuple[str, str] | None:
    """Script and region of the subtags after the language, empty if absent; None if ill-formed."""
    script = region = ""
    for tag in rest:
        if len(tag) == 1:  # a singleton: extensions and private use follow
            break
        if re.fullmatch("[a-z]{4}", tag) and not script and not region:
            script = _SCRIPT_VARIANTS.get(tag, tag)
        elif re.fullmatch("[a-z]{2}|[0-9]{3}", tag) and not region:
            region = tag
        elif not re.fullmatch("[a-z0-9]{5,8}|[0-9][a-z0-9]{3}", tag):  # not a variant either
            return None
    return script, region


def _in_script(text: str, of_language: tuple[Language, ...], script: str) -> tuple[Language, ...]:
    bases = {language.code[:3] for language in of_language}
    same = tuple(language for language in languages() if language.code[:3] in bases)
    found = tuple(language for language in same if language.script.casefold() == script)
    if not found:
        names = " and ".join(sorted({language.name.partition(" (")[0] for language in same}))
        raise LanguageError(
            f"language {text!r} asks for the script {script.capitalize()}, but {names} is in the "
            f"table only as {_choice(same)}. Name one of these, or see 'nllb languages'"
        )
    return found


def _choice(found: tuple[Language, ...]) -> str:
    """`zho_Hans (Simplified) or zho_Hant (Traditional)`: names without the part they share."""
    names = [language.name for language in found]
    heads = {name.partition(" (")[0] for name in names}
    if len(found) > 1 and len(heads) == 1:
        names = [name.partition(" (")[2].rstrip(")") or name for name in names]
    shown = [f"{language.code} ({name})" for language, name in zip(found, names, strict=True)]
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
