"""Markdown: headings, paragraphs, lists and tables; code, links and HTML blocks are kept."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from nllb.documents.formats.yaml_messages import scalar_writer, yaml_scalars
from nllb.documents.markdown_spans import Passage, markdown_passages
from nllb.documents.prose import is_chosen
from nllb.documents.splicing import Piece, SplicedDocument
from nllb.documents.text_file import TextFile, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment
from nllb.errors import DocumentError

FRONT_MATTER_KEYS: Final = (
    "title subtitle description summary abstract excerpt headline tagline caption alt "
    "sidebar_label linkTitle".split()
)
_FRONT_MATTER: Final = re.compile(
    r"---[ \t]*(\r\n|\n)(.*?)(?:\r\n|\n)(?:---|\.\.\.)[ \t]*(?:\r\n|\n|$)", re.DOTALL
)
_KEPT: Final = re.compile(r"\s*(?::::|!!!|\?\?\?|\{%|\{\{|\[TOC\]|\$\$|import\s|export\s|</?[A-Z])")
_SPECIAL: Final = re.compile(
    r"""\\(?=[!-/:-@\[-`{-~])      # a backslash that would escape something
    | `                            # code
    | (?<=\S)\* | \*(?=\S)         # emphasis
    | (?<![^\W_])_ | _(?![^\W_])
    | ~(?=~)
    | <(?=[A-Za-z/!?])             # a tag
    | \](?=[(\[:])                 # a link
    | &(?=\#?\w+;)                 # a reference
    """,
    re.VERBOSE,
)
_BLOCK_START: Final = re.compile(
    r"(\s*)(?:(\d+)(?=[.)](?:\s|$))|(?=(?:[-+*>]|\#{1,6})(?:\s|$))|(?=>|~~~|=+\s*$|-+\s*$|\|))"
)


class MarkdownFormat(DocumentFormat):
    """Markdown."""

    name = "md"
    suffixes = (".md", ".markdown", ".mkd")
    keeps = (
        "Headings, paragraphs, lists, tables, alternative texts and titles in the front matter are "
        "translated; code, links, link definitions, HTML blocks and all marks are kept."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is Markdown by its name."""
        return suffix in cls.suffixes and is_text(head)

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a text."""
        return MarkdownDocument(read_text(data, options), options)


class MarkdownDocument(SplicedDocument):
    """A parsed text."""

    def __init__(self, file: TextFile, options: FormatOptions):
        super().__init__(file)
        text = file.text
        if matter := _FRONT_MATTER.match(text):
            self._front_matter(matter.start(2), matter[2], options.keys or FRONT_MATTER_KEYS)
            blank = re.sub(r"[^\r\n]", " ", matter[0])
            text = re.sub(r"[^\r\n]+", "", blank) + text[matter.end() :]
        removed = len(file.text) - len(text)
        lost = 0
        for passage in markdown_passages(text):
            if passage is None:
                lost += 1
            elif not _is_kept(passage):
                self._add(_moved(passage, removed) if removed else passage)
        if lost:
            self.warnings.append(f"{lost} passages were kept: their markup could not be located")

    def _add(self, passage: Passage) -> None:
        write = _writer(passage)
        inside: list[str] = []
        for start, end, alt in passage.images:
            unit = self.spans.add([Piece(start, end, alt, alt)], _write_alt, note="image")
            if unit is not None:
                inside.append(unit.key)
        self.spans.add(passage.pieces, write, inside=inside)

    def _front_matter(self, start: int, source: str, keys: Sequence[str]) -> None:
        try:
            scalars = [scalar for scalar in yaml_scalars(source) if not scalar.is_key]
        except DocumentError:
            self.warnings.append("the front matter is not valid YAML and was kept")
            return
        for scalar in scalars:
            if not scalar.path or not is_chosen(scalar.path, keys) or scalar.start == scalar.end:
                continue
            written = source[scalar.start : scalar.end].rstrip()
            piece = Piece(
                start + scalar.start, start + scalar.start + len(written), "", scalar.value
            )
            self.spans.add([piece], scalar_writer(written, scalar), preserve_layout=True)


def _is_kept(passage: Passage) -> bool:
    first = passage.pieces[0] if passage.pieces else None
    return first is None or _KEPT.match(first.source) is not None


def _moved(passage: Passage, distance: int) -> Passage:
    pieces = [
        replace(piece, start=piece.start + distance, end=piece.end + distance)
        for piece in passage.pieces
    ]
    images = [(start + distance, end + distance, alt) for start, end, alt in passage.images]
    return replace(passage, pieces=pieces, images=images)


def _writer(passage: Passage) -> Callable[[Sequence[Fragment]], str]:
    def write(fragments: Sequence[Fragment]) -> str:
        parts: list[tuple[str, bool]] = []
        for number, part in enumerate(fragments):
            if isinstance(part, str):
                text = _escape(part, in_table=passage.in_table)
                if number == 0 and passage.starts_block:
                    text = escape_block_start(text)
                parts.append((text, True))
            else:
                parts.append((part.data, False))
        if not passage.newline or any("\n" in data for data, breaks in parts if not breaks):
            return "".join(data for data, _ in parts)
        return _wrap(parts, passage.newline, passage.width)

    return write


def _wrap(parts: Sequence[tuple[str, bool]], newline: str, width: int) -> str:
    """Break text into lines of about the width that it had, at blanks outside of codes."""
    chunks = [""]
    for data, breaks in parts:
        if not breaks:
            chunks[-1] += data
            continue
        first, *rest = data.split(" ")
        chunks[-1] += first
        chunks += rest
    lines = [chunks[0]]
    for chunk in chunks[1:]:
        fits = len(lines[-1]) + 1 + len(chunk) <= width
        if fits or escape_block_start(chunk) != chunk or not lines[-1]:
            lines[-1] += " " + chunk
        else:
            lines.append(chunk)
    return newline.join(lines)


def _escape(text: str, *, in_table: bool) -> str:
    text = _SPECIAL.sub(lambda match: "\\" + match[0], text)
    return text.replace("|", "\\|") if in_table else text


def escape_block_start(text: str) -> str:
    """Return text that does not begin a list, a heading, a quotation or a table."""
    match = _BLOCK_START.match(text)
    if match is None:
        return text
    return f"{match[1]}{match[2] or ''}\\{text[match.end() :]}"


def _write_alt(fragments: Sequence[Fragment]) -> str:
    text = "".join(part for part in fragments if isinstance(part, str))
    return re.sub(r"([\[\]\\])", r"\\\1", text)
