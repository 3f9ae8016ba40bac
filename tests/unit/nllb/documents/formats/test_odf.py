import io

import pytest

from nllb.errors import DocumentError
from tests.office_files import members_of, opened, swapped, texts, translated, unchanged, zip_bytes

NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{kind}:1.0"'
    for name, kind in {
        "office": "office", "text": "text", "style": "style", "table": "table", "draw": "drawing",
        "fo": "xsl-fo-compatible", "svg": "svg-compatible", "meta": "meta",
    }.items()
)  # fmt: skip
STYLES = """
<style:style style:name="T1" style:family="text"><style:text-properties
 officeooo:rsid="1"/></style:style>
<style:style style:name="T2" style:family="text"><style:text-properties fo:font-weight="bold"/>
</style:style>
<style:style style:name="T3" style:family="text"><style:text-properties fo:font-weight="bold"
 officeooo:rsid="7"/></style:style>
"""
DEFAULT_STYLE = (
    '<style:default-style style:family="paragraph"><style:paragraph-properties '
    'style:writing-mode="page"/><style:text-properties fo:language="en" fo:country="US" '
    'style:language-asian="ja"/></style:default-style>'
)


def odf_bytes(body: str, *, kind: str = "text", **members: str) -> bytes:
    content = (
        f'<office:document-content {NAMESPACES} xmlns:officeooo="o" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">'
        f"<office:automatic-styles>{STYLES}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    styles = (
        f"<office:document-styles {NAMESPACES}><office:styles>{DEFAULT_STYLE}</office:styles>"
        "<office:master-styles><style:master-page><style:header><text:p>Header</text:p>"
        "</style:header></style:master-page></office:master-styles></office:document-styles>"
    )
    return zip_bytes(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": content,
            "styles.xml": styles,
            "META-INF/manifest.xml": "<manifest/>",
            **members,
        },
        stored=["mimetype"],
    )


def content_of(data: bytes) -> str:
    return members_of(data)["content.xml"].decode()


def test_spans_that_look_equal_are_one_text() -> None:
    body = (
        '<text:p><text:span text:style-name="T1">Re</text:span>port <text:span '
        'text:style-name="T2">of</text:span><text:span text:style-name="T3"> May</text:span>'
        "</text:p>"
    )
    data = odf_bytes(body)
    assert texts(opened(data)) == ["Report <1>of May</1>", "Header"]
    result = content_of(translated(data, {"Report <1>of May</1>": "<1>Mai</1>bericht"}))
    assert '<text:p><text:span text:style-name="T2">Mai</text:span>bericht</text:p>' in result


def test_blanks_breaks_links_and_fields() -> None:
    body = (
        "<text:p>\n  One <text:s text:c='2'/>two<text:line-break/>three "
        '<text:a xlink:href="u">link</text:a> <text:page-number>4</text:page-number>.</text:p>'
    )
    data = odf_bytes(body)
    [text, _] = texts(opened(data))
    assert text == "One two<1/> three <2>link</2> <3/>."
    result = content_of(translated(data, {text: "Eins  zwei<1/> <2>Verweis</2> <3/>."}))
    assert (
        '<text:p>Eins <text:s text:c="1"/>zwei<text:line-break/><text:a xlink:href="u">Verweis'
        "</text:a> <text:page-number>4</text:page-number>.</text:p>"
    ) in result


def test_notes_comments_and_boxes_are_units_of_their_own() -> None:
    body = (
        "<text:tracked-changes><text:p>Deleted</text:p></text:tracked-changes>"
        "<text:h>Text<text:note><text:note-citation>1</text:note-citation><text:note-body>"
        "<text:p>Footnote</text:p></text:note-body></text:note> goes on"
        '<office:annotation office:name="a"><text:p>Remark</text:p></office:annotation> here'
        '<office:annotation-end office:name="a"/>, <draw:frame><draw:text-box><text:p>Box</text:p>'
        "</draw:text-box><svg:desc>A red car</svg:desc></draw:frame>too</text:h>"
    )
    document = opened(odf_bytes(body))
    assert texts(document)[:-1] == [
        "Text<1/> goes on<2> here</2>, <3/>too", "Footnote", "Remark", "Box", "A red car",
    ]  # fmt: skip
    assert document.warnings
    result = content_of(swapped(odf_bytes(body)))
    for text in ("fOOTNOTE", "rEMARK", "bOX", "a RED CAR", "Deleted", "GOES ON"):
        assert result.count(text) == 1


def test_sheets_keep_formulas_and_compared_texts() -> None:
    cells = (
        "<table:table-cell office:string-value='Total'><text:p>Total</text:p></table:table-cell>"
        '<table:table-cell table:formula="of:=IF([.A1]=&quot;Yes&quot;;1;2)">'
        "<text:p>Result</text:p></table:table-cell><table:table-cell><text:p>Yes</text:p></table:table-cell>"
    )
    data = odf_bytes(f"<table:table-row>{cells}</table:table-row>", kind="spreadsheet")
    assert texts(opened(data)) == ["Total", "Header"]
    assert 'office:string-value="tOTAL"' in content_of(swapped(data)).replace("'", '"')


def test_language_and_direction_are_set() -> None:
    meta = (
        f'<office:document-meta {NAMESPACES} xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<office:meta><dc:title>My title</dc:title><dc:language>en-US</dc:language></office:meta>"
        "</office:document-meta>"
    )
    result = members_of(
        swapped(odf_bytes("<text:p>A</text:p>", **{"meta.xml": meta}), target="arb_Arab")
    )
    styles = result["styles.xml"].decode()
    assert 'fo:language="ar" fo:country="none"' in styles
    assert 'style:language-complex="ar"' in styles and 'style:language-asian="ja"' in styles
    assert '<style:paragraph-properties style:writing-mode="rl-tb"/>' in styles
    assert b"<dc:title>mY TITLE</dc:title><dc:language>ar</dc:language>" in result["meta.xml"]


def test_an_encrypted_file_is_refused() -> None:
    manifest = {"META-INF/manifest.xml": "<manifest><encryption-data/></manifest>"}
    with pytest.raises(DocumentError, match="password"):
        opened(odf_bytes("<text:p>A</text:p>", **manifest))


def test_real_documents_open_in_odfpy() -> None:
    pytest.importorskip("odf")
    from odf import teletype, text
    from odf.opendocument import OpenDocumentText, load

    document = OpenDocumentText()
    document.text.addElement(text.H(outlinelevel=1, text="Heading"))
    paragraph = text.P(text="Plain and ")
    paragraph.addElement(text.Span(text="spanned", stylename="Strong"))
    document.text.addElement(paragraph)
    buffer = io.BytesIO()
    document.save(buffer)
    data = buffer.getvalue()
    assert unchanged(data) == data
    result = load(io.BytesIO(swapped(data)))
    assert [teletype.extractText(each) for each in result.getElementsByType(text.P)] == [
        "pLAIN AND SPANNED"
    ]
    assert [teletype.extractText(each) for each in result.getElementsByType(text.H)] == ["hEADING"]
