"""The scripts of the language table: their letters, how they separate words, and code points.

Only this module maps a FLORES-200 script code to Unicode scripts: `Jpan` is Han, Hiragana and
Katakana; `Hans` and `Hant` are both Han.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

import regex

from nllb.errors import LanguageError
from nllb.io.text import read_table

Spacing = Literal["words", "phrases", "syllables", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """One script.

    Attributes:
        code: ISO 15924 code, as in the second part of a FLORES-200 code.
        name: English name.
        unicode: the Unicode scripts that its letters have, by their short names.
        mixed: further Unicode scripts that its text may include, such as Han in Korean.
        common: letters that Unicode shares between scripts, such as the Japanese long vowel mark.
        spacing: the units that spaces separate: words, phrases or nothing; with `syllables`, a mark
            separates syllables, and spaces separate phrases.
        variants: ISO 15924 codes of styles and supersets of the script, such as Fraktur.
    """

    code: str
    name: str
    unicode: tuple[str, ...]
    mixed: tuple[str, ...]
    common: str
    spacing: Spacing
    variants: tuple[str, ...]

    @property
    def spaces_words(self) -> bool:
        """Whether spaces separate words."""
        return self.spacing == "words"


class ScriptRange(NamedTuple):
    """Consecutive code points of one Unicode script."""

    script: str
    """Short name of the Unicode script; `Zzzz` for any that the language table does not use."""
    first: int
    """First code point."""
    last: int
    """Last code point."""


@cache
def scripts() -> dict[str, Script]:
    """Return the scripts of the language table by their codes, in order."""
    found = {row["code"]: _script(row) for row in read_table(_table("scripts.tsv"))}
    assert list(found) == sorted(found), "scripts.tsv: the codes are not sorted"
    return found


UNKNOWN_SCRIPT = "Zzzz"
"""ISO 15924 code of an unknown script, to which any letter belongs."""


@cache
def is_script(code: str) -> bool:
    """Return whether a code is in the table or is the name of a Unicode script."""
    if code in scripts() or code in _variants():
        return True
    if not re.fullmatch("[A-Z][a-z]{3}", code):
        return False
    try:
        regex.compile(rf"\p{{Script={code}}}")
    except regex.error:
        return False
    return True


def script_of(code: str) -> Script:
    """Return a script by its code, or the one that a variant's code belongs to.

    Languages that were added to a model may have a script that the table lacks: its code is then
    used as the name of a Unicode script with spaces between words.

    Raises:
        LanguageError: the text is not a code of four letters.
    """
    key = code.capitalize()
    found = scripts().get(_variants().get(key, key))
    if found is not None:
        return found
    if not re.fullmatch("[A-Z][a-z]{3}", key):
        raise LanguageError(f"{code!r} is not a script code of four letters, such as Latn or Cyrl")
    is_unknown = key == UNKNOWN_SCRIPT
    return Script(
        code=key,
        name=key,
        unicode=() if is_unknown else (key,),
        mixed=(),
        common=r"\p{L}" if is_unknown else "",
        spacing="words",
        variants=(),
    )


def unicode_class(code: str, *, mixed: bool = False) -> str:
    """Return the characters of a script for use inside `[...]` of a pattern.

    The `regex` package and polars both understand it, `re` does not. Intersect it with `\\p{L}` for
    letters alone.

    Args:
        code: code of the script.
        mixed: include the scripts that its text may be mixed with.
    """
    script = script_of(code)
    names = script.unicode + (script.mixed if mixed else ())
    return "".join(rf"\p{{Script={name}}}" for name in names) + script.common


def unsegmented_scripts() -> tuple[str, ...]:
    """Return the codes of the scripts in which neither spaces nor marks separate words."""
    return tuple(
        code for code, script in scripts().items() if script.spacing in ("phrases", "none")
    )


@cache
def script_ranges() -> tuple[ScriptRange, ...]:
    """Return the code points of the Unicode scripts that the language table uses.

    Other scripts are `Zzzz`. The table is fixed, so that models which count scripts do not depend
    on the Unicode version of a library.
    """
    return tuple(
        ScriptRange(row["script"], int(row["first"], 16), int(row["last"], 16))
        for row in read_table(_table("script_ranges.tsv"))
    )


@cache
def _variants() -> dict[str, str]:
    return {variant: code for code, script in scripts().items() for variant in script.variants}


def _script(row: dict[str, str]) -> Script:
    assert row["spacing"] in get_args(Spacing) and row["unicode"], row
    return Script(
        code=row["code"],
        name=row["name"],
        unicode=tuple(row["unicode"].split()),
        mixed=tuple(row["mixed"].split()),
        common=row["common"],
        spacing=cast(Spacing, row["spacing"]),
        variants=tuple(row["variants"].split()),
    )


def _table(name: str) -> Path:
    return Path(__file__).with_name(name)
