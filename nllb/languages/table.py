"""The table of the languages of FLORES-200 and NLLB, and languages that were added to a model."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from nllb.errors import LanguageError
from nllb.io.text import read_table

from .scripts import UNKNOWN_SCRIPT, is_script, scripts

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

WritingDirection = Literal["ltr", "rtl"]
Level = Literal["high", "low", "very_low"]

_CODE = re.compile("[a-z]{3}_[A-Z][a-z]{3}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """One language in one script. `str(language)` is its FLORES-200 code.

    Attributes:
        code: FLORES-200 code: ISO 639-3 and ISO 15924, such as `zho_Hans`.
        name: English name, with the script if the table has the language in two scripts.
        own_name: the language's name in the language itself.
        script: ISO 15924 code of the script.
        direction: whether the script runs from left to right (`ltr`) or right to left (`rtl`).
        family: language family, for grouping.
        branch: branch of the family, for finer grouping.
        in_nllb: whether the NLLB models support it (202 of the 204 languages).
        public_bitext: public sentence pairs in NLLB's training data; 0 if no figure was published.
        terminators: characters that end a sentence; empty if the script has none.
        aliases: other codes and names of the language.
        known_issues: known errors in data sets with this label.
    """

    code: str
    name: str
    own_name: str
    script: str
    direction: WritingDirection
    family: str
    branch: str
    in_nllb: bool
    public_bitext: int
    terminators: str
    aliases: tuple[str, ...]
    known_issues: tuple[str, ...]

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
            text = getattr(value, "text", value)  # a number as it was written in YAML
            if not isinstance(text, str):
                raise PydanticCustomError("language", "expected a language, as text")
            try:
                return _parsers[-1](text)
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


_parsers: list[Callable[[str], Language]] = []


def register_parser(parser: Callable[[str], Language]) -> None:
    """Set the function by which pydantic reads languages; `nllb.languages.names` registers it."""
    _parsers.append(parser)


@cache
def languages() -> tuple[Language, ...]:
    """Return the 204 languages of FLORES-200 in the order of their codes."""
    table = tuple(map(_language, read_table(Path(__file__).with_name("languages.tsv"))))
    codes = [language.code for language in table]
    assert codes == sorted(set(codes)), "languages.tsv: codes are not sorted or not unique"
    return table


def _language(row: dict[str, str]) -> Language:
    code = row["code"]
    assert _CODE.fullmatch(code) and code[4:] == row["script"] in scripts(), row
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
        known_issues=tuple(filter(None, row["known_issues"].split("; "))),
    )


def add_languages(codes: Iterable[str]) -> None:
    """Register codes that the table lacks in this process, such as languages added to a model.

    Their direction and sentence terminators are those of the first language in the same script. A
    code that does not end in a script, such as `gsw`, has the unknown script.
    """
    listed = {language.code: language for language in languages()}
    for code in codes:
        if code not in listed:
            script = code.rpartition("_")[2]
            script = script if is_script(script) else UNKNOWN_SCRIPT
            same = (language for language in languages() if language.script == script)
            _added[code] = replace(
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
                known_issues=(),
            )


_added: dict[str, Language] = {}


def added_languages() -> Mapping[str, Language]:
    """Return the languages that this process added, by code."""
    return MappingProxyType(_added)
