import pytest

from nllb.errors import DocumentError
from tests.office_files import members_of, opened, swapped, texts, unchanged, zip_bytes

CONTAINER = (
    '<container><rootfiles><rootfile full-path="OPS/book.opf" '
    'media-type="application/oebps-package+xml"/></rootfiles></container>'
)
PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The book</dc:title>
<dc:language>en</dc:language></metadata>
<manifest><item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="b" href="text/two%20b.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="text/one.xhtml" media-type="application/xhtml+xml"/>
<item id="t" href="toc.ncx" media-type="application/x-dtbncx+xml"/></manifest>
<spine toc="t"><itemref idref="a"/><itemref idref="b"/></spine></package>"""


def page(body: str) -> str:
    return f'<html xmlns="http://www.w3.org/1999/xhtml"><body>{body}</body></html>'


def epub_bytes(**members: str) -> bytes:
    return zip_bytes(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER,
            "OPS/text/two b.xhtml": page("<p>Second <i>page</i></p>"),
            "OPS/text/one.xhtml": page("<p>First page<br/></p>"),
            "OPS/nav.xhtml": page("<nav><a href='text/one.xhtml'>Contents</a></nav>"),
            "OPS/toc.ncx": "<ncx><docTitle><text> The ncx title\n</text></docTitle></ncx>",
            "OPS/book.opf": PACKAGE,
            **members,
        },
        stored=["mimetype"],
    )


def test_pages_come_in_the_order_of_the_book() -> None:
    assert texts(opened(epub_bytes())) == [
        "The book", "First page", "Second <1>page</1>", "Contents", "The ncx title",
    ]  # fmt: skip
    assert len({unit.key for unit in opened(epub_bytes()).units}) == 5


def test_all_texts_and_languages_are_written() -> None:
    result = members_of(swapped(epub_bytes(), target="arb_Arab"))
    assert b"<dc:title>tHE BOOK</dc:title>\n<dc:language>ar</dc:language>" in result["OPS/book.opf"]
    assert b'<spine toc="t" page-progression-direction="rtl">' in result["OPS/book.opf"]
    assert b"<text> tHE NCX TITLE\n</text>" in result["OPS/toc.ncx"]
    chapter = result["OPS/text/one.xhtml"]
    assert b'lang="ar"' in chapter and b'dir="rtl"' in chapter
    assert b"<p>fIRST PAGE<br/></p>" in chapter
    assert next(iter(result)) == "mimetype"


def test_a_translation_that_changes_nothing_keeps_the_file() -> None:
    assert unchanged(epub_bytes()) == epub_bytes()


def test_digital_rights_management_is_refused_and_obfuscated_fonts_are_not() -> None:
    def encryption(algorithm: str) -> dict[str, str]:
        content = f'<encryption><EncryptionMethod Algorithm="{algorithm}"/></encryption>'
        return {"META-INF/encryption.xml": content}

    assert opened(epub_bytes(**encryption("http://www.idpf.org/2008/embedding"))).units
    with pytest.raises(DocumentError, match="rights"):
        opened(epub_bytes(**encryption("http://www.w3.org/2001/04/xmlenc#aes256-cbc")))


def test_a_book_without_a_package_is_damaged() -> None:
    with pytest.raises(DocumentError, match="package"):
        opened(epub_bytes(**{"META-INF/container.xml": "<container/>"}))
