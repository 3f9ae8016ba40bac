"""Cut text of any language into sentences so that joining the pieces gives the text back.

Three facts carry the module:
- nothing is lost: `join(split(text, language)) == text` for every text and language;
- a line break always ends a piece, and white space never gets into the text of a piece;
- the cost is linear in the length: patterns never backtrack, look-behind is bounded.

Terminators are of two kinds. Some characters do nothing else (danda, CJK full stop, Khmer khan):
they end a sentence with or without a space after. The others (`.`, `!`, `?`, ellipsis) end one
only before white space, and by what stands around: abbreviations, initials, ordinals, letter case.
Thai and Lao write few terminators: there pieces also end at spaces, by length and nearby words.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

from nllb.languages import Language
from nllb.textio import read_table

_NEWLINES = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_BLANKS = (
    _NEWLINES + " \t\x1f\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u202f\u205f\u3000\u200b\ufeff\u2063"
)
_SOFT = ".!?…‥‼⁇⁈⁉"
_HARD = "。！？｡؟۔।॥።፧፨။៕។᱾᱿։෴꯫"
_SHADS = "།༎༏༐༑༔"
_SOFT_OF_SCRIPT = {"Grek": ";\u037e", "Armn": ":"} | dict.fromkeys(
    ("Deva", "Beng", "Guru", "Orya"), "|"
)
_CLOSERS = "\"'”’»›)\\]}」』】》〉）］｝〞〟＂＇″"
_OPENERS = "\"'“”„‟«»‘’‚‹›([{¿¡*_#—–\\-•·「『《〈【（［｛〝＂"
# After one of these the sentence that seemed to end goes on.
_CONTINUES = frozenset(",;:)]}،؛、，；：）］｝」』】》〉፣፤" + _SOFT + _HARD + _SHADS)
_BREAK = re.compile(rf"[{_NEWLINES}]++[{_BLANKS}]*+")
_LEAD = re.compile(rf"[{_BLANKS}{_OPENERS}]*+")
_MARKER = re.compile(
    rf"[{_BLANKS}]*+"
    r"(?:(?:[-+*#>|•·‣▪▫●○◦■□◆►▶➢➤✓✔–—]{1,6}|\(?(?:[0-9]{1,3}|[A-Za-z])\))"
    rf"[{_BLANKS}]++)?+"
)
_CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_SAYING = re.compile("[^。！？，、；：“「『]{0,8}?(?:说|說|道|表示|称|稱|问|問|写|寫|补充|補充)")
_QUOTING = frozenset("とっなだではがをにのもへよねか")
_REACH = 40  # characters looked at before a place; longer words are no abbreviations
_PHRASE = 24  # Thai and Lao: no piece ends at a space before this many characters
_LONG_PHRASE = 120  # ... and the next space ends it after this many
_URL = re.compile(
    r"(?:https?|ftp)://\S+|www\.\S+|[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+|@\w+"
    r"|</?[A-Za-z][^<>]{0,200}>|&#?\w{1,31};|\{[^{}]{0,200}\}|\$\w+|%(?:\(\w{1,64}\))?[sd]\b"
    r"|\b[\w-]+(?:[./\\][\w-]+)*\.(?:com|org|net|edu|gov|io|html?|pdf|docx?|xlsx?|pptx?|txt|csv"
    r"|tsv|json|xml|ya?ml|zip|gz|png|jpe?g|gif|svg|mp[34]|py|js)\b(?:/\S*)?"
)
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A piece of text to translate as one, with what stood around it."""

    text: str
    """The sentence, without white space at its ends; empty where a piece is all white space."""
    before: str = ""
    """White space before it and, at the start of a line, the mark of a list item or quotation."""
    after: str = ""
    """White space after it, with the line breaks that ended it."""

    @property
    def translatable(self) -> bool:
        """Whether there is anything to translate; otherwise the text is to be copied."""
        return translatable(self.text)

    def __str__(self) -> str:
        return self.before + self.text + self.after


def join(segments: Iterable[Segment], texts: Iterable[str] | None = None) -> str:
    """Return the text that was split, or the same with one text of `texts` for each segment."""
    if texts is None:
        return "".join(map(str, segments))
    pairs = zip(segments, texts, strict=True)
    return "".join(segment.before + text + segment.after for segment, text in pairs)


def translatable(text: str) -> bool:
    """Whether a text has letters outside addresses, file names, placeholders and markup.

    Numbers, emoji, addresses and the like are the same in every language.
    """
    return bool(_LETTER.search(text)) and bool(_LETTER.search(_URL.sub(" ", text)))


def split(text: str, language: Language) -> list[Segment]:
    """Cut a text into sentences; empty text gives no segment.

    For every text, `join(split(text, language)) == text`.
    """
    rules = _rules(language)
    lines = [0, *map(_line_start, _BREAK.finditer(text))]
    if lines[-1] < len(text):
        lines.append(len(text))
    segments = []
    for start, end in pairwise(lines):
        cuts = [start, *rules.cuts(text, start, end), end]
        segments.append(_segment(text[start : cuts[1]], starts_line=True))
        segments.extend(_segment(text[first:last]) for first, last in pairwise(cuts[1:]))
    return segments


def _line_start(match: re.Match[str]) -> int:
    """Just after the last line break of a run of white space: indentation goes with its line."""
    run = match.group()
    return match.start() + 1 + max(map(run.rfind, _NEWLINES))


def _segment(piece: str, *, starts_line: bool = False) -> Segment:
    marker = _MARKER.match(piece) if starts_line else None
    start = marker.end() if marker else len(piece) - len(piece.lstrip(_BLANKS))
    text = piece[start:].rstrip(_BLANKS)
    return Segment(text=text, before=piece[:start], after=piece[start + len(text) :])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rules:
    """What decides in one language whether a sentence ends at a place."""

    script: str
    pattern: re.Pattern[str]
    words: dict[str, frozenset[str]] = field(hash=False)

    def cuts(self, text: str, start: int, end: int) -> Iterator[int]:
        """Places within one line where a sentence begins, its first sentence left out."""
        for match in self.pattern.finditer(text, start, end):
            if match.end() < end and self._ends(text, match, start):
                start = match.end()
                yield start

    def _ends(self, text: str, match: re.Match[str], start: int) -> bool:
        signs, place = match["signs"], match.end()
        following = text[place]
        spaced = bool(match["space"] or match["late"])
        if not signs:
            return self._ends_at_space(text, match, start)
        if following in _CONTINUES:
            return False
        if signs[-1] in _SHADS:
            return not self._links(text[max(start, place - _REACH) : match.start()])
        if not set(signs).isdisjoint(_HARD):
            return spaced or not self._quotes_on(text, match)
        if not spaced:
            both = _CJK.match(following) and _CJK.match(text[match.start() - 1])
            return bool(both) and signs[-1] in "!?"
        lead = _LEAD.match(text, place)
        assert lead is not None
        first = text[lead.end() : lead.end() + 1]
        if not first or first.islower() or (signs in {":", ";"} and not first.isupper()):
            return False
        return signs != "." or self._ends_at_dot(text, match.start(), start, lead.end())

    def _ends_at_dot(self, text: str, dot: int, start: int, first: int) -> bool:
        """Whether the dot before a capital, a digit or a letter without case ends a sentence."""
        written = text[max(start, dot - _REACH) : dot].split()[-1:] or [""]
        word = written[0].lstrip(_OPENERS.replace("\\", ""))
        key = word.casefold()
        if not word:
            return True
        if key in self.words["abbreviation"]:
            return False
        if text[first].isdigit() and key in self.words["numbered"]:
            return False
        begins_line = len(text[start:dot].strip(_BLANKS)) == len(word) if dot - start < 9 else False
        if word.isdigit():
            return not begins_line and not (len(word) < 3 and self._is_ordinal(int(word)))
        parts = key.split(".")
        acronym = len(parts) > 1 and all(1 <= len(part) <= 2 for part in parts)
        if len(word) == 1 or acronym:
            if word[-1].islower():
                return True
            following = re.compile(r"\w*").match(text, first, first + _REACH)
            assert following is not None
            return following.group().casefold() in self.words["opening"]
        return True

    def _is_ordinal(self, number: int) -> bool:
        return any(number <= int(limit) for limit in self.words["ordinal"])

    def _links(self, before: str) -> bool:
        """Tibetan: whether the last syllable before a shad says that the sentence goes on."""
        syllables = before.rstrip(_SHADS + _BLANKS + "་").replace(" ", "་").split("་")
        return syllables[-1] in self.words["linking"]

    def _quotes_on(self, text: str, match: re.Match[str]) -> bool:
        """Japanese and Chinese: whether the sentence goes on after a quotation that ended in it."""
        if not match["close"]:
            return text.startswith("ល។", match.end())
        place = match.end()
        if self.script == "Jpan":
            return text[place] in _QUOTING
        return bool(_SAYING.match(text, place, place + 12))

    def _ends_at_space(self, text: str, match: re.Match[str], start: int) -> bool:
        """Thai and Lao: whether a phrase that ends at a space is to be a piece of its own."""
        place, length = match.end(), match.start() - start
        if length < _PHRASE or not text[place].isalpha() or text[place].isascii():
            return False
        before = text[max(start, match.start() - _REACH) : match.start()]
        after = text[place : place + _REACH]
        linking = tuple(self.words["linking"])
        if before[-1].isdigit() or before[-1].isascii() or before.endswith(("ๆ", *linking)):
            return False
        if after.startswith(linking):
            return False
        likely = after.startswith(tuple(self.words["opening"])) or before.endswith(
            tuple(self.words["closing"])
        )
        return likely or length > _LONG_PHRASE


@cache
def _rules(language: Language) -> _Rules:
    kinds = ("abbreviation", "numbered", "ordinal", "opening", "linking", "closing")
    words: dict[str, set[str]] = {kind: set() for kind in kinds}
    for row in read_table(Path(__file__).with_name("segmentation.tsv")):
        if {"*", language.code} & set(row["languages"].split()):
            words[row["kind"]].update(row["words"].split())
    signs = _SOFT + _HARD + _SOFT_OF_SCRIPT.get(language.script, "")
    if language.script == "Tibt":
        signs += _SHADS
    pattern = (
        rf"(?P<signs>(?:[{signs}]|፡፡)++)(?P<close>(?:[{_CLOSERS}]|\[[0-9]{{1,3}}\])*+)"
        # A closing quotation mark may stand off from the terminator: `« Bonjour. » Il ...`
        rf"(?P<space>[{_BLANKS}]*+)(?P<late>[{_CLOSERS}]++(?=[{_BLANKS},.;:]|\Z)[{_BLANKS}]*+)?+"
    )
    if language.script in {"Thai", "Laoo"}:
        pattern += rf"|[{_BLANKS}]++"
    return _Rules(
        script=language.script,
        pattern=re.compile(pattern),
        words={kind: frozenset(found) for kind, found in words.items()},
    )
