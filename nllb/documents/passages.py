"""Paragraphs of runs, in which formatting is stored run by run, as in Office files.

A format reports a paragraph as tokens in order: text with a style, single codes, and tags around
other tokens. A passage joins runs of one style, represents the style of most characters without
codes, and encloses text in any other style in a pair of codes. Translated fragments are converted
back to tokens, which the format writes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nllb.errors import DocumentError

from .splicing import WHITE, WHITE_RUN, InlinePiece, build_unit, has_letters, plain_writer
from .units import CodeKind, Fragment, InlineCode, Unit
from .xml_spans import XmlElement, escape_text


@dataclass(frozen=True, slots=True)
class Style:
    """The formatting of a run.

    Attributes:
        key: the formatting as written, without invisible properties; equal keys look equal.
        run: the first element with this formatting.
    """

    key: str
    run: XmlElement


@dataclass(frozen=True, slots=True)
class Text:
    """Text in a style; formats that mark formatting with tags have no styles.

    Attributes:
        text: the text.
        style: its style, or None.
        is_virtual: whether it is a blank that is not in the file, for example at a line break.
    """

    text: str
    style: Style | None = None
    is_virtual: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """A piece of the source that is kept unchanged.

    Attributes:
        start: start of the piece in the source.
        end: end of the piece in the source.
        label: description of the piece.
        shown: text that is displayed in this place.
        style: the style of the run that it must be in; None places it between runs.
        is_space: whether it separates words, like a tab or a line break.
        parts: the tokens of a code that consists of several pieces of the source.
    """

    start: int
    end: int
    label: str
    shown: str | None = None
    style: Style | None = None
    is_space: bool = False
    parts: tuple["Token", ...] = ()


@dataclass(frozen=True, slots=True)
class Tag:
    """The start or the end of something around other tokens.

    Attributes:
        start: start of the tag in the source.
        end: end of the tag in the source.
        label: description of the tag.
        kind: whether it opens or closes.
        name: common name of the start and the end, which is unique in the passage.
        is_mark: whether it is an independent point, such as the start of a bookmark, that need not
            nest.
        parts: the tokens of a tag that consists of several pieces of the source.
    """

    start: int
    end: int
    label: str
    kind: CodeKind
    name: str
    is_mark: bool = False
    parts: tuple["Token", ...] = ()


Token = Text | Code | Tag


@dataclass(frozen=True, slots=True)
class _StyleTag:
    """The start or end of text in a style that differs from the surrounding one."""

    style: Style | None
    kind: CodeKind
    name: str


_Item = Text | Code | Tag | _StyleTag
_ANY_STYLE: Final = "\n"


class StyledPassage:
    """A paragraph with its unit, and the conversion of translated fragments to tokens.

    Attributes:
        unit: the unit; None if the paragraph has no letters.
    """

    def __init__(
        self, tokens: Sequence[Token], *, key: str, preserve_layout: bool = False, note: str = ""
    ) -> None:
        self.unit: Unit | None = None
        self._plain: tuple[str, Text, str] | None = None
        plain = _one_text(tokens)
        if plain is not None:
            self._set_plain(plain, Unit(key=key, fragments=(), note=note), preserve_layout)
            return
        self._items, self._bases = _plan(_nested(tokens))
        pieces = [_piece(index, item) for index, item in enumerate(self._items)]
        built = build_unit(
            pieces, plain_writer(escape_text), key=key, preserve_layout=preserve_layout, note=note
        )
        if built is not None:
            self.unit, span = built
            self._first, self._last, self._codes = span.start, span.end, span.codes

    def _set_plain(self, text: Text, unit: Unit, preserve_layout: bool) -> None:
        """Set the unit of a paragraph that is a single text, as most are."""
        core = text.text.strip(WHITE)
        if has_letters([core]):
            lead, _, trail = text.text.partition(core)
            self._plain, self._codes = (lead, text, trail), {}
            shown = core if preserve_layout else WHITE_RUN.sub(" ", core)
            self.unit = replace(unit, fragments=(shown,), preserve_layout=preserve_layout)

    def tokens(self, fragments: Sequence[Fragment]) -> list[Token]:
        """Return the tokens of the paragraph with translated fragments.

        Raises:
            DocumentError: The fragments lack a code of the unit, or contain one twice.
        """
        assert self.unit is not None
        self._check(fragments)
        if self._plain is not None:
            lead, text, trail = self._plain
            new = "".join(part for part in fragments if isinstance(part, str))
            return [replace(text, text=f"{lead}{new}{trail}")]
        result = list(_tokens(self._items[: self._first]))
        styles = self._styles_before(self._first)
        for fragment in fragments:
            if isinstance(fragment, str):
                result.append(Text(fragment, styles[-1]))
                continue
            index = self._codes[fragment.number, fragment.kind]
            item = self._items[index]
            if isinstance(item, Tag | _StyleTag):
                if item.kind is CodeKind.OPEN:
                    styles.append(item.style if isinstance(item, _StyleTag) else self._bases[index])
                else:
                    styles.pop()
            result += _tokens([item])
        result += _tokens(self._items[self._last :])
        return list(_tidy(_flat(result)))

    def _check(self, fragments: Sequence[Fragment]) -> None:
        got = [(part.number, part.kind) for part in fragments if isinstance(part, InlineCode)]
        waiting: list[int] = []
        nested = True
        for number, kind in got:
            if kind is CodeKind.OPEN:
                waiting.append(number)
            elif kind is CodeKind.CLOSE:
                nested = nested and bool(waiting) and waiting.pop() == number
        if not nested or Counter(got) != Counter(self._codes.keys()):
            assert self.unit is not None
            raise DocumentError(
                f"the translation of unit {self.unit.key} must contain each inline code of the "
                "unit once, with opening and closing codes nested"
            )

    def _styles_before(self, end: int) -> list[Style | None]:
        styles = [self._bases[-1]]
        for index, item in enumerate(self._items[:end]):
            if isinstance(item, Tag | _StyleTag):
                if item.kind is CodeKind.OPEN:
                    styles.append(item.style if isinstance(item, _StyleTag) else self._bases[index])
                else:
                    styles.pop()
        return styles


def _one_text(tokens: Sequence[Token]) -> Text | None:
    """Return all tokens as one text, if they are text in one style."""
    first = tokens[0] if tokens else None
    if not isinstance(first, Text):
        return None
    if len(tokens) == 1:
        return first
    parts: list[str] = []
    for token in tokens:
        if not isinstance(token, Text) or not _looks_equal(token.style, first.style):
            return None
        parts.append(token.text)
    return replace(first, text="".join(parts))


def _nested(tokens: Sequence[Token]) -> list[Token]:
    """Return tokens with nested tags; marks that cross other tags become single codes."""
    closed: set[int] = set()
    waiting: list[tuple[int, Tag]] = []
    for index, token in enumerate(tokens):
        if not isinstance(token, Tag):
            continue
        if token.kind is CodeKind.OPEN:
            waiting.append((index, token))
            continue
        for depth in range(len(waiting) - 1, -1, -1):
            place, opened = waiting[depth]
            if opened.name == token.name:
                closed |= {place, index}
                del waiting[depth:]
                break
            if not opened.is_mark:
                break
    return [
        Code(token.start, token.end, token.label, parts=token.parts)
        if isinstance(token, Tag) and index not in closed
        else token
        for index, token in enumerate(tokens)
    ]


def _plan(tokens: Sequence[Token]) -> tuple[list[_Item], dict[int, Style | None]]:
    """Return the items of a passage, and the style of each tag's own text (-1: of the passage).

    Text in a style that differs from most of the surrounding text is enclosed in style tags.
    """
    tokens = list(_with_blanks(_merged_codes(tokens)))
    levels = _base_styles(tokens)
    items: list[_Item] = []
    bases: dict[int, Style | None] = {-1: levels[-1]}
    open_levels = [levels[-1]]
    stretch: _StyleTag | None = None
    stretch_end = 0

    def close_stretch() -> None:
        nonlocal stretch
        if stretch is not None:
            items.insert(stretch_end, replace(stretch, kind=CodeKind.CLOSE))
            stretch = None

    for index, token in enumerate(tokens):
        if isinstance(token, Text) and not token.text.strip():
            items.append(token)  # blanks look the same in most styles
            continue
        if isinstance(token, Text):
            if stretch is None or not _looks_equal(stretch.style, token.style):
                close_stretch()
                if not _looks_equal(token.style, open_levels[-1]):
                    stretch = _StyleTag(token.style, CodeKind.OPEN, f"style {index}")
                    items.append(stretch)
            items += _split(token)
            stretch_end = len(items)
            continue
        if isinstance(token, Tag):
            close_stretch()
            if token.kind is CodeKind.OPEN:
                bases[len(items)] = levels[index]
                open_levels.append(levels[index])
            else:
                open_levels.pop()
        items.append(token)
    close_stretch()
    return items, bases


def _base_styles(tokens: Sequence[Token]) -> dict[int, Style | None]:
    """Return the style of most characters inside each opening tag, by its index (-1: all)."""
    counts: dict[int, Counter[str]] = {-1: Counter()}
    styles: dict[str, Style | None] = {}
    parents: dict[int, int] = {}
    levels = [-1]
    for index, token in enumerate(tokens):
        if isinstance(token, Text):
            key = _ANY_STYLE if token.style is None else token.style.key
            styles.setdefault(key, token.style)
            counts[levels[-1]][key] += len(token.text.strip())
        elif isinstance(token, Tag) and token.kind is CodeKind.OPEN:
            parents[index] = levels[-1]
            levels.append(index)
            counts[index] = Counter()
        elif isinstance(token, Tag):
            levels.pop()
    first = next(iter(styles.values()), None)
    result: dict[int, Style | None] = {}
    for level, count in counts.items():  # parents precede their content
        if count:
            result[level] = styles[max(count, key=count.__getitem__)]
        else:
            result[level] = result[parents[level]] if level in parents else first
    return result


def _merged_codes(tokens: Sequence[Token]) -> Iterator[Token]:
    """Merge adjacent single codes."""
    waiting: list[Code] = []
    for token in tokens:
        if isinstance(token, Code):
            waiting.append(token)
            continue
        yield from _one_code(waiting)
        waiting = []
        yield token
    yield from _one_code(waiting)


def _one_code(codes: Sequence[Code]) -> Iterator[Code]:
    if len(codes) <= 1:
        yield from codes
        return
    shown = [code.shown for code in codes if code.shown]
    yield Code(
        codes[0].start,
        codes[-1].end,
        "".join(code.label for code in codes),
        "".join(shown) if shown else None,
        is_space=any(code.is_space for code in codes),
        parts=tuple(codes),
    )


def _with_blanks(tokens: Iterable[Token]) -> Iterator[Token]:
    """Add blanks at codes that separate words, so that the translator does not join the words."""
    shown, separates = " ", False
    for token in tokens:
        if isinstance(token, Text) and token.text:
            if separates and not (shown[-1].isspace() or token.text[0].isspace()):
                yield Text(" ", token.style, is_virtual=True)
            shown, separates = token.text, False
        elif isinstance(token, Code) and token.is_space:
            separates = True
        yield token


def _looks_equal(one: Style | None, other: Style | None) -> bool:
    return (one and one.key) == (other and other.key)


def _split(token: Text) -> Iterator[Text]:
    """Yield the blanks around a text separately, so that they can stay outside the unit."""
    core = token.text.strip(WHITE)
    if token.is_virtual or not core:
        yield token
        return
    lead = token.text[: len(token.text) - len(token.text.lstrip(WHITE))]
    for part in (lead, core, token.text[len(lead) + len(core) :]):
        if part:
            yield replace(token, text=part)


def _piece(index: int, item: _Item) -> InlinePiece:
    """Return a piece for `build_unit`; its positions are those in the list of items."""
    if isinstance(item, Text):
        return InlinePiece(index, index + 1, item.text, item.text)
    if isinstance(item, Code):
        return InlinePiece(index, index + 1, item.label, item.shown, CodeKind.STANDALONE)
    label = item.label if isinstance(item, Tag) else item.style.key if item.style else ""
    return InlinePiece(index, index + 1, label, kind=item.kind, name=item.name)


def _tokens(items: Iterable[_Item]) -> Iterator[Token]:
    for item in items:
        if not (isinstance(item, _StyleTag) or (isinstance(item, Text) and item.is_virtual)):
            yield item


def _flat(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        if not isinstance(token, Text) and token.parts:
            yield from _flat(token.parts)
        else:
            yield token


def _tidy(tokens: Iterable[Token]) -> Iterator[Token]:
    """Join texts of one style, and omit blanks next to codes that separate words."""
    before: Text | None = None
    after_space = False
    for token in tokens:
        if isinstance(token, Text):
            text = token.text.lstrip(" ") if after_space else token.text
            if not text:
                continue
            after_space = False
            if before is not None and _looks_equal(before.style, token.style):
                before = replace(before, text=before.text + text)
            else:
                if before is not None:
                    yield before
                before = replace(token, text=text)
            continue
        is_space = isinstance(token, Code) and token.is_space
        if before is not None:
            text = before.text.rstrip(" ") if is_space else before.text
            if text:
                yield replace(before, text=text)
            before = None
        after_space = is_space or (after_space and isinstance(token, Tag))
        yield token
    if before is not None:
        yield before
