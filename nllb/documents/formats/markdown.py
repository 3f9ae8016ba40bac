"""Markdown: headings, paragraphs, lists and tables; code, links and HTML blocks are kept."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from nllb.documents.markdown_spans import MarkdownPassage, markdown_passages
from nllb.documents.markdown_writing import inline_writer
from nllb.documents.prose import is_chosen
from nllb.documents.splicing import InlinePiece, SplicedDocument
from nllb.documents.text_file import TextFile, is_text, read_text
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment
from nllb.errors import DocumentError

from .yaml_messages import scalar_writer, yaml_scalars

MAX_BYTES: Final = 32 << 20
FRONT_MATTER_KEYS: Final = (
    "title subtitle description summary abstract excerpt headline tagline caption alt "
    "sidebar_label linkTitle".split()
)
_FRONT_MATTER: Final = re.compile(
    r"---[ \t]*(\r\n|\n)(.*?)(?:\r\n|\n)(?:---|\.\.\.)[ \t]*(?:\r\n|\n|$)", re.DOTALL
)
_KEPT: Final = re.compile(r"\s*(?::::|!!!|\?\?\?|\{%|\{\{|\[TOC\]|\$\$|import\s|export\s|</?[A-Z])")


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
        return MarkdownDocument(read_text(data, options, max_bytes=MAX_BYTES), options)


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

    def _add(self, passage: MarkdownPassage) -> None:
        write = inline_writer(
            newline=passage.newline,
            width=passage.width,
            in_table=passage.in_table,
            starts_block=passage.starts_block,
        )
        inside: list[str] = []
        for start, end, alt in passage.images:
            unit = self.spans.add([InlinePiece(start, end, alt, alt)], _write_alt, note="image")
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
            piece = InlinePiece(
                start + scalar.start, start + scalar.start + len(written), "", scalar.value
            )
            self.spans.add([piece], scalar_writer(written, scalar), preserve_layout=True)


def _is_kept(passage: MarkdownPassage) -> bool:
    first = passage.pieces[0] if passage.pieces else None
    return first is None or _KEPT.match(first.source) is not None


def _moved(passage: MarkdownPassage, distance: int) -> MarkdownPassage:
    pieces = [
        replace(piece, start=piece.start + distance, end=piece.end + distance)
        for piece in passage.pieces
    ]
    images = [(start + distance, end + distance, alt) for start, end, alt in passage.images]
    return replace(passage, pieces=pieces, images=images)


def _write_alt(fragments: Sequence[Fragment]) -> str:
    text = "".join(part for part in fragments if isinstance(part, str))
    return re.sub(r"([\[\]\\])", r"\\\1", text)
