"""The content of a file in a document format: units of text with inline codes.

A format parses a file into units and later splices translated units back into the bytes of the
file. Everything outside the units is kept, so that a translation without changes returns the same
file.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from nllb.languages import Language


class CodeKind(StrEnum):
    """The role of an inline code in its unit."""

    OPEN = "open"
    CLOSE = "close"
    STANDALONE = "standalone"


@dataclass(frozen=True, slots=True)
class InlineCode:
    """Markup, a placeholder or protected text inside a unit, which is never translated.

    Attributes:
        kind: the role of the code.
        number: the number of the code; only an opening code and its closing code share a number.
        data: the code as it is in the file, for example `<b>`, `{name}` or the properties of a run.
        text: protected text that is displayed in this place, for example the content of an element
            with `translate="no"`; `None` for codes without displayed text.
    """

    kind: CodeKind
    number: int
    data: str
    text: str | None = None


Fragment = str | InlineCode
"""Plain text (unescaped, as displayed) or an inline code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A passage of a file that is translated as a whole: a paragraph, a heading, a message.

    Attributes:
        key: identifier of the unit in its file; the same file always has the same keys.
        fragments: its text and inline codes.
        preserve_layout: whether line breaks and runs of blanks in the text are significant, as in
            plain text.
        plural_category: the CLDR plural category of the target that this unit is translated for.
        max_columns: maximum number of columns per line, for subtitles.
        note: a note for the translator, for example a comment in the file.
    """

    key: str
    fragments: tuple[Fragment, ...]
    preserve_layout: bool = False
    plural_category: str | None = None
    max_columns: int | None = None
    note: str = ""

    @property
    def text(self) -> str:
        """The text without inline codes but with protected text."""
        return "".join(
            part if isinstance(part, str) else part.text or "" for part in self.fragments
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatOptions:
    """Options of formats; a format ignores those that do not concern it.

    Attributes:
        encoding: the encoding of a text file; `None` detects it.
        columns: columns of a table to translate, by name or by number from 1.
        keys: keys of a JSON or YAML file to translate, as glob patterns of dotted paths.
        placeholders: regular expressions of additional placeholders.
        output_format: the format of the result of a file that cannot be written back: `docx` or
            `md` for PDF.
        extra: options of individual formats, by name.
    """

    encoding: str | None = None
    columns: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()
    output_format: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


class Document(ABC):
    """A parsed file.

    Attributes:
        warnings: warnings about the file for the user, for example that its macros are kept.
    """

    warnings: Sequence[str] = ()

    @property
    @abstractmethod
    def units(self) -> Sequence[Unit]:
        """The units to translate, in reading order."""

    @abstractmethod
    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return the file with translated units.

        Args:
            translations: the new fragments by the key of the unit, which contain each inline code
                of the unit exactly once. A missing unit keeps its text.
            source: the source language, if known.
            target: the language that the file declares afterwards, if its format supports this.
        """

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return the units to translate into a language; formats with plurals add units for it."""
        return self.units


class DocumentFormat(ABC):
    """A file format, with its detection and parser.

    Attributes:
        name: name of the format, for example `docx`.
        suffixes: suffixes of its files, with the dot.
        keeps: the translated and the kept content, in one sentence for `nllb documents formats`.
        writes: formats of the result, the default first, if files cannot be written back, as for
            PDF.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    keeps: ClassVar[str]
    writes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is in this format.

        Args:
            head: the first 4,096 bytes of the file.
            suffix: the lower-case suffix of its name, with the dot, or "".
            members: the names in the archive if the file is a zip archive.
        """

    @classmethod
    @abstractmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Parse a file.

        Raises:
            DocumentError: The file is damaged, encrypted, too large, or not in this format.
        """
