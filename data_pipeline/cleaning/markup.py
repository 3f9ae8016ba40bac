"""Column expressions that resolve entities, tags and wiki markup and drop invisible characters.

Placeholders (`$1`, `%s`, `{{SITENAME}}`) are kept for the filter that compares both sides. A
template with alternatives is resolved to one of them. A line whose markup cannot be resolved is
rejected, because a broken template in training text does more harm than a lost line.
"""

import html
from typing import Final

import polars
from polars import Expr, col

_TAGS = (
    "a|abbr|b|big|blockquote|br|center|cite|code|dd|del|div|dl|dt|em|font|h[1-6]|hr|i|img|ins|kbd|"
    "li|nowiki|ol|p|pre|q|ref|s|samp|small|span|strike|strong|sub|sup|table|tbody|td|th|tr|tt|u|ul|"
    "var|wbr"
)
_TAG = rf"(?is)</?(?:{_TAGS})(?:\s[^<>]*)?/?>|<!--.*?-->"
_BLOCK_TAG = r"(?i)</?(?:br|div|p|li|ul|ol|tr|td|th|table|hr|h[1-6])(?:\s[^<>]*)?/?>"
_ENTITY = r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]+);"
# Links are resolved before the templates that may contain them. The last plural form fits most
# counts; the first gender form is the default.
_RESOLVED: Final = (
    (r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", "$1"),
    (r"\[(?:https?:)?//[^\s\[\]]+\s+([^\[\]]*)\]", "$1"),
    (r"\[\$\d+\s+([^\[\]]*)\]", "$1"),
    (r"\{\{(?i:PLURAL):[^{}|]*(?:\|[^{}|]*)*\|(?:\d+=)?([^{}|]*)\}\}", "$1"),
    (r"\{\{(?i:GENDER):[^{}|]*\|([^{}|]*)(?:\|[^{}|]*)*\}\}", "$1"),
    (r"\{\{(?i:GRAMMAR):[^{}|]*\|([^{}|]*)\}\}", "$1"),
    (r"'{2,5}", ""),
    (r"^[*#:;=]+\s*|\s*=+$", ""),
)
UNRESOLVED: Final = r"\{\{[^{}]*[|:#][^{}]*\}\}|\{\{\{|\}\}\}|\[\[|\]\]|\{\|"
"""Markup that is left after resolving; lines that contain it are rejected."""
BROKEN: Final = "\ufffd|[\ufdd0-\ufdef\ufffe\uffff]"
"""Characters that indicate that the text was damaged before it was ingested."""
# Control and invisible characters. Joiners (U+200C, U+200D) are kept: some scripts need them.
_INVISIBLE = (
    "[\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SPACES = r"\s+"


def resolve_entities(side: Expr) -> Expr:
    """Replace HTML entities with their characters."""
    return _where(side, _ENTITY, side.map_elements(html.unescape, return_dtype=polars.String))


def drop_tags(side: Expr) -> Expr:
    """Drop HTML tags and comments; tags that break a line become a space."""
    dropped = side.str.replace_all(_BLOCK_TAG, " ").str.replace_all(_TAG, "")
    return _where(side, "<", dropped)


def resolve_wiki_markup(side: Expr) -> Expr:
    """Resolve links, bold text and templates of interface messages, from the inside out."""
    for _ in range(2):
        for pattern, text in _RESOLVED:
            side = side.str.replace_all(pattern, text.replace("$1", "${1}"))
    return side


def drop_invisible(side: Expr) -> Expr:
    """Drop control and invisible characters, and replace white space with single spaces."""
    side = side.str.replace_all(_INVISIBLE, "")
    return side.str.replace_all(_SPACES, " ").str.strip_chars()


def contains(side: str, pattern: str) -> Expr:
    """Return an expression that is true where a side matches the pattern."""
    return col(side).str.contains(pattern)


def _where(side: Expr, pattern: str, changed: Expr) -> Expr:
    return polars.when(side.str.contains(pattern)).then(changed).otherwise(side)
