"""Remove what is not language from a text before its language is decided.

Addresses, markup, code and laughter consist of letters, but they say little about the language: a
long URL outweighs the sentence around it. Most texts contain none of them, so each rule is guarded
by a search for a single character.
"""

import html
import re
from typing import Final

_MARKS: Final = ("/", "@", "#", "<", "&", "`", "www.")
_URL: Final = re.compile(r"(?:\b[a-z][a-z0-9+.-]{1,9}://|\bwww\.)\S+", re.IGNORECASE)
_BARE_URL: Final = re.compile(r"\b[\w-]{1,63}(?:\.[\w-]{2,63})+/\S*|(?<!\S)/(?:[\w.-]+/)+[\w.-]*")
_EMAIL: Final = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+")
_HANDLE: Final = re.compile(r"(?<!\w)@\w+(?:@[\w.-]+)?(?:\s*:)?")
_RETWEET: Final = re.compile(r"(?<!\w)RT(?=\s*@)")
_HASHTAG: Final = re.compile(r"(?<!\w)#\w+")
_TAG: Final = re.compile(r"<!--.*?-->|</?[a-zA-Z!?][^<>]*>", re.DOTALL)
_ENTITY: Final = re.compile(r"&(?:[a-zA-Z]{2,31}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")
_CODE_SPAN: Final = re.compile(r"`[^`\n]{1,500}`")

_MIN_WORDS_WITHOUT_NAMES: Final = 3

_MAX_REPEAT_CHARACTERS: Final = 60
_REPEATED_UNIT: Final = re.compile(r"\b(\w{1,3}?)\1{2,}\w?\b")
_REPEATED_LETTER: Final = re.compile(r"([^\W\d_])\1{2,}")

_CODE_CHARACTERS: Final = "(){}[]=;|&"
_CODE_TOKEN: Final = re.compile(
    r"\w\(|\)\s*[{;:,)]|[{}=|\\]|\[(?!\d+\])|\$[a-z_{(]|[<>]\s|\w;\s*$|\d;|&&|->|::|\+\+|\w_\w|\":|\s--?[a-z]\w*"
)
_CODE_START: Final = re.compile(
    r"\s*(?:[$>]\s|(?:sudo|git|pip3?|npm|docker|curl|cd|def|class|import|#include|function)\s)"
)
_SQL: Final = re.compile(r"\b(?:SELECT\b.+\bFROM|INSERT\s+INTO|UPDATE\b.+\bSET)\b", re.DOTALL)
_MIN_CODE_TOKENS: Final = 3
_LETTERS_PER_CODE_TOKEN: Final = 12
_MAX_CODE_CHARACTERS: Final = 2000


def remove_non_language(text: str) -> str:
    """Return the text without addresses, tags, markup, code, repeated letters and laughter."""
    if any(mark in text for mark in _MARKS):
        text = _without_markup(text)
    if len(text) <= _MAX_CODE_CHARACTERS and is_code(text):
        return ""
    if len(text) <= _MAX_REPEAT_CHARACTERS:
        text = _REPEATED_LETTER.sub(r"\1\1", _REPEATED_UNIT.sub(" ", text))
    return text


def _without_markup(text: str) -> str:
    if "&" in text and _ENTITY.search(text):
        text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "`" in text:
        text = _CODE_SPAN.sub(" ", text)
    if "/" in text or "www." in text:
        text = _BARE_URL.sub(" ", _URL.sub(" ", text))
    if "@" in text:
        text = _EMAIL.sub(" ", _HANDLE.sub(" ", _RETWEET.sub(" ", text)))
    if "#" in text:
        text = _HASHTAG.sub(" ", text)
    return text


def remove_names(text: str) -> str | None:
    """Return the text without the capitalised words after the first word.

    Returns None if there are none, or if less than three words remain.
    """
    words = text.split()
    rest = [word for number, word in enumerate(words) if not number or not word[:1].isupper()]
    if len(rest) == len(words) or len(rest) < _MIN_WORDS_WITHOUT_NAMES:
        return None
    return " ".join(rest)


def is_code(text: str) -> bool:
    """Return whether a text is source code, a command or data rather than language."""
    if "SELECT" in text or "INSERT" in text or "UPDATE" in text:
        return _SQL.search(text) is not None
    if sum(map(text.count, _CODE_CHARACTERS)) < _MIN_CODE_TOKENS and "&&" not in text:
        return False
    tokens = len(_CODE_TOKEN.findall(text)) + (_CODE_START.match(text) is not None)
    if tokens < _MIN_CODE_TOKENS:
        return False
    return tokens * _LETTERS_PER_CODE_TOKEN >= sum(map(str.isalpha, text))
