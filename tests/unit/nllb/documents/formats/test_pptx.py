import io

import pytest

from tests.office_files import (
    DRAWING,
    members_of,
    office_bytes,
    opened,
    swapped,
    texts,
    translated,
    unchanged,
)

PRESENTATION = "http://schemas.openxmlformats.org/presentationml/2006/main"


def shape(paragraphs: str, *, placeholder: bool = False) -> str:
    kind = "<p:ph/>" if placeholder else ""
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="1" name="n" descr="A red car"/><p:nvPr>{kind}</p:nvPr>'
        f"</p:nvSpPr><p:txBody>{paragraphs}</p:txBody></p:sp>"
    )


def line(text: str, properties: str = "", before: str = "") -> str:
    return f"<a:p>{before}<a:r>{properties}<a:t>{text}</a:t></a:r></a:p>"


def slide(kind: str, root: str, content: str) -> tuple[str, str]:
    return (
        f"presentationml.{kind}+xml",
        f'<p:{root} xmlns:p="{PRESENTATION}" xmlns:a="{DRAWING}">{content}</p:{root}>',
    )


def pptx_bytes(content: str, **parts: tuple[str, str]) -> bytes:
    return office_bytes(
        {
            "ppt/presentation.xml": slide("presentation.main", "presentation", ""),
            "ppt/slides/slide1.xml": slide("slide", "sld", content),
            **{f"ppt/{name}.xml": part for name, part in parts.items()},
        }
    )


def slide_xml(data: bytes) -> str:
    return members_of(data)["ppt/slides/slide1.xml"].decode()


def test_runs_breaks_and_fields() -> None:
    content = shape(
        '<a:p><a:r><a:rPr lang="en-US" dirty="0"/><a:t>Our </a:t></a:r>'
        '<a:r><a:rPr lang="en-GB" err="1"/><a:t>goals</a:t></a:r><a:br/>'
        '<a:r><a:rPr b="1"/><a:t>today</a:t></a:r>'
        '<a:fld type="slidenum"><a:t>3</a:t></a:fld><a:endParaRPr lang="en-US"/></a:p>'
    )
    data = pptx_bytes(content)
    assert texts(opened(data)) == ["A red car", "Our goals<1/> <2>today</2><3/>"]
    result = slide_xml(
        translated(data, {"Our goals<1/> <2>today</2><3/>": "Unsere Ziele <1/><2>heute</2><3/>"})
    )
    assert '<a:r><a:rPr lang="de"/><a:t>Unsere Ziele</a:t></a:r><a:br/>' in result
    assert '<a:rPr lang="de" b="1"/><a:t>heute</a:t>' in result
    assert '<a:fld type="slidenum"><a:t>3</a:t></a:fld><a:endParaRPr lang="de"/>' in result


def test_all_parts_are_translated() -> None:
    comments = f'<p:cmLst xmlns:p="{PRESENTATION}"><p:cm><p:text>Comment</p:text></p:cm></p:cmLst>'
    data = pptx_bytes(
        shape(line("Slide")),
        notes=slide("notesSlide", "notes", shape(line("Notes"))),
        layout=slide(
            "slideLayout",
            "sldLayout",
            shape(line("Prompt"), placeholder=True) + shape(line("Logo")),
        ),
        comments=("presentationml.comments+xml", comments),
        data1=("application/x.diagramData+xml", f'<d xmlns:a="{DRAWING}">{line("Smart")}</d>'),
    )
    found = [text for text in texts(opened(data)) if text != "A red car"]
    assert found == ["Slide", "Notes", "Logo", "Comment", "Smart"]


def test_right_to_left_slides() -> None:
    content = shape(line("One", before='<a:pPr lvl="1"/>') + line("Two")) + (
        f"<a:tbl><a:tblPr/><a:tr><a:tc>{line('Cell')}</a:tc></a:tr></a:tbl>"
    )
    result = slide_xml(swapped(pptx_bytes(content), target="heb_Hebr"))
    assert '<a:pPr lvl="1" algn="r" rtl="1"/>' in result
    assert '<a:p><a:pPr algn="r" rtl="1"/>' in result
    assert '<a:tblPr rtl="1"/>' in result


def test_real_presentations_open_in_python_pptx() -> None:
    pptx, openpyxl = pytest.importorskip("pptx"), pytest.importorskip("openpyxl")
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE

    presentation = pptx.Presentation()
    page = presentation.slides.add_slide(presentation.slide_layouts[1])
    page.shapes.title.text = "The title"
    frame = page.placeholders[1].text_frame
    frame.text = "Plain and "
    strong = frame.paragraphs[0].add_run()
    strong.text, strong.font.bold = "bold", True
    page.notes_slide.notes_text_frame.text = "Say this"
    chart_data = CategoryChartData()
    chart_data.categories = ["East", "West"]
    chart_data.add_series("Sales", (1, 2))
    page.shapes.add_chart(XL_CHART_TYPE.PIE, 0, 0, 1000, 1000, chart_data)
    buffer = io.BytesIO()
    presentation.save(buffer)
    data = buffer.getvalue()
    assert unchanged(data) == data
    result = pptx.Presentation(io.BytesIO(swapped(data))).slides[0]
    assert result.shapes.title.text == "tHE TITLE"
    runs = result.placeholders[1].text_frame.paragraphs[0].runs
    assert [(each.text, each.font.bold) for each in runs] == [("pLAIN AND ", None), ("BOLD", True)]
    assert result.notes_slide.notes_text_frame.text == "sAY THIS"
    [chart] = [each.chart for each in result.shapes if each.has_chart]
    assert [*chart.plots[0].categories] == ["eAST", "wEST"]
    assert chart.plots[0].series[0].name == "sALES"
    workbook = openpyxl.load_workbook(io.BytesIO(chart.part.chart_workbook.xlsx_part.blob))
    assert workbook.active["A2"].value == "eAST" and workbook.active["B1"].value == "sALES"
