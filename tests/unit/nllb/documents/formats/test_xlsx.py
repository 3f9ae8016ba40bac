import io
import tracemalloc

import pytest

from tests.office_files import (
    members_of,
    office_bytes,
    opened,
    swapped,
    texts,
    translated,
    unchanged,
)

SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def xlsx_bytes(strings: str, sheet: str = "", **parts: tuple[str, str]) -> bytes:
    def part(kind: str, root: str, content: str) -> tuple[str, str]:
        return f"spreadsheetml.{kind}+xml", f'<{root} xmlns="{SHEET}">{content}</{root}>'

    return office_bytes(
        {
            "xl/workbook.xml": part(
                "sheet.main",
                "workbook",
                '<sheets><sheet name="Sales"/></sheets><calcPr calcId="1"/>',
            ),
            "xl/sharedStrings.xml": part("sharedStrings", "sst", strings),
            "xl/worksheets/sheet1.xml": part(
                "worksheet",
                "worksheet",
                '<sheetViews><sheetView workbookViewId="0"/></sheetViews>'
                f"<sheetData>{sheet}</sheetData>",
            ),
            **{f"xl/{name}.xml": part(*value) for name, value in parts.items()},
        }
    )


def strings_of(*values: str) -> str:
    return "".join(f"<si><t>{value}</t></si>" for value in values)


def test_plain_and_rich_texts() -> None:
    rich = (
        "<si><r><t>Very big </t></r><r><rPr><b/></rPr><t>house</t></r>"
        '<rPh sb="0" eb="1"><t>x</t></rPh><phoneticPr fontId="1"/></si>'
    )
    data = xlsx_bytes(strings_of("Plain", "12", "two\nlines") + rich)
    assert texts(opened(data)) == ["Plain", "two\nlines", "Very big <1>house</1>"]
    result = members_of(translated(data, {"Very big <1>house</1>": "<1>Haus</1> gross"}))
    strings = result["xl/sharedStrings.xml"].decode()
    assert (
        '<si><r><rPr><b/></rPr><t>Haus</t></r><r><t xml:space="preserve"> gross</t></r>' in strings
    )
    assert "rPh" not in strings and '<phoneticPr fontId="1"/></si>' in strings


def test_formulas_and_compared_texts_are_kept() -> None:
    sheet = (
        '<row><c t="s"><v>0</v></c><c t="str"><f>IF(A1="Yes",Costs[Price],"a")</f><v>a</v></c>'
        "</row>"
        '<dataValidation type="list"><formula1>"Open,Closed"</formula1></dataValidation>'
    )
    data = xlsx_bytes(strings_of("Yes", "Closed", "Price", "Free"), sheet)
    document = opened(data)
    assert texts(document) == ["Free"]
    assert any("3 texts are kept" in warning for warning in document.warnings)
    result = members_of(swapped(data))
    assert result["xl/worksheets/sheet1.xml"] == members_of(data)["xl/worksheets/sheet1.xml"]
    assert b'fullCalcOnLoad="1"' in result["xl/workbook.xml"]
    assert b'name="Sales"' in result["xl/workbook.xml"]


def test_names_of_table_columns_follow_their_header() -> None:
    table = '<tableColumn id="1" name="City"/><tableColumn id="2" name="Town"/>'
    data = xlsx_bytes(strings_of("City", "Town", "Other"), table1=("table", "table", table))
    result = members_of(translated(data, {"City": "Ort", "Other": "Anderes"}))
    assert b'name="Ort"' in result["xl/table1.xml"] and b'name="Town"' in result["xl/table1.xml"]
    clash = members_of(translated(data, {"City": "Ort", "Town": "ort", "Other": "Anderes"}))
    assert b'name="City"' in clash["xl/table1.xml"] and b'name="Town"' in clash["xl/table1.xml"]
    assert b"<t>City</t>" in clash["xl/sharedStrings.xml"]
    assert b"<t>Anderes</t>" in clash["xl/sharedStrings.xml"]


def test_inline_texts_comments_and_direction() -> None:
    sheet = '<row><c t="inlineStr"><is><t>Inline</t></is></c></row>'
    comment = "<commentList><comment><text><r><t>Comment</t></r></text></comment></commentList>"
    data = xlsx_bytes("", sheet, comments1=("comments", "comments", comment))
    assert texts(opened(data)) == ["Inline", "Comment"]
    result = members_of(swapped(data, target="arb_Arab"))["xl/worksheets/sheet1.xml"].decode()
    assert "<is><t>iNLINE</t></is>" in result
    assert '<sheetView workbookViewId="0" rightToLeft="1"/>' in result


def test_escaped_characters() -> None:
    data = xlsx_bytes(strings_of("one_x000D_\ntwo &amp; _x005F_x0041_"))
    assert texts(opened(data)) == ["one\r\ntwo & _x0041_"]
    result = swapped(data)
    assert texts(opened(result)) == ["ONE\r\nTWO & _X0041_"]


def test_real_workbooks_open_in_openpyxl() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    from openpyxl.comments import Comment
    from openpyxl.styles import Font

    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet["A1"], sheet["B1"] = "A text", 5
    sheet["A1"].font = Font(bold=True)
    sheet["A2"] = '=A1&" end"'
    sheet["A1"].comment = Comment("A remark", "author")
    buffer = io.BytesIO()
    workbook.save(buffer)
    data = buffer.getvalue()
    assert unchanged(data) == data
    result = openpyxl.load_workbook(io.BytesIO(swapped(data))).active
    assert (result["A1"].value, result["B1"].value) == ("a TEXT", 5)
    assert result["A1"].font.bold and result["A2"].value == '=A1&" end"'
    assert result["A1"].comment.text == "a REMARK"


def test_many_cells_need_bounded_memory() -> None:
    count = 3000
    data = xlsx_bytes(strings_of(*(f"text number {number}" for number in range(count))))
    tracemalloc.start()
    document = opened(data)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(document.units) == count
    assert held / count < 1000  # bytes per unit: a million texts fit into 1 GB


def test_messages_and_page_headers() -> None:
    data = xlsx_bytes(
        "",
        "",
        sheet2=(
            "worksheet",
            "worksheet",
            '<dataValidation promptTitle="Hint" error="Not &quot;that&quot;"/><headerFooter>'
            '<oddHeader>&amp;L&amp;"Arial,Bold"Top secret&amp;RPage &amp;P of &amp;N</oddHeader>'
            "</headerFooter>",
        ),
    )
    assert texts(opened(data)) == ["Hint", 'Not "that"', "<1/>Top secret", "Page <1/> of <2/>"]
    result = members_of(swapped(data))["xl/sheet2.xml"].decode()
    assert 'error="nOT &quot;THAT&quot;"' in result
    assert '&amp;L&amp;"Arial,Bold"tOP SECRET&amp;RpAGE &amp;P OF &amp;N<' in result
