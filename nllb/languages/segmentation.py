"""Split text of any language into sentences; the joined sentences are the original text.

Three properties hold for every text and language:
- nothing is lost: the joined pieces are the text;
- a line break always ends a piece; white space belongs to the end of the piece before it;
- the running time is linear in the length: patterns never backtrack, look-behind is bounded.

There are two kinds of terminators. Hard ones have no other use (danda, CJK full stop, Khmer khan):
they end a sentence even without a following space. Soft ones (`.`, `!`, `?`, ellipsis) end a
sentence only before white space, and depending on context: abbreviations, initials, ordinals,
letter case. Thai and Lao have few terminators, so that pieces also end at spaces, depending on
their length and on nearby words.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from nllb.io.text import read_table

from . import Language

_NEWLINES = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_BLANKS = (
    _NEWLINES + " \t\x1f\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u202f\u205f\u3000\u200b\ufeff\u2063"
)
_SOFT = ".!?…‥‼⁇⁈⁉"
_HARD = "。！？｡؟۔।॥።፧፨။៕។᱾᱿։෴꯫"
_SHADS = "།༎༏༐༑༔"
_TSEKS = "་༌"
# Often typed instead of the correct sign: Greek and Armenian look-alikes, a bar for a danda.
_TYPED = {"Grek": "\u037e", "Armn": ":", "Deva": "|", "Beng": "|", "Guru": "|", "Orya": "|"}
# After these letters a Tibetan shad is omitted: a space has the same meaning.
_GAP_OF_SCRIPT = {"Tibt": "(?<=[གཀ])", "Thai": "", "Laoo": ""}
_CLOSERS = "\"'”’»›)\\]}」』】》〉）］｝〞〟＂＇″״༽"
_BRACKETS = "\"'“”„‟«»‘’‚‹›([{「『《〈【（［｛〝＂༼"
_OPENERS = _BRACKETS.replace("[", "\\[") + "״¿¡*_#—–\\-•·"
# Before one of these characters the sentence continues.
_CONTINUES = frozenset(",;:)]}،؛、，；：）］｝」』】》〉፣፤" + _SOFT + _HARD + _SHADS)
_BREAK = re.compile(rf"[{_NEWLINES}]++[{_BLANKS}]*+")
# Dutch and related languages begin sentences with a lower-case clitic: `'t Is`.
_LEAD = re.compile(rf"[{_BLANKS}{_OPENERS}]*+(?:(?<=['’‘])[^\W\d_]{{1,2}}[{_BLANKS}]++)?+")
_CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_SAYING = re.compile("[^。！？，、；：“「『]{0,8}?(?:说|說|道|表示|称|稱|问|問|写|寫|补充|補充)")
_QUOTING = frozenset("とっなだではがをにのもへよねか")
_WITH_LONE_INITIALS = frozenset({"Arab", "Hebr"})
_REACH = 40  # characters of context before a position; longer words are not abbreviations
_PHRASE = 24  # Thai and Lao: minimum length in characters of a piece that ends at a space
_LONG_PHRASE = {
    "Thai": 60,
    "Laoo": 120,
    "Tibt": 120,
}  # beyond it the next space or shad ends a piece
_INFORMAL = 5  # letters of a word whose full stop ends a sentence before a lower-case letter
_WORD_BREAK = re.compile(rf"[{_BLANKS}{_BRACKETS.replace('[', chr(92) + '[')}]")
_WORD = re.compile(r"\w*")
_CLAUSE = re.compile(
    rf"(?:[,;:،؛][{_CLOSERS}]*+(?=[{_BLANKS}])|[、，；：፣፤፥၊][{_CLOSERS}]*+"
    rf"|[{_BLANKS}][-–—]++(?=[{_BLANKS}]))[{_BLANKS}]*+"
)
_GAP = re.compile(rf"[{_BLANKS}]++|་")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]{0,200}>|\{[^{}]{0,200}\}")
_ADDRESS = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]{1,20}+://|www\.).*|@\w+|[\w.+-]++@[\w.-]+|&#?\w{1,31};?"
    r"|\$\w+|%(?:\(\w+\))?[sd]"
    r"|(?:[\w~:-]*+[./\\])+(?:com|org|net|edu|gov|io|html?|pdf|docx?|xlsx?|pptx?|txt|csv|tsv"
    r"|json|xml|ya?ml|zip|gz|png|jpe?g|gif|svg|mp[34]|py|js)(?:[/?#].*)?"
)
_AROUND_ADDRESS = ".,;:!?…()[]<>\"'“”„«»‘’*_、。，"


def translatable(text: str) -> bool:
    """Return whether a text has letters outside addresses, file names, placeholders and markup.

    Numbers, emoji, addresses and the like are the same in every language.
    """
    if "<" in text or "{" in text:
        text = _MARKUP.sub(" ", text)
    return any(
        any(map(str.isalpha, word)) and not _ADDRESS.fullmatch(word.strip(_AROUND_ADDRESS))
        for word in text.split()
    )


def split_sentences(
    text: str, language: Language, *, fits: Callable[[str], bool] | None = None
) -> list[str]:
    """Split a text into sentences, each with its white space; joined, they are the text.

    Args:
        text: any text; the empty text has no sentences.
        language: the language of the text.
        fits: if given, `split_long` splits the sentences that do not fit.
    """
    rules = _rules(language)
    lines = [0, *map(_line_start, _BREAK.finditer(text))]
    if lines[-1] < len(text):
        lines.append(len(text))
    cuts = [cut for start, end in pairwise(lines) for cut in (start, *rules.cuts(text, start, end))]
    pieces = [text[start:end] for start, end in pairwise([*cuts, lines[-1]])]
    if fits is None:
        return pieces
    return [part for piece in pieces for part in split_long(piece, language, fits=fits)]


def split_long(text: str, language: Language, *, fits: Callable[[str], bool]) -> list[str]:
    """Split a text into pieces that fit; joined, they are the text.

    The text is split after clauses if no short rest remains, otherwise at spaces, otherwise between
    grapheme clusters. A single cluster is never split, whether it fits or not.

    Args:
        text: any text, usually one sentence.
        language: the language of the text.
        fits: returns whether a text, stripped of white space, is short enough. If every part of a
            fitting text fits as well, the predicate reads only a few times the length of the text.
    """
    if fits(text.strip(_BLANKS)):
        return [text]
    clauses = [match.end() for match in _CLAUSE.finditer(text)]
    gaps = [match.end() for match in _GAP.finditer(text)]
    pieces: list[str] = []
    start, length = 0, 64
    while start < len(text):
        end = _longest(text, start, length, fits)
        length = max(end - start, 1)
        if end < len(text):
            rest = len(text) - start
            # The last two pieces share the rest, so that no very short piece remains.
            goal = start + rest // 2 if rest < 2 * length else end
            end = _nearest(clauses, start + length // 3, end, goal) or (
                _nearest(gaps, start + length // 3, end, goal) or _character_end(text, start, end)
            )
        pieces.append(text[start:end])
        start = end
    return pieces


def _longest(text: str, start: int, length: int, fits: Callable[[str], bool]) -> int:
    """Return where the longest fitting piece from `start` ends; search from `length` upwards."""
    low, high = start, start + length
    while high < len(text) and fits(text[start:high].strip(_BLANKS)):
        low, high = high, high + (high - start)
    high = min(high, len(text))
    if fits(text[start:high].strip(_BLANKS)):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if fits(text[start:middle].strip(_BLANKS)):
            low = middle
        else:
            high = middle
    return low


def _nearest(places: list[int], above: int, last: int, goal: int) -> int:
    """Return the place in (above, last] that is nearest to the goal, or 0."""
    found = places[bisect_right(places, above) : bisect_right(places, last)]
    return min(found, key=lambda place: abs(place - goal), default=0)


def _character_end(text: str, start: int, end: int) -> int:
    import regex  # imported here: loading it takes longer than splitting most texts

    window = text[start : end + 1]
    starts: list[int] = [start + found.start() for found in regex.finditer(r"\X", window)]
    if len(starts) > 1:
        return starts[-1]
    return end if end > start else start + 1


def _line_start(match: re.Match[str]) -> int:
    """Return the place after the last line break: indentation belongs to its line."""
    run = match.group()
    return match.start() + 1 + max(map(run.rfind, _NEWLINES))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rules:
    """The rules of one language that decide whether a sentence ends at a place."""

    script: str
    pattern: re.Pattern[str]
    words: dict[str, frozenset[str]]
    affixes: dict[str, tuple[str, ...]]

    def cuts(self, text: str, start: int, end: int) -> Iterator[int]:
        """Yield the places within a line where a sentence begins, except for the first."""
        for match in self.pattern.finditer(text, start, end):
            if match.end() < end and self._ends(text, match, start):
                start = match.end()
                yield start

    def _ends(self, text: str, match: re.Match[str], start: int) -> bool:
        signs, place = match["signs"], match.end()
        following = text[place]
        if following in _CONTINUES:
            return False
        if self.script == "Tibt" and (not signs or signs[-1] in _SHADS):
            return self._ends_at_shad(text, match, start)
        if not signs:
            return self._ends_at_space(text, match, start)
        spaced = bool(match["space"] or match["late"])
        if not set(signs).isdisjoint(_HARD):
            return spaced or not self._quotes_on(text, match)
        if not spaced:
            before = text[max(start, match.start() - 1) : match.start()]
            return bool(_CJK.match(before) and _CJK.match(following)) and signs[-1] in "!?"
        lead = _LEAD.match(text, place)
        assert lead is not None
        first = text[lead.end() : lead.end() + 1]
        if not first or (signs in {":", ";"} and not first.isupper()):
            return False
        if signs != ".":
            # A lower-case letter continues `"Stop!" he said`, but not an unquoted question.
            plain = match.end("signs") + len(match["space"]) == place == lead.end()
            return not _is_small(first) or (plain and "?" in signs)
        return self._ends_at_dot(text, match.start(), start, lead.end())

    def _ends_at_dot(self, text: str, dot: int, start: int, first: int) -> bool:
        """Return whether a full stop ends a sentence, if the next one would begin at `first`."""
        written = text[max(start, dot - _REACH) : dot]
        word = _WORD_BREAK.split(written)[-1]
        key = word.casefold()
        if not word:
            return True
        shouted = word.isupper() and len(word) > 1 and "." not in word
        # `VS. The` is not `vs.`, unless everything is in capitals: `MR. SMITH`.
        shouted = shouted and text[first + 1 : first + 2].islower()
        if key in self.words["abbreviation"] and not shouted:
            return False
        numbered = key in self.words["numbered"]
        if _is_small(text[first]):
            return len(word) >= _INFORMAL and word.isalpha() and word.islower() and not numbered
        if text[first].isdigit() and numbered:
            return False
        if word.isdecimal():
            begins_line = dot - start < _REACH and written.strip(_BLANKS) == word
            return not begins_line and not (len(word) < 3 and self._is_ordinal(int(word)))
        if len(word) == 1 and text.startswith(".", first + 1):
            return False  # initials, and abbreviations such as `z. B.`
        parts = key.split(".")
        acronym = len(parts) > 1 and all(1 <= sum(map(str.isalpha, part)) <= 2 for part in parts)
        if acronym or (len(word) == 1 and (word.isupper() or self.script in _WITH_LONE_INITIALS)):
            following = _WORD.match(text, first, first + _REACH)
            assert following is not None
            return word[0].islower() or following[0].casefold() in self.words["opening"]
        return True

    def _is_ordinal(self, number: int) -> bool:
        return any(number <= int(limit) for limit in self.words["ordinal"])

    def _ends_at_shad(self, text: str, match: re.Match[str], start: int) -> bool:
        """Return whether a shad, which also ends clauses and list items, ends a sentence."""
        before = text[max(start, match.start() - _REACH) : match.start()]
        syllables = before.rstrip(_SHADS + _BLANKS + _TSEKS)
        syllable = syllables[max(map(syllables.rfind, _TSEKS + _BLANKS)) + 1 :]
        if syllable in self.words["closing"] or "༎" in (match["signs"] or ""):
            return True
        long = match.start() - start > _LONG_PHRASE[self.script]
        return long and syllable not in self.words["linking"]

    def _quotes_on(self, text: str, match: re.Match[str]) -> bool:
        """Return whether a sentence continues after the end of a quotation inside it."""
        place = match.end()
        if self.script == "Khmr":
            return text.startswith("ល។", place)  # the sign for "and so on"
        if not match["close"]:
            return False
        if self.script == "Jpan":
            return text[place] in _QUOTING
        return bool(_SAYING.match(text, place, place + 12))

    def _ends_at_space(self, text: str, match: re.Match[str], start: int) -> bool:
        """Return whether a Thai or Lao phrase that ends at a space becomes a piece of its own."""
        place, length = match.end(), match.start() - start
        if length < _PHRASE or not text[place].isalpha() or text[place].isascii():
            return False
        before = text[max(start, match.start() - _REACH) : match.start()]
        after = text[place : place + _REACH]
        linking = self.affixes["linking"]
        if before[-1].isdigit() or before[-1].isascii() or before.endswith(("ๆ", *linking)):
            return False
        if after.startswith(linking):
            return False
        likely = after.startswith(self.affixes["opening"])
        likely = likely or before.endswith(self.affixes["closing"])
        return likely or length > _LONG_PHRASE[self.script]


def _is_small(letter: str) -> bool:
    # Unicode has Georgian capitals, but no text begins a sentence with one.
    return letter.islower() and not "\u10d0" <= letter <= "\u10ff"


@cache
def _rules(language: Language) -> _Rules:
    kinds = ("abbreviation", "numbered", "ordinal", "opening", "linking", "closing")
    words: dict[str, set[str]] = {kind: set() for kind in kinds}
    for row in read_table(Path(__file__).with_name("segmentation.tsv")):
        if {"*", language.code} & set(row["languages"].split()):
            words[row["kind"]].update(row["words"].split())
    signs = _SOFT + _HARD + language.terminators + _TYPED.get(language.script, "")
    pattern = (
        rf"(?P<signs>(?:[{signs}]|፡፡)++)"
        # Opening quotation marks of one language are closing ones in another: „Ja.“ Er ...
        rf"(?P<close>(?:[{_CLOSERS}]|[“‘«‹](?=[{_BLANKS}]|\Z)|\[[0-9]{{1,3}}\])*+)"
        # A space may separate a closing quotation mark from the terminator: `« Bonjour. » Il ...`
        rf"(?P<space>[{_BLANKS}]*+)(?P<late>[{_CLOSERS}]++(?=[{_BLANKS},.;:]|\Z)[{_BLANKS}]*+)?+"
    )
    if language.script in _GAP_OF_SCRIPT:
        pattern += rf"|{_GAP_OF_SCRIPT[language.script]}[{_BLANKS}]++"
    return _Rules(
        script=language.script,
        pattern=re.compile(pattern),
        words={kind: frozenset(found) for kind, found in words.items()},
        affixes={kind: tuple(sorted(found)) for kind, found in words.items()},
    )
