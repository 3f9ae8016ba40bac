"""What a file in a document format is made of: units of text with inline codes.

A format parses a file into units and later splices translated units back into the bytes of the
file. Everything outside the units stays as it was, so that a translation that changes nothing
gives back the same file.
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
    """A piece of markup, a placeholder or protected text inside a unit; it is never translated."""

    kind: CodeKind
    number: int
    """An opening code and its closing code share a number, which no other code of the unit has."""
    data: str
    """The code as the file has it, for example `<b>`, `{name}` or a formatting run's properties."""
    text: str | None = None
    """Protected text that a reader sees in this place, for example the content of an element with
    `translate="no"`; `None` for codes that show nothing."""


Fragment = str | InlineCode
"""Plain text (unescaped: what a reader sees) or an inline code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A passage of a file that is translated as a whole: a paragraph, a heading, a message."""

    key: str
    """Identifies the unit in its file; the same file always gives the same keys."""
    fragments: tuple[Fragment, ...]
    preserve_layout: bool = False
    """Whether line breaks and runs of blanks in the text have a meaning, as in plain text."""
    plural_category: str | None = None
    """The CLDR plural category of the target for which this unit is to be translated."""
    max_columns: int | None = None
    """Columns of text that a line may have, for subtitles."""
    note: str = ""
    """What a translator should know, for example a comment of the file."""

    @property
    def text(self) -> str:
        """The text without inline codes, protected text included."""
        return "".join(
            part if isinstance(part, str) else part.text or "" for part in self.fragments
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatOptions:
    """What a user may choose about formats; a format ignores what does not concern it."""

    encoding: str | None = None
    """The encoding of a text file; `None`: detect it."""
    columns: tuple[str, ...] = ()
    """Columns of a table to translate, by name or by number from 1."""
    keys: tuple[str, ...] = ()
    """Keys of a JSON or YAML file to translate, as glob patterns of dotted paths."""
    placeholders: tuple[str, ...] = ()
    """Regular expressions of further placeholders."""
    output_format: str | None = None
    """The format of the result, for a file that cannot be written back: `docx` or `md` for PDF."""
    extra: Mapping[str, str] = field(default_factory=dict)


class Document(ABC):
    """A parsed file."""

    warnings: Sequence[str] = ()
    """What a user must know about this file, for example that its macros are kept."""

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
            translations: the new fragments by the key of the unit; each has the inline codes of
                the unit exactly once. A unit that is missing keeps its text.
            source: the language of the text, where it is known.
            target: the language that the file declares afterwards, where its format can say so.
        """

    def plan_units(self, target: Language) -> Sequence[Unit]:
        """Return the units to translate into a language; formats with plurals add units for it."""
        return self.units


class DocumentFormat(ABC):
    """A file format: how it is recognized and parsed."""

    name: ClassVar[str]
    """For example `docx`."""
    suffixes: ClassVar[tuple[str, ...]]
    keeps: ClassVar[str]
    """What is translated and what is kept, in one sentence for `nllb documents formats`."""
    writes: ClassVar[tuple[str, ...]] = ()
    """The formats of the result, the default first, where files cannot be written back, as PDF."""

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
