"""Plural forms of languages: the categories of CLDR and the formulas of gettext."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from gettext import c2py
from typing import Final

from babel import Locale, UnknownLocaleError
from babel.messages.plurals import get_plural

from nllb.languages import Language
from nllb.languages.tags import language_tag

from .units import Fragment, Unit

CATEGORIES: Final = ("zero", "one", "two", "few", "many", "other")
_SAMPLES: Final = range(201)
_EXAMPLES: Final = (
    *map(str, (*range(21, 100), *range(20, 0, -1), *range(101, 201), 0)),
    *("1000000", "1000", "1.5", "0.5"),
)
"""Numbers that stand for those of their category; models keep those of two digits best."""
MAX_EXAMPLES: Final = 3
_NUMBER_PLACEHOLDERS: Final = (
    re.compile(r"^#$"),
    re.compile(r"^%[\w().$+-]*[diu]$"),
    re.compile(r"(?i)count|num|total|amount|quantity|(?<![a-z])n(?![a-z])"),
)
"""Placeholders that stand for a number, the clearest first."""
_PLURAL_FORMS: Final = re.compile(r"\s*nplurals\s*=\s*([1-9])\s*;\s*plural\s*=\s*([^;]{1,400})")


@cache
def plural_categories(language: Language) -> tuple[str, ...] | None:
    """Return the categories of a language in CLDR's order; None where CLDR lacks it."""
    locale = _locale(language)
    if locale is None:
        return None
    tags = {*locale.plural_form.tags, "other"}
    return tuple(category for category in CATEGORIES if category in tags)


@dataclass(frozen=True, kw_only=True, slots=True)
class GettextPlural:
    """The plural forms of a language in gettext files.

    Attributes:
        header: the value of `Plural-Forms`.
        categories: CLDR's category of each form.
        singular: whether each form is used only for the number 1.
    """

    header: str
    categories: tuple[str, ...]
    singular: tuple[bool, ...]


@cache
def gettext_plural(language: Language, header: str | None = None) -> GettextPlural:
    """Return the plural forms of a language; by default, a singular and a plural.

    Args:
        language: the language.
        header: the value of `Plural-Forms` of a file in the language, which takes precedence.
    """
    locale = _locale(language)
    number, formula = (2, "(n != 1)") if locale is None else get_plural(locale)[:2]
    if header is not None and (match := _PLURAL_FORMS.match(header)):
        number, formula = int(match[1]), match[2].strip()
    try:
        choose = c2py(formula)
        forms = [min(choose(value), number - 1) for value in _SAMPLES]
    except (ValueError, ArithmeticError):
        return gettext_plural(language)  # the formula in the file is invalid
    found: list[Counter[str]] = [Counter() for _ in range(number)]
    members: list[list[int]] = [[] for _ in range(number)]
    for value, form in zip(_SAMPLES, forms, strict=True):
        members[form].append(value)
        found[form][_category(locale, value)] += 1
    return GettextPlural(
        header=f"nplurals={number}; plural={formula};",
        categories=tuple(counts.most_common(1)[0][0] if counts else "other" for counts in found),
        singular=tuple(values == [1] for values in members),
    )


def find_number(placeholders: Sequence[str]) -> str | None:
    """Return the placeholder of a plural text that stands for the number, if that is clear."""
    for pattern in _NUMBER_PLACEHOLDERS:
        found = [each for each in placeholders if pattern.search(each)]
        if found:
            return found[0]
    return placeholders[0] if len(placeholders) == 1 else None


@cache
def example_numbers(language: Language, category: str) -> tuple[str, ...]:
    """Return some numbers that a language counts in a category, such as 25 for `many` in Polish.

    A text with such a number is translated into the form of the category.
    """
    locale = _locale(language)
    found = [number for number in _EXAMPLES if _category(locale, float(number)) == category]
    # Neighbours such as 22 and 23 fail together, so the examples are far apart.
    return tuple(found[:: max(1, -(-len(found) // MAX_EXAMPLES))])


def _category(locale: Locale | None, value: float) -> str:
    if locale is None:
        return "one" if value == 1 else "other"
    return str(locale.plural_form(int(value) if value == int(value) else value))


@cache
def _locale(language: Language) -> Locale | None:
    tag = language_tag(language)
    for name in (tag, tag.partition("-")[0]):
        try:
            return Locale.parse(name, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class PluralSlot:
    """A place where a file accepts further plural variants of a text.

    Attributes:
        unit: the unit of the category `other`, from which new variants are translated.
        present: the categories that the file has.
        position: where new variants are inserted.
        write: writes a variant of a category with its surrounding syntax.
    """

    unit: Unit
    present: frozenset[str]
    position: int
    write: Callable[[str, Sequence[Fragment]], str]

    def missing(self, target: Language) -> list[Unit]:
        """Return the units of the target's categories that the file lacks."""
        return [
            replace(self.unit, key=self.key(category), plural_category=category)
            for category in plural_categories(target) or ()
            if category not in self.present
        ]

    def key(self, category: str) -> str:
        """Return the key of a new variant."""
        return f"{self.unit.key}@{category}"
