"""Subtitles (SRT and WebVTT): sentences that span several cues are translated as a whole."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Final

from nllb.documents.cue_layout import MAX_COLUMNS, split_fragments, wrap_fragments
from nllb.documents.splicing import (
    InlinePiece,
    SplicedDocument,
    TextEdits,
    build_unit,
    joined,
    plain_writer,
    trim_pieces,
)
from nllb.documents.text_file import TextFile, head_text, is_text, read_text
from nllb.documents.units import CodeKind, Document, DocumentFormat, FormatOptions, Fragment, Unit
from nllb.errors import DocumentError
from nllb.languages import Language
from nllb.translation.text_width import columns

MAX_JOINED_CUES: Final = 6
MAX_GAP_MS: Final = 3000
_TIME: Final = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_TIMING: Final = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}[^\r\n]*")
_SRT_HEAD: Final = re.compile(r"\s*\d+[ \t]*\r?\n[ \t]*\d+:\d+:\d+[,.]\d+[ \t]*-->")
_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_CODE: Final = re.compile(r"</?[A-Za-z][^<>\r\n]*>|</>|<[\d:.]+>|\{\\[^{}\r\n]*\}")
_TAG: Final = re.compile(r"<(/?)([A-Za-z]+)")
_SPEAKER: Final = re.compile(r"[ \t]*[-–—‐][ \t]*")
_SENTENCE_END: Final = re.compile(r"[.!?…。！？؟۔।॥♪♫:][\"'»”’)\]]*$|[♪♫\])]$")
_ELLIPSIS: Final = re.compile(r"(?:\.\.\.|…)$")


class SrtFormat(DocumentFormat):
    """SubRip subtitles."""

    name = "srt"
    suffixes = (".srt",)
    keeps = (
        "The text of cues is translated, whole sentences at a time, in lines of 42 columns; "
        "numbers, times, positions, styles and the dashes of speakers are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is SRT, judging by its first cue or its name."""
        if not is_text(head):
            return False
        return suffix in cls.suffixes or _SRT_HEAD.match(head_text(head)) is not None

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse subtitles."""
        return SubtitleDocument(read_text(data, options), has_entities=False)


class VttFormat(DocumentFormat):
    """WebVTT subtitles."""

    name = "vtt"
    suffixes = (".vtt",)
    keeps = (
        "The text of cues is translated, whole sentences at a time, in lines of 42 columns; "
        "times, settings, voices, classes, notes, styles and regions are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is WebVTT, judging by its first word or its name."""
        if not is_text(head):
            return False
        return suffix in cls.suffixes or re.match(r"WEBVTT\b", head_text(head)) is not None

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse subtitles."""
        return SubtitleDocument(read_text(data, options), has_entities=True)


@dataclass(slots=True)
class _Turn:
    """The text of one speaker in one cue, without the codes around it."""

    cue: int
    start_ms: int
    end_ms: int
    pieces: list[InlinePiece]
    text: str
    is_first: bool
    is_last: bool
    has_dash: bool

    @property
    def start(self) -> int:
        return self.pieces[0].start

    @property
    def end(self) -> int:
        return self.pieces[-1].end


class SubtitleDocument(SplicedDocument):
    """Parsed subtitles."""

    def __init__(self, file: TextFile, *, has_entities: bool):
        super().__init__(file)
        self.has_entities = has_entities
        self.groups: dict[str, list[_Turn]] = {}
        self._units: list[Unit] = []
        turns = [turn for cue in self._cues() for turn in self._turns(*cue)]
        is_empty = has_entities or not file.text.strip()  # WebVTT needs no cues
        if not turns and "-->" not in file.text and not is_empty:
            raise DocumentError("the file has no cues: no line with a time such as 0:01 --> 0:02")
        for group in _grouped(turns):
            self._add(group)

    @property
    def units(self) -> Sequence[Unit]:
        """Sentences, which may span several cues."""
        return self._units

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return the units."""
        return self._units

    def _add(self, group: Sequence[_Turn]) -> None:
        pieces: list[InlinePiece] = []
        for turn in group:
            if pieces:
                pieces.append(InlinePiece(turn.start, turn.start, " ", " "))
            pieces += turn.pieces
        built = build_unit(pieces, plain_writer(str), key=str(len(self._units) + 1))
        if built is not None:
            unit = Unit(key=built[0].key, fragments=built[0].fragments, max_columns=MAX_COLUMNS)
            self._units.append(unit)
            self.groups[unit.key] = list(group)

    def _cues(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield number, start and end in milliseconds, and start and end of the text."""
        text = self.file.text
        position = number = 0
        while position < len(text):
            line = _LINE.match(text, position)
            assert line is not None
            timing = _TIMING.fullmatch(line[0].rstrip("\r\n"))
            position = line.end()
            if timing is None:
                continue
            start = position
            end, position = self._end_of_cue(position)
            number += 1
            yield number, _milliseconds(timing, 1), _milliseconds(timing, 5), start, end

    def _end_of_cue(self, start: int) -> tuple[int, int]:
        """Return the end of a cue's text and the next position: a blank line or a time."""
        text = self.file.text
        position = end = before = start
        while position < len(text):
            line = _LINE.match(text, position)
            assert line is not None
            body = line[0].rstrip("\r\n")
            if not body.strip():
                break
            if _TIMING.fullmatch(body):  # the blank line before the next cue is missing
                last_line = text[before:end].strip()
                if last_line.isdigit():
                    end = start + len(text[start:before].rstrip("\r\n"))
                return max(start, end), position
            before, end = position, position + len(body)
            position = line.end()
        return end, position

    def _turns(
        self, number: int, start_ms: int, end_ms: int, start: int, end: int
    ) -> Iterator[_Turn]:
        """Yield the text of each speaker in a cue."""
        bounds = [start]
        dashes = 0
        position = start
        while position < end:
            line = _LINE.match(self.file.text, position, end)
            assert line is not None
            if _SPEAKER.match(_CODE.sub("", line[0])):
                dashes += 1
                if position > start:
                    bounds.append(position)
            position = line.end()
        found = []
        for first, last in zip(bounds, [*bounds[1:], end], strict=True):
            pieces, has_dash = self._pieces(first, last)
            shown = "".join(piece.text or "" for piece in pieces).strip()
            if shown:
                found.append((pieces, shown, has_dash))
        for index, (pieces, shown, has_dash) in enumerate(found):
            yield _Turn(
                cue=number,
                start_ms=start_ms,
                end_ms=end_ms,
                pieces=pieces,
                text=shown,
                is_first=index == 0,
                is_last=index == len(found) - 1,
                has_dash=has_dash and dashes > 0,
            )

    def _pieces(self, start: int, end: int) -> tuple[list[InlinePiece], bool]:
        """Return the pieces of a turn without its edges, and whether it begins with a dash."""
        text = self.file.text
        pieces: list[InlinePiece] = []
        position = start
        for match in _CODE.finditer(text, start, end):
            pieces += self._text_pieces(position, match.start())
            tag = _TAG.match(match[0])
            kind, name = CodeKind.STANDALONE, ""
            if tag is not None:
                kind, name = CodeKind.CLOSE if tag[1] else CodeKind.OPEN, tag[2].lower()
            pieces.append(InlinePiece(match.start(), match.end(), match[0], kind=kind, name=name))
            position = match.end()
        pieces += self._text_pieces(position, end)
        pieces = trim_pieces(_merge_lines(pieces))
        if not pieces or pieces[0].kind is not None:
            return pieces, False
        dash = _SPEAKER.match(text, pieces[0].start, pieces[0].end)
        if dash is None:
            return pieces, False
        first = pieces[0]
        rest = self._text_pieces(dash.end(), first.end)
        return trim_pieces([*rest, *pieces[1:]]), True

    def _text_pieces(self, start: int, end: int) -> list[InlinePiece]:
        source = self.file.text[start:end]
        pieces: list[InlinePiece] = []
        position = start
        for part in re.split(r"(\s+)", source):
            if part:
                shown = unescape(part) if self.has_entities else part
                shown = " " if part.isspace() else shown
                pieces.append(InlinePiece(position, position + len(part), part, shown))
                position += len(part)
        return pieces

    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return the subtitles with translated cues."""
        edits = TextEdits(self.file.text)
        too_wide = 0
        for unit in self._units:
            new = translations.get(unit.key)
            if new is None or joined(new) == joined(unit.fragments):
                continue
            group = self.groups[unit.key]
            weights = _weights(group)
            for turn, part in zip(group, split_fragments(joined(new), weights), strict=True):
                lines = wrap_fragments(part)
                shown = "".join(each for each in lines if isinstance(each, str))
                too_wide += any(columns(line) > MAX_COLUMNS for line in shown.split("\n"))
                edits.replace(turn.start, turn.end, self._write(lines))
        if too_wide:
            self.warnings.append(
                f"{too_wide} cues have a line of more than {MAX_COLUMNS} columns, because they are "
                "too long for two lines"
            )
        return self.file.encode(edits.apply(), self.warnings)

    def _write(self, fragments: Sequence[Fragment]) -> str:
        def escape(text: str) -> str:
            text = re.sub(r"\n[ \t]*(?=\n)|-->", lambda m: "->" if m[0] == "-->" else "", text)
            if self.has_entities:
                text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            return text.replace("\n", self.file.newline)

        return plain_writer(escape)(fragments)


def _merge_lines(pieces: Sequence[InlinePiece]) -> list[InlinePiece]:
    """Return pieces in which a pair that is closed and reopened between lines is merged."""
    merged: list[InlinePiece] = []
    for piece in pieces:
        if piece.kind is CodeKind.OPEN and len(merged) > 1:
            close, blank = merged[-2:]
            is_close = close.kind is CodeKind.CLOSE and close.name == piece.name
            if is_close and blank.kind is None and blank.is_blank:
                source = close.source + blank.source + piece.source
                merged[-2:] = [InlinePiece(close.start, piece.end, source, " ")]
                continue
        merged.append(piece)
    return merged


def _grouped(turns: Sequence[_Turn]) -> Iterator[list[_Turn]]:
    """Join turns whose sentence continues in the next cue."""
    group: list[_Turn] = []
    for turn in turns:
        if group and not _goes_on(group[-1], turn, len(group)):
            yield group
            group = []
        group.append(turn)
    if group:
        yield group


def _goes_on(last: _Turn, following: _Turn, num_joined: int) -> bool:
    if last.cue == following.cue or not last.is_last or not following.is_first:
        return False
    if following.has_dash or num_joined >= MAX_JOINED_CUES:
        return False
    if not -MAX_GAP_MS < following.start_ms - last.end_ms <= MAX_GAP_MS:
        return False
    if following.text[0] in "♪♫[(-–—":
        return False
    if _ELLIPSIS.search(last.text):
        return following.text.lstrip(".… ")[:1].islower()
    return _SENTENCE_END.search(last.text) is None


def _weights(group: Sequence[_Turn]) -> list[float]:
    """Return the share of each cue: the mean of its shares of the time and of the text."""
    times = [max(1, turn.end_ms - turn.start_ms) for turn in group]
    lengths = [len(turn.text) for turn in group]
    return [
        time / sum(times) + length / sum(lengths)
        for time, length in zip(times, lengths, strict=True)
    ]


def _milliseconds(match: re.Match[str], group: int) -> int:
    hours, minutes, seconds, rest = (match[group + index] or "0" for index in range(4))
    whole = (int(hours[:6]) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1000 + int(rest.ljust(3, "0"))
