import io
import sys

import pytest

from nllb.documents.document_translation import translate_document_file, translated_name
from nllb.documents.formats.pdf import PdfFormat
from nllb.documents.plain_markdown import plain_markdown
from nllb.documents.registry import open_document
from nllb.documents.units import FormatOptions
from nllb.errors import ConfigError, DocumentError, ResourceError
from nllb.languages import parse_language
from nllb.translation.translator import Translator
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


def test_the_result_may_be_a_markdown_document() -> None:
    page = (*PAGE, (11, 500, "- First *item*"), (11, 440, "- Second item"), (11, 380, "# 5 > 4"))
    options = FormatOptions(output_format="md")
    _, document = open_document(pdf_bytes(*page), "paper.pdf", options)
    assert any("new Markdown document" in warning for warning in document.warnings)
    data = document.render({}, source=None, target=parse_language("deu_Latn"))
    assert data.decode() == (
        "# The title\n\nThis is a long line of a paragraph that goes on and ends here with a stop "
        "and more.\n\nAnother paragraph.\n\n- First \\*item\\*\n- Second item\n\n\\# 5 > 4\n"
    )
    name = translated_name("paper.pdf", parse_language("deu_Latn"), PdfFormat, options)
    assert name == "paper.deu_Latn.md"


def test_marks_in_markdown_are_text() -> None:
    markdown_it = pytest.importorskip("markdown_it")
    texts = ["1) one `code`", "2) two [a](b)", "+ no item", "A # heading #", "<b>x</b> &amp;", " "]
    written = plain_markdown([(0, text) for text in texts] + [(2, "About C #")]).decode()
    html = markdown_it.MarkdownIt("commonmark").render(written)
    assert html == (
        "<ol>\n<li>one `code`</li>\n<li>two [a](b)</li>\n</ol>\n<p>+ no item</p>\n"
        "<p>A # heading #</p>\n<p>&lt;b&gt;x&lt;/b&gt; &amp;amp;</p>\n<h2>About C #</h2>\n"
    )


def test_the_name_of_the_output_chooses_the_format(tmp_path, stand_in) -> None:
    path = tmp_path / "paper.pdf"
    path.write_bytes(pdf_bytes(*PAGE))
    translator = Translator(stand_in(lambda segment, search: segment))
    languages = {"source": "en", "target": "de"}
    result, _ = translate_document_file(path, translator, output=tmp_path / "new.md", **languages)
    assert result.read_text().startswith("# The title\n")
    with pytest.raises(ConfigError, match=r"written as docx or md, not as \.odt"):
        translate_document_file(path, translator, output=tmp_path / "new.odt", **languages)
    markdown = FormatOptions(output_format="md")
    with pytest.raises(ConfigError, match=r"name --output with \.md"):
        translate_document_file(
            path, translator, output=tmp_path / "new.docx", options=markdown, **languages
        )
    page = tmp_path / "page.html"
    page.write_text("<p>Text</p>")
    with pytest.raises(DocumentError, match="written as html, not as md"):
        translate_document_file(page, translator, options=markdown, **languages)
