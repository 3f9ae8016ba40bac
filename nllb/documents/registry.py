"""The document formats, and the detection of a file's format."""

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from io import BytesIO
from pathlib import Path, PurePath
from typing import BinaryIO, Final
from zipfile import BadZipFile, ZipFile

from nllb.errors import DataError, DocumentError

from .units import Document, DocumentFormat, FormatOptions

MAX_FILE_BYTES: Final = 1 << 30
HEAD_BYTES: Final = 4096
_FORMATS: Final = (
    "docx:DocxFormat",
    "pptx:PptxFormat",
    "xlsx:XlsxFormat",
    "odf:OdfFormat",
    "epub:EpubFormat",
    "idml:IdmlFormat",
    "pdf:PdfFormat",
    "xliff:XliffFormat",
    "tmx:TmxFormat",
    "android:AndroidFormat",
    "subtitles:VttFormat",
    "subtitles:SrtFormat",
    "html:HtmlFormat",
    "xcstrings:XcstringsFormat",
    "json_messages:JsonFormat",
    "po:PoFormat",
    "properties:PropertiesFormat",
    "apple_strings:AppleStringsFormat",
    "fluent:FluentFormat",
    "yaml_messages:YamlFormat",
    "markdown:MarkdownFormat",
    "tables:CsvFormat",
    "tables:TsvFormat",
    "plain_text:PlainTextFormat",
)
"""Modules of `nllb.documents.formats` with their classes, the most specific formats first."""


@cache
def document_formats() -> tuple[type[DocumentFormat], ...]:
    """Return all formats, in the order in which they are tried."""
    return tuple(_load(place) for place in _FORMATS)


def _load(place: str) -> type[DocumentFormat]:
    module, _, name = place.partition(":")
    found: type[DocumentFormat] = getattr(import_module(f"nllb.documents.formats.{module}"), name)
    return found


def detect_format(data: bytes, name: str) -> type[DocumentFormat]:
    """Return the format of a file, by its content and, if that is ambiguous, by its name.

    Raises:
        DocumentError: No format matches, or the file is too large.
    """
    if len(data) > MAX_FILE_BYTES:
        raise DocumentError(
            f"{name} has {len(data):,} bytes; documents of at most {MAX_FILE_BYTES:,} are read"
        )
    found = find_format(data, name)
    if found is None:
        suffix = PurePath(name).suffix
        if any(suffix.lower() in each.suffixes for each in document_formats()):
            raise DocumentError(
                f"{name} is called {suffix}, but its content is not that of such a file: it is "
                "damaged, or in another format; open it in the program that wrote it, and save it "
                "again"
            )
        raise DocumentError(
            f"{name} is in a format that cannot be translated{f' ({suffix})' if suffix else ''}; "
            f"supported are {', '.join(_names())}; convert it to one of these"
        )
    return found


def find_format(data: bytes, name: str) -> type[DocumentFormat] | None:
    """Return the format of a file, or None; a zip archive must be complete."""
    members = _members(BytesIO(data)) if data.startswith(b"PK") else ()
    return _find(data[:HEAD_BYTES], name, members)


def find_file_format(path: Path) -> type[DocumentFormat] | None:
    """Return the format of a file of any size, or None.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            return _find(head, path.name, _members(stream) if head.startswith(b"PK") else ())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _find(head: bytes, name: str, members: Sequence[str]) -> type[DocumentFormat] | None:
    suffix = PurePath(name).suffix.lower()
    return next(
        (each for each in document_formats() if each.recognizes(head, suffix, members)), None
    )


def open_document(
    data: bytes, name: str, options: FormatOptions
) -> tuple[type[DocumentFormat], Document]:
    """Detect the format of a file and parse it.

    Raises:
        DocumentError: The file is damaged, empty, too large or in an unknown format.
    """
    if not data:
        raise DocumentError(f"{name} is empty")
    found = detect_format(data, name)
    _check_output_format(found, name, options)
    try:
        return found, found.parse(data, options)
    except DocumentError as error:
        raise DocumentError(f"{name} ({found.name}): {error}") from error
    except RecursionError as error:
        raise DocumentError(f"{name} ({found.name}) is nested too deeply to be read") from error


def _check_output_format(found: type[DocumentFormat], name: str, options: FormatOptions) -> None:
    possible = found.writes or (found.name,)
    if options.output_format not in {None, *possible}:
        raise DocumentError(
            f"{name} is in the format {found.name}, which is written as {' or '.join(possible)}, "
            f"not as {options.output_format}"
        )


def _members(stream: BinaryIO) -> Sequence[str]:
    try:
        with ZipFile(stream) as archive:
            return archive.namelist()
    except (BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise DocumentError(f"the zip archive is damaged: {error}") from error


def _names() -> Iterator[str]:
    for each in document_formats():
        yield f"{each.name} ({', '.join(each.suffixes)})"
