"""PDF: the text is extracted to a new Word or Markdown document; a PDF cannot be written back."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

from nllb.documents.plain_docx import plain_docx
from nllb.documents.plain_markdown import plain_markdown
from nllb.documents.splicing import has_letters
from nllb.documents.units import Document, DocumentFormat, FormatOptions, Fragment, Unit
from nllb.documents.xml_parts import Writing
from nllb.errors import DocumentError, ResourceError
from nllb.languages import Language

if TYPE_CHECKING:
    from pdfminer.layout import LTPage, LTTextLine

MAX_PAGES: Final = 5000
_NAMES: Final = {"docx": "Word", "md": "Markdown"}
_WARNING: Final = (
    "the result is a new {} document with the text of the PDF; layout, tables and pictures of "
    "the PDF are not in it"
)
_ITEM: Final = re.compile(r"(?:[•‣◦▪–—*-]|\(?\d{1,3}[.)]|[a-z][.)])\s")
_ENDS: Final = re.compile(r"[.!?:;。！？।۔።]['\"”’)\]]*$")
_SHORT_LINE: Final = 0.8
"""Maximum relative width of a line that ends a paragraph if it ends a sentence."""
_HEADING: Final = 1.15
"""Minimum size of a heading, relative to that of most characters."""
_MAX_HEADING: Final = 200
_MAX_LEVEL: Final = 3


class PdfFormat(DocumentFormat):
    """PDF files with text."""

    name = "pdf"
    suffixes = (".pdf",)
    writes = ("docx", "md")
    keeps = (
        "Text is translated into a new Word or Markdown document with headings and paragraphs; the "
        "layout, tables and pictures are lost."
    )

    @classmethod
    def recognizes(cls, head: bytes, suffix: str, members: Sequence[str]) -> bool:
        """Return whether a file is a PDF."""
        return b"%PDF-" in head[:1024]

    @classmethod
    def parse(cls, data: bytes, options: FormatOptions) -> Document:
        """Read the text of a PDF."""
        return PdfDocument(_read(data), options.output_format or cls.writes[0])


@dataclass(slots=True)
class _Paragraph:
    text: str
    size: float
    level: int = 0


class PdfDocument(Document):
    """The text of a PDF."""

    def __init__(self, paragraphs: Sequence[_Paragraph], output_format: str) -> None:
        self._paragraphs, self._output_format = paragraphs, output_format
        self.warnings = (_WARNING.format(_NAMES[output_format]),)
        self._units = [
            Unit(key=str(number), fragments=(paragraph.text,))
            for number, paragraph in enumerate(paragraphs, 1)
            if has_letters([paragraph.text])
        ]

    @property
    def units(self) -> Sequence[Unit]:
        """The paragraphs."""
        return self._units

    def render(
        self,
        translations: Mapping[str, Sequence[Fragment]],
        *,
        source: Language | None,
        target: Language,
    ) -> bytes:
        """Return a Word or Markdown document of the translated paragraphs."""
        texts = []
        for number, paragraph in enumerate(self._paragraphs, 1):
            new = translations.get(str(number), (paragraph.text,))
            text = "".join(part for part in new if isinstance(part, str))
            texts.append((paragraph.level, text))
        if self._output_format == "md":
            return plain_markdown(texts)
        return plain_docx(texts, Writing(target))


def _read(data: bytes) -> list[_Paragraph]:
    try:
        from pdfminer.high_level import extract_pages
        from pdfminer.pdfdocument import PDFPasswordIncorrect, PDFTextExtractionNotAllowed
    except ImportError as error:
        raise ResourceError(
            "PDF files require the package pdfminer.six: pip install 'nllb[documents]'"
        ) from error
    logging.getLogger("pdfminer").setLevel(logging.ERROR)
    paragraphs: list[_Paragraph] = []
    try:
        for number, page in enumerate(extract_pages(BytesIO(data)), 1):
            if number > MAX_PAGES:
                raise DocumentError(f"the PDF has more than {MAX_PAGES:,} pages; split it")
            _add_page(paragraphs, page)
    except DocumentError:
        raise
    except (PDFPasswordIncorrect, PDFTextExtractionNotAllowed) as error:
        raise DocumentError("the PDF is encrypted: save it without a password") from error
    except MemoryError:
        raise
    except Exception as error:  # pdfminer has no common class of errors for damaged files
        raise DocumentError(f"the PDF is damaged: {error or type(error).__name__}") from error
    if not has_letters([paragraph.text for paragraph in paragraphs]):
        raise DocumentError(
            "the PDF has no text, only pictures of it: run a program for optical character "
            "recognition on it first"
        )
    _find_headings(paragraphs)
    return paragraphs


def _add_page(paragraphs: list[_Paragraph], page: "LTPage") -> None:
    """Add the paragraphs of a page, continuing a paragraph that began on the previous page."""
    is_first = True
    for paragraph in _page_paragraphs(page):
        before = paragraphs[-1] if paragraphs else None
        goes_on = (
            is_first
            and before is not None
            and not _ENDS.search(before.text)
            and abs(before.size - paragraph.size) < 0.5
            and paragraph.text[:1].islower()
        )
        if goes_on and before is not None:
            before.text = _joined(before.text, paragraph.text)
        else:
            paragraphs.append(paragraph)
        is_first = False


def _page_paragraphs(page: "LTPage") -> Iterator[_Paragraph]:
    from pdfminer.layout import LTTextContainer, LTTextLine

    for block in page:
        if not isinstance(block, LTTextContainer):
            continue
        current: _Paragraph | None = None
        ended = False
        for line in block:
            if not isinstance(line, LTTextLine):
                continue
            text = " ".join(line.get_text().split())
            if not any(character.isalnum() for character in text):
                continue  # blank lines, rules and the dots between titles and page numbers
            size = _size(line)
            if current is None or ended or _ITEM.match(text) or abs(size - current.size) > 1:
                if current is not None:
                    yield current
                current = _Paragraph(text, size)
            else:
                current.text = _joined(current.text, text)
            is_short = line.width < _SHORT_LINE * block.width
            ended = is_short and _ENDS.search(text) is not None
        if current is not None:
            yield current


def _joined(before: str, after: str) -> str:
    """Join two lines, including a word that was divided between them."""
    if before.endswith("\u00ad"):
        return before[:-1] + after
    if before.endswith("-") and before[-2:-1].isalpha() and after[:1].islower():
        return before[:-1] + after
    return f"{before} {after}"


def _size(line: "LTTextLine") -> float:
    """Return the size of most characters of a line, in points."""
    from pdfminer.layout import LTChar

    sizes = Counter(round(each.size, 1) for each in line if isinstance(each, LTChar))
    return max(sizes, key=sizes.__getitem__) if sizes else float(line.height)


def _find_headings(paragraphs: Sequence[_Paragraph]) -> None:
    """Set the levels of short paragraphs that are larger than most characters."""
    counts: Counter[float] = Counter()
    for paragraph in paragraphs:
        counts[paragraph.size] += len(paragraph.text)
    body = max(counts, key=counts.__getitem__)
    headings = [
        paragraph
        for paragraph in paragraphs
        if paragraph.size >= body * _HEADING and len(paragraph.text) <= _MAX_HEADING
    ]
    sizes = sorted({paragraph.size for paragraph in headings}, reverse=True)
    for paragraph in headings:
        paragraph.level = min(sizes.index(paragraph.size) + 1, _MAX_LEVEL)
