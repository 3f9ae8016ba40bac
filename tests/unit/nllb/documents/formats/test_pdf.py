import io
import sys

import pytest

from nllb.errors import DocumentError, ResourceError
from nllb.languages import parse_language
from tests.office_files import opened, swapped, texts

pytest.importorskip("pdfminer")


def pdf_bytes(*lines: tuple[int, int, str]) -> bytes:
    """Return a PDF of one page with lines of text: size, height on the page and text."""
    content = "".join(
        f"BT /F1 {size} Tf 72 {height} Td ({text}) Tj ET\n" for size, height, text in lines
    ).encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%sendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    start = len(data)
    data += b"xref\n0 6\n0000000000 65535 f \n"
    data += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return data + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % start


PAGE = (
    (24, 700, "The title"),
    (11, 650, "This is a long line of a para-"),
    (11, 637, "graph that goes on and ends here with a stop"),
    (11, 624, "and more."),
    (11, 560, "Another paragraph."),
)


def test_lines_become_paragraphs_and_headings() -> None:
    document = opened(pdf_bytes(*PAGE))
    assert texts(document) == [
        "The title",
        "This is a long line of a paragraph that goes on and ends here with a stop and more.",
        "Another paragraph.",
    ]
    assert any("new Word document" in warning for warning in document.warnings)


def test_the_result_is_a_word_document() -> None:
    docx = pytest.importorskip("docx")
    result = docx.Document(io.BytesIO(swapped(pdf_bytes(*PAGE), target="arb_Arab")))
    assert [each.text for each in result.paragraphs][::2] == ["tHE TITLE", "aNOTHER PARAGRAPH."]
    assert result.paragraphs[0].style.name == "Heading 1"
    assert opened(swapped(pdf_bytes(*PAGE))).units  # it is a document that we read, too


def test_results_do_not_depend_on_time() -> None:
    assert swapped(pdf_bytes(*PAGE)) == swapped(pdf_bytes(*PAGE))


def test_a_scanned_page_and_damage_are_errors() -> None:
    with pytest.raises(DocumentError, match="character recognition"):
        opened(pdf_bytes())
    with pytest.raises(DocumentError, match="damaged"):
        opened(b"%PDF-1.4\nnothing that belongs here")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pdfminer.high_level", None)
    with pytest.raises(ResourceError, match="pdfminer"):
        opened(pdf_bytes(*PAGE))


def test_texts_without_translation_are_kept() -> None:
    docx = pytest.importorskip("docx")
    data = opened(pdf_bytes(*PAGE)).render({}, source=None, target=parse_language("deu_Latn"))
    assert docx.Document(io.BytesIO(data)).paragraphs[0].text == "The title"
