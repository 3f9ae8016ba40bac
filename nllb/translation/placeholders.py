"""Placeholders: parts of a text that are not translated and that a translation must keep.

Placeholders are addresses, variables of programs and templates, subtitle codes, terms that are not
translated, and the matches of a user's regular expressions. During translation, each of them is one
private-use character, so that no rule for sentences or layout considers its content.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, get_args

import regex

from nllb.errors import ConfigError

from .literals import trim_address

PlaceholderKind = Literal["address", "variable", "code", "tag", "term", "user", "private"]
"""Kinds of placeholders. `address`: web and e-mail addresses and @names; `variable`: text that is
filled in later; `code`: invisible codes such as the position of a subtitle; `tag`: an HTML or XML
tag; `term`: a term that is not translated; `user`: a match of a user's regular expression;
`private`: a private-use character of the text."""

_KINDS: Final[dict[PlaceholderKind, str]] = {
    "private": r"[\U000F0000-\U0010FFFD]",
    "tag": r"""
        (?<!<)</?[A-Za-z][\w:.-]*+(?:\s[^<>]*=[^<>]*)?\s?/?>(?!>)
      | <!--(?:[^-]|-(?!->))*-->""",
    "address": r"""
        (?i:https?|ftp)://[^\s<>"'“”«»\U000F0000-\U0010FFFD]+
      | (?i:www)\.[^\s<>"'“”«»\U000F0000-\U0010FFFD]+
      | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
      | (?<![\w.@])@\w+""",
    "code": r"""
        \{\\[^{}]*\}                                             # {\an8} of subtitles
      | <\d{1,2}:[\d:.]+>                                        # times inside a cue
      | [♪♫]""",
    "variable": r"""
        \{\{[^{}]*\}\}                                           # {{x}}
      | [$\#]?(?<brace>\{(?:[^{}]++|(?&brace))*+\})              # {name} ${x} {n, plural, ...}
      | %(?:\(\w+\)|\{\w+\}|\d+\$)?[-+0\#]?\d*(?:\.\d+)?(?:hh?|ll?|[zjt])?[sdifuxXcpgeo@](?!\w)
      | \[X\d+X\]                                                # Weblate
      | `[^`\n]++`                                               # code in Markdown
      | (?<=\])\([^()\s]++\)                                     # the address of a Markdown link
      | &(?:\#\d{1,7}|\#x[0-9A-Fa-f]{1,6}|[A-Za-z]{2,8}\d{0,2});  # entities""",
}
# Every built-in placeholder has one of these; most texts have none.
_HINT: Final = regex.compile(r"[{%@\[\]`&♪♫<\U000F0000-\U0010FFFD]|://|(?i:www)\.")
_PRIVATE: Final = regex.compile(r"[\U000F0000-\U0010FFFD]")
MAX_EXPRESSION_CHARACTERS: Final = 1000
"""Maximum length of a user's regular expression in characters."""
MATCH_TIMEOUT_S: Final = 2.0
"""Maximum time in seconds for matching users' expressions in a text."""
FIRST_PRIVATE: Final = 0xF0000
LAST_PRIVATE: Final = 0xFFFFD
_NO_EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Placeholder:
    """A part of a text that is kept.

    Attributes:
        start: index of its first character.
        end: index after its last character.
        text: the text of the placeholder.
        kind: the kind of placeholder.
    """

    start: int
    end: int
    text: str
    kind: PlaceholderKind
    examples: tuple[str, ...] = ()
    """Numbers of the plural form that is wanted, where a number is filled in."""


class PlaceholderPattern:
    """Finds placeholders: built-in kinds, matches of a user's expressions, and terms.

    Terms are found as whole words, in their exact letter case.
    """

    def __init__(
        self,
        *,
        expressions: Sequence[str] = (),
        terms: Iterable[str] = (),
        kinds: Iterable[PlaceholderKind] = ("private", "address", "code", "variable"),
    ) -> None:
        """Compile the patterns.

        Raises:
            ConfigError: an expression is invalid, too long, or matches the empty text.
        """
        parts = [f"(?P<user>{'|'.join(f'(?:{each})' for each in expressions)})"]
        for expression in expressions:
            _check_expression(expression)
        ordered = sorted({term for term in terms if term.strip()}, key=lambda t: (-len(t), t))
        words = "|".join(map(term_pattern, ordered))
        found = [f"(?P<term>{words})"] if ordered else []
        chosen = dict.fromkeys(kinds)
        built_in = [
            f"(?P<{kind}>(?x:{pattern}\n))" for kind, pattern in _KINDS.items() if kind in chosen
        ]
        self._is_built_in = not expressions and not ordered
        self._pattern = regex.compile(
            "|".join([*(parts if expressions else []), *built_in[:1], *found, *built_in[1:]]),
            flags=regex.VERSION1,
        )

    def find(self, text: str) -> list[Placeholder]:
        """Return the placeholders of a text in order; they do not overlap.

        Raises:
            ConfigError: a user's expression takes too long.
        """
        if self._is_built_in and not _HINT.search(text):
            return []
        found = []
        position = 0
        try:
            while match := self._pattern.search(text, position, timeout=MATCH_TIMEOUT_S):
                groups = match.groupdict()
                kind = next(each for each in get_args(PlaceholderKind) if groups.get(each))
                kept = match[0]
                if kind == "address":
                    kept = trim_address(kept) or kept
                end = match.start() + len(kept)
                found.append(Placeholder(start=match.start(), end=end, text=kept, kind=kind))
                position = end
        except TimeoutError:
            raise ConfigError(
                f"the expressions for placeholders took more than {MATCH_TIMEOUT_S:g} s for a text "
                f"of {len(text):,} characters; use expressions without nested repetition"
            ) from None
        return found

    def count(self, text: str) -> Counter[str]:
        """Return the number of occurrences of each placeholder in a text, except terms."""
        return Counter(each.text for each in self.find(text) if each.kind != "term")


class Protection:
    """Maps placeholders to private-use characters, consistently for all texts of one call."""

    def __init__(self, pattern: PlaceholderPattern) -> None:
        self.pattern = pattern
        self.placeholders: dict[str, Placeholder] = {}
        """The placeholder of each character."""
        self._characters: dict[tuple[str, PlaceholderKind, tuple[str, ...]], str] = {}

    def protect(self, text: str, *, examples: Mapping[str, tuple[str, ...]] = _NO_EXAMPLES) -> str:
        """Return a text with a character in place of each placeholder.

        Args:
            text: any text.
            examples: for placeholders of numbers, numbers that may be there.
        """
        parts, done = [], 0
        for found in self.pattern.find(text):
            numbers = examples.get(found.text, ())
            parts += [text[done : found.start], self.character(found.text, found.kind, numbers)]
            done = found.end
        return "".join(parts) + text[done:] if done else text

    def character(self, text: str, kind: PlaceholderKind, examples: tuple[str, ...] = ()) -> str:
        """Return the character for a placeholder; the placeholder itself once all are taken."""
        known = self._characters.get((text, kind, examples))
        if known is None:
            known = self._new_character(text, kind, examples)
            if known is None:
                return text
            self._characters[text, kind, examples] = known
        return known

    def own_character(self, text: str, *, examples: tuple[str, ...] = ()) -> str | None:
        """Return a character that no other placeholder has; None once all are taken."""
        return self._new_character(text, "user", examples)

    def _new_character(
        self, text: str, kind: PlaceholderKind, examples: tuple[str, ...]
    ) -> str | None:
        number = FIRST_PRIVATE + len(self.placeholders)
        if number > LAST_PRIVATE:
            return None
        character = chr(number)
        self.placeholders[character] = Placeholder(
            start=0, end=len(text), text=text, kind=kind, examples=examples
        )
        return character

    def restore(self, text: str) -> str:
        """Return a text with its placeholders restored."""
        if not self.placeholders:
            return text
        return _PRIVATE.sub(self._shown, text)

    def _shown(self, match: "regex.Match[str]") -> str:
        placeholder = self.placeholders.get(match[0])
        return match[0] if placeholder is None else placeholder.text

    def signs(self, text: str) -> list[str]:
        """Return the placeholder characters of a text, in order."""
        return [sign for sign in _PRIVATE.findall(text) if sign in self.placeholders]


def _check_expression(expression: str) -> None:
    what = f"the expression {expression[:80]!r} for placeholders"
    if len(expression) > MAX_EXPRESSION_CHARACTERS:
        raise ConfigError(
            f"{what} has {len(expression):,} characters; the maximum is "
            f"{MAX_EXPRESSION_CHARACTERS:,}"
        )
    try:
        compiled = regex.compile(expression, flags=regex.VERSION1)
    except regex.error as error:
        raise ConfigError(f"{what} is not a valid regular expression: {error}") from None
    if compiled.groupindex:
        raise ConfigError(f"{what} has a named group; use groups without names: (?:...)")
    if compiled.search(""):
        raise ConfigError(f"{what} matches the empty text; it must match at least one character")


def term_pattern(term: str) -> str:
    """Return a pattern for a term as a whole word; blanks in it match any blanks."""
    words = r"\s+".join(regex.escape(word) for word in term.split())
    before = r"(?<![\p{L}\p{M}\p{N}_])" if _is_word(term.strip()[0]) else ""
    after = r"(?![\p{L}\p{M}\p{N}_])" if _is_word(term.strip()[-1]) else ""
    return f"{before}{words}{after}"


def _is_word(character: str) -> bool:
    return bool(
        regex.match(
            r"[\p{L}\p{N}_&&[^\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]]",
            character,
            flags=regex.VERSION1,
        )
    )
