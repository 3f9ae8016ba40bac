"""Literals: parts of a source that its translation must repeat unchanged.

Literals are web and e-mail addresses, @names, placeholders, tags and numbers. This module does not
protect them from the model; it reports those that an output lacks.
"""

import unicodedata
from collections import Counter
from typing import Final

import regex

LITERAL: Final = regex.compile(
    r"""(?i:https?|ftp)://[^\s<>"'“”«»]+ | (?i:www)\.[^\s<>"'“”«»]+       # web addresses
      | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                                # e-mail addresses
      | (?<![\w.@])@\w+                                             # @names
      | \{\{[^{}]*\}\} | \$?\{[^{}\s]*\}                            # {name}, ${name}, {{a.b}}
      | %(?:\(\w+\)|\d+\$)?[-+0\#]?\d*(?:\.\d+)?[sdifxX@](?!\w)     # %s, %1$s, %(name)s, %.2f
      | (?<!<)</?[A-Za-z][\w:-]*+(?:\s[^<>]*=[^<>]*)?\s?/?>(?!>)   # tags
    """,
    flags=regex.VERBOSE | regex.VERSION1,
)
_AFTER_ADDRESS: Final = ".,;:!?)]}'"
# Digits with separators between groups: 1,000 1.000 1 000 1'000 18:30
_NUMBER: Final = regex.compile(r"\p{Nd}+(?:[.,'’:\u00a0\u202f\u066b\u066c ]\p{Nd}+)*")
_THOUSANDS: Final = regex.compile(r"\p{Nd}{1,3}(?:[.,'’\u00a0\u202f\u066c ]\p{Nd}{3})+")
_DIGITS: Final = regex.compile(r"\p{Nd}+")
MIN_ROUNDED_DIGITS: Final = 5
"""Numbers with this many digits may be written with a word for their last zeros (20,000: 2万)."""


def find_literals(text: str) -> list[str]:
    """Return the addresses, @names, placeholders and tags of a text, in order."""
    found = []
    for match in LITERAL.finditer(text):
        literal = match[0]
        found.append(trim_address(literal))
    return found


def trim_address(literal: str) -> str:
    """Return a web address without the punctuation that follows it."""
    is_address = literal.lower().startswith(("http", "ftp", "www"))
    return literal.rstrip(_AFTER_ADDRESS) if is_address else literal


def missing_literals(source: str, output: str) -> tuple[str, ...]:
    """Return the literals of the source that the output lacks or has less often."""
    return tuple(
        literal
        for literal, count in Counter(find_literals(source)).items()
        if output.count(literal) < count
    )


def missing_numbers(source: str, output: str) -> tuple[str, ...]:
    """Return the numbers of two or more digits that the output lacks, in the source's form.

    Whole numbers are compared: 12 is not found in 2012. Digits of all scripts are equal, and
    separators are ignored. From 10,000 on, the digits before the final zeros suffice, because many
    languages write the zeros as a word.
    """
    present = _written_numbers(output)
    missing = []
    for number in _NUMBER.findall(source):
        digits = _digits(number)
        if len(digits) < 2:
            continue
        accepted = {digits}
        if len(digits) >= MIN_ROUNDED_DIGITS:
            accepted.add(digits.rstrip("0"))
        # "18:10" may have become "18h10", and "2 500" may be two numbers side by side.
        parts = [_digits(part) for part in _DIGITS.findall(number)]
        in_parts = len(parts) > 1 and present.issuperset(parts)
        if not in_parts and present.isdisjoint(accepted):
            missing.append(number)
    return tuple(missing)


def _written_numbers(text: str) -> set[str]:
    """Return the digits of each number in a text, and of each group that may be a number."""
    numbers = set()
    for number in _NUMBER.findall(text):
        digits = _digits(number)
        numbers |= {digits, digits.rstrip("0")} if len(digits) >= MIN_ROUNDED_DIGITS else {digits}
        if not _THOUSANDS.fullmatch(number):
            numbers.update(_digits(group) for group in _DIGITS.findall(number))
    return numbers


def _digits(number: str) -> str:
    return "".join(str(unicodedata.decimal(c)) for c in number if c.isdecimal())
