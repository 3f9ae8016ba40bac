"""Damaged and hostile office files: a result, or an error that says what is wrong."""

import random
import re

import pytest

from nllb.errors import NllbError
from tests.office_files import DRAWING, docx_bytes, members_of, paragraph, run, swapped, zip_bytes

TAG = re.compile(rb"<[^>]*>")
FIELD = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'
SAMPLE = docx_bytes(
    "<w:tbl><w:tblPr/><w:tr><w:tc>"
    + paragraph(
        run("One ")
        + FIELD.format("begin")
        + "<w:r><w:instrText>HYPERLINK x</w:instrText></w:r>"
        + FIELD.format("separate")
        + run("two", "<w:b/>")
        + FIELD.format("end")
        + f'<w:hyperlink w:anchor="a">{run("three")}</w:hyperlink><w:bookmarkStart w:id="1"/>'
        + "<w:r><mc:AlternateContent><mc:Choice><w:txbxContent>"
        + paragraph("Box")
        + "</w:txbxContent></mc:Choice></mc:AlternateContent></w:r><w:bookmarkEnd w:id='1'/>"
    )
    + "</w:tc></w:tr></w:tbl>",
    chart=(
        "drawingml.chart+xml",
        f'<c:c xmlns:c="c" xmlns:a="{DRAWING}"><a:p><a:pPr/><a:r><a:rPr lang="en"/><a:t>Title</a:t>'
        "</a:r><a:br/><a:endParaRPr/></a:p></c:c>",
    ),
)


def damaged(data: bytes, chooser: random.Random) -> bytes:
    """Return a file in which tags of a member are removed, doubled, moved, cut or renamed."""
    members = members_of(data)
    name = chooser.choice([name for name in members if name.endswith(".xml")])
    content = members[name]
    for _ in range(chooser.randint(1, 3)):
        tag, other = chooser.choices([*TAG.finditer(content)], k=2)
        new = chooser.choice([b"", tag[0] * 2, other[0], tag[0][:-1] + b"/>", tag[0][1:]])
        content = content[: tag.start()] + new + content[tag.end() :]
    if chooser.random() < 0.5:
        names = sorted({*re.findall(rb"</?(?:w|a|mc):(\w+)", members[name])}) or [b"x"]
        old, new = chooser.choices(names, k=2)
        content = re.sub(rb"(</?\w+:)" + old + rb"(?=[\s/>])", rb"\1" + new, members[name])
    return zip_bytes({**members, name: content})


@pytest.mark.parametrize("seed", range(100))
def test_damaged_members(seed: int) -> None:
    chooser = random.Random(seed)
    try:
        swapped(damaged(SAMPLE, chooser), target=chooser.choice(["deu_Latn", "arb_Arab"]))
    except NllbError as error:
        assert 0 < len(str(error)) < 2000


@pytest.mark.parametrize(
    "body",
    [
        "<w:p>" * 300 + "</w:p>" * 300,
        paragraph("<w:r>" + "<w:fldChar w:fldCharType='begin'/>" * 3000 + "<w:t>x</w:t></w:r>"),
        paragraph("".join(run(f"word{n} ", "<w:b/>" * (n % 2)) for n in range(3000))),
        paragraph("".join(f'<w:bookmarkStart w:id="{n}"/>' for n in range(3000)) + run("x")),
        paragraph(f"<w:r><w:rPr><w:lang{' ' * 200_000}/></w:rPr><w:t>x</w:t></w:r>"),
    ],
)
@pytest.mark.timeout(60)
def test_hostile_documents_take_no_long_time(body: str) -> None:
    try:
        swapped(docx_bytes(body), target="arb_Arab")
    except NllbError as error:
        assert str(error)
