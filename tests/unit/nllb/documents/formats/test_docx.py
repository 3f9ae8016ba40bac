import io
from pathlib import Path

import pytest

from nllb.errors import DocumentError
from tests.office_files import (
    DRAWING,
    WORD,
    docx_bytes,
    members_of,
    opened,
    paragraph,
    run,
    swapped,
    texts,
    translated,
    unchanged,
)

BOLD = "<w:b/>"


def document_xml(data: bytes) -> str:
    return members_of(data)["word/document.xml"].decode()


def part(kind: str, root: str, content: str) -> tuple[str, str]:
    return f"wordprocessingml.{kind}+xml", f'<w:{root} xmlns:w="{WORD}">{content}</w:{root}>'


def test_runs_of_equal_formatting_are_one_text() -> None:
    body = paragraph(
        run("Hel", '<w:lang w:val="en-US"/>')
        + '<w:proofErr w:type="spellStart"/>'
        + run("lo wor", '<w:lang w:val="de-DE"/><w:noProof/>')
        + run("ld.")
    )
    assert texts(opened(docx_bytes(body))) == ["Hello world."]


def test_other_formatting_is_a_pair_of_codes() -> None:
    body = paragraph(run("A ") + run("big", BOLD) + run(" house"))
    data = docx_bytes(body)
    assert texts(opened(data)) == ["A <1>big</1> house"]
    result = document_xml(translated(data, {"A <1>big</1> house": "<1>Grosses</1> Haus"}))
    assert "<w:p><w:r><w:rPr><w:b/></w:rPr><w:t>Grosses</w:t></w:r>" in result
    assert '<w:r><w:t xml:space="preserve"> Haus</w:t></w:r></w:p>' in result


def test_formatting_of_the_whole_paragraph_needs_no_code() -> None:
    data = docx_bytes(paragraph(run("All of it", BOLD)))
    assert texts(opened(data)) == ["All of it"]
    assert "<w:rPr><w:b/></w:rPr><w:t>Alles</w:t>" in document_xml(
        translated(data, {"All of it": "Alles"})
    )


def test_line_breaks_and_tabs_separate_words() -> None:
    data = docx_bytes(
        paragraph("<w:r><w:t>one</w:t><w:br/><w:t>two</w:t><w:tab/><w:t>x</w:t></w:r>")
    )
    assert texts(opened(data)) == ["one<1/> two<2/> x"]
    result = document_xml(translated(data, {"one<1/> two<2/> x": "eins <1/> zwei<2/> x"}))
    assert "<w:t>eins</w:t><w:br/><w:t>zwei</w:t><w:tab/><w:t>x</w:t>" in result


def test_fields_keep_their_result_unless_it_is_text() -> None:
    def complex_field(instruction: str, result: str) -> str:
        return (
            '<w:r><w:fldChar w:fldCharType="begin"/></w:r>'
            f"<w:r><w:instrText>{instruction}</w:instrText></w:r>"
            '<w:r><w:fldChar w:fldCharType="separate"/></w:r>'
            f'{run(result)}<w:r><w:fldChar w:fldCharType="end"/></w:r>'
        )

    body = paragraph(
        run("See page ")
        + complex_field(" PAGEREF x ", "7")
        + run(" or ")
        + complex_field(' HYPERLINK "u" ', "the site")
        + run(".")
    )
    data = docx_bytes(body)
    assert texts(opened(data)) == ["See page <1/> or <2>the site</2>."]
    assert opened(data).units[0].text == "See page 7 or the site."
    result = document_xml(
        translated(data, {"See page <1/> or <2>the site</2>.": "<2>Seite</2>: <1/>."})
    )
    assert result.count("fldChar ") == 6
    assert result.index("HYPERLINK") < result.index("Seite") < result.index("PAGEREF")
    assert "<w:t>7</w:t>" in result.replace(' xml:space="preserve"', "")


def test_links_notes_and_bookmarks_are_kept() -> None:
    body = paragraph(
        '<w:bookmarkStart w:id="0" w:name="top"/><w:bookmarkEnd w:id="0"/>'
        + run("Read ")
        + f'<w:hyperlink w:anchor="x">{run("this", "<w:color/>")}</w:hyperlink>'
        + '<w:r><w:footnoteReference w:id="2"/></w:r>'
        + '<w:commentRangeStart w:id="5"/>'
        + run(" now")
        + '<w:commentRangeEnd w:id="5"/>'
    )
    data = docx_bytes(body)
    [text] = texts(opened(data))
    assert text == "Read <1>this</1><2/><3> now</3>"
    result = document_xml(translated(data, {text: "Jetzt<3> </3><1>das</1><2/> lesen"}))
    for kept in (
        '<w:hyperlink w:anchor="x">',
        '<w:footnoteReference w:id="2"/>',
        "commentRangeEnd",
    ):
        assert result.count(kept) == 1
    assert "<w:color/></w:rPr><w:t>das</w:t></w:r></w:hyperlink>" in result


def test_text_boxes_are_translated_once_and_written_twice() -> None:
    box = f"<w:txbxContent>{paragraph('In the box')}</w:txbxContent>"
    body = paragraph(
        run("Outside ")
        + "<w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing>"
        + f"{box}</w:drawing></mc:Choice><mc:Fallback><w:pict>{box}</w:pict></mc:Fallback>"
        + "</mc:AlternateContent></w:r>"
        + run("and after")
    )
    data = docx_bytes(body)
    assert texts(opened(data)) == ["Outside <1/>and after", "In the box"]
    result = document_xml(swapped(data))
    assert result.count("iN THE BOX") == 2
    assert "oUTSIDE" in result and "AND AFTER" in result and "In the box" not in result


def test_tracked_deletions_stay_and_insertions_are_text() -> None:
    body = paragraph(
        run("The ")
        + '<w:del w:id="1"><w:r><w:delText>old</w:delText></w:r></w:del>'
        + f'<w:ins w:id="2">{run("new")}</w:ins>'
        + run(" text")
    )
    document = opened(docx_bytes(body))
    assert texts(document) == ["The <1/><2>new</2> text"]
    assert any("tracked" in warning for warning in document.warnings)
    result = document_xml(swapped(docx_bytes(body)))
    assert "<w:delText>old</w:delText>" in result and 'w:id="2"' in result


def test_all_parts_are_translated() -> None:
    chart = (
        f'<c:chart xmlns:c="c" xmlns:a="{DRAWING}"><a:p><a:r><a:t>Chart title</a:t></a:r></a:p>'
        "<c:strCache><c:pt><c:v>Category</c:v></c:pt></c:strCache></c:chart>"
    )
    data = docx_bytes(
        paragraph("Body")
        + f"<w:tbl><w:tr><w:tc><w:tbl><w:tr><w:tc>{paragraph('Cell')}</w:tc></w:tr></w:tbl>"
        + f"{paragraph('Outer')}</w:tc></w:tr></w:tbl>",
        header7=part("header", "hdr", paragraph("Header")),
        footer1=part("footer", "ftr", paragraph("Footer")),
        footnotes=part("footnotes", "footnotes", f"<w:footnote>{paragraph('Note')}</w:footnote>"),
        endnotes=part("endnotes", "endnotes", f"<w:endnote>{paragraph('End')}</w:endnote>"),
        comments=part("comments", "comments", f"<w:comment>{paragraph('Comment')}</w:comment>"),
        chart=("drawingml.chart+xml", chart),
    )
    expected = ["Body", "Cell", "Outer", "Header", "Footer", "Note", "End", "Comment"]
    assert texts(opened(data)) == [*expected, "Chart title", "Category"]
    assert sorted(texts(opened(swapped(data)))) == sorted(
        text.swapcase() for text in texts(opened(data))
    )


def test_the_language_is_set() -> None:
    data = docx_bytes(paragraph(run("Word", '<w:lang w:val="en-GB"/>')))
    result = members_of(swapped(data, target="swh_Latn"))
    assert '<w:lang w:val="sw"/>' in result["word/document.xml"].decode()
    assert '<w:lang w:val="sw" w:eastAsia="ja-JP" w:bidi="he-IL"/>' in (
        result["word/styles.xml"].decode()
    )


def test_right_to_left_text() -> None:
    table = (
        f"<w:tbl><w:tblPr><w:tblW/></w:tblPr><w:tr><w:tc>{paragraph('Cell')}</w:tc></w:tr></w:tbl>"
    )
    plain = (
        '<w:p><w:pPr><w:keepNext/><w:jc w:val="center"/></w:pPr>' + run("Title", BOLD) + "</w:p>"
    )
    result = document_xml(swapped(docx_bytes(plain + table), target="arb_Arab"))
    assert '<w:pPr><w:keepNext/><w:bidi/><w:jc w:val="center"/></w:pPr>' in result
    assert "<w:rPr><w:b/><w:bCs/><w:rtl/></w:rPr>" in result
    assert "<w:tblPr><w:bidiVisual/><w:tblW/></w:tblPr>" in result
    back = document_xml(swapped(docx_bytes(result.split("<w:body>")[1].split("</w:body>")[0])))
    assert "<w:bidi/>" not in back and "<w:rtl/>" not in back and "bidiVisual" not in back


def test_a_translation_that_changes_nothing_keeps_the_file() -> None:
    data = docx_bytes(paragraph("Text") + paragraph(run("a") + run("b", BOLD)))
    assert unchanged(data) == data


def test_only_translated_paragraphs_change() -> None:
    first, second = paragraph("<w:r w:rsidR='00'  ><w:t>One</w:t ></w:r>"), paragraph("Two")
    result = document_xml(translated(docx_bytes(first + second), {"Two": "Zwei"}))
    assert first in result and "Zwei" in result


def test_a_code_that_is_lost_is_an_error() -> None:
    data = docx_bytes(paragraph(run("A ") + run("big", BOLD) + run(" house")))
    with pytest.raises(DocumentError, match="inline code"):
        translated(data, {"A <1>big</1> house": "ein <1>grosses Haus"})


def test_real_templates_open_in_python_docx() -> None:
    docx = pytest.importorskip("docx")
    template = Path(docx.__file__).parent / "templates" / "default.docx"
    document = docx.Document(str(template))
    document.add_heading("The first heading", 1)
    text = document.add_paragraph("Plain and ")
    text.add_run("bold").bold = True
    text.add_run(" text.")
    table = document.add_table(1, 2)
    table.cell(0, 1).text = "In a cell"
    document.sections[0].header.paragraphs[0].text = "On every page"
    buffer = io.BytesIO()
    document.save(buffer)
    data = buffer.getvalue()
    assert unchanged(data) == data
    result = docx.Document(io.BytesIO(swapped(data)))
    assert [each.text for each in result.paragraphs] == [
        "tHE FIRST HEADING",
        "pLAIN AND BOLD TEXT.",
    ]
    assert [each.text for each in result.paragraphs[1].runs if each.bold] == ["BOLD"]
    assert result.paragraphs[0].style.name == "Heading 1"
    assert result.tables[0].cell(0, 1).text == "iN A CELL"
    assert result.sections[0].header.paragraphs[0].text == "oN EVERY PAGE"
    before, after = members_of(data), members_of(swapped(data))
    assert list(before) == list(after)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {
        "word/document.xml",
        "word/header1.xml",
        "word/styles.xml",
        "word/settings.xml",
        "docProps/core.xml",
    }


def test_words_of_numbers_are_translated() -> None:
    levels = (
        '<w:lvl><w:numFmt w:val="decimal"/><w:lvlText w:val="Chapter %1:"/></w:lvl>'
        '<w:lvl><w:numFmt w:val="bullet"/><w:lvlText w:val="o"/></w:lvl>'
        '<w:lvl><w:numFmt w:val="decimal"/><w:lvlText w:val="%1.%2"/></w:lvl>'
    )
    data = docx_bytes("", numbering=part("numbering", "numbering", levels))
    assert texts(opened(data)) == ["Chapter <1/>:"]
    result = members_of(translated(data, {"Chapter <1/>:": "<1/>. Kapitel"}))
    assert b'w:val="%1. Kapitel"' in result["word/numbering.xml"]
