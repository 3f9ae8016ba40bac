"""A new Word document of headings and paragraphs, for formats that cannot be written back."""

from collections.abc import Iterable
from io import BytesIO
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from .xml_parts import Writing
from .xml_spans import escape_attribute, escape_text

_WORD: Final = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_HEADER: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_DOCUMENT_TYPE: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml"
_RELATIONS: Final = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_HEADING_SIZES: Final = (36, 30, 26)
"""Sizes of headings by level, in half points."""
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def plain_docx(paragraphs: Iterable[tuple[int, str]], writing: Writing) -> bytes:
    """Return a Word document.

    Args:
        paragraphs: level and text of each paragraph; the level is 0 for text and 1 to 3 for
            headings. Line feeds in a text become line breaks.
        writing: the language of the text.
    """
    body = "".join(_paragraph(level, text, writing) for level, text in paragraphs)
    document = f'<w:document xmlns:w="{_WORD}"><w:body>{body}<w:sectPr/></w:body></w:document>'
    members = {
        "[Content_Types].xml": _content_types(),
        "_rels/.rels": _relations("officeDocument", "word/document.xml"),
        "word/_rels/document.xml.rels": _relations("styles", "styles.xml"),
        "word/document.xml": document,
        "word/styles.xml": _styles(writing),
    }
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            entry = ZipInfo(name, _DATE)
            entry.compress_type = ZIP_DEFLATED
            archive.writestr(entry, _HEADER + content)
    return buffer.getvalue()


def _paragraph(level: int, text: str, writing: Writing) -> str:
    style = f'<w:pStyle w:val="Heading{level}"/>' if level else ""
    direction = "<w:bidi/>" if writing.is_rtl else ""
    properties = f"<w:pPr>{style}{direction}</w:pPr>" if style or direction else ""
    run = "<w:rPr><w:rtl/></w:rPr>" if writing.is_rtl else ""
    lines = "<w:br/>".join(
        f'<w:t xml:space="preserve">{escape_text(line)}</w:t>' for line in text.split("\n")
    )
    return f"<w:p>{properties}<w:r>{run}{lines}</w:r></w:p>"


def _content_types() -> str:
    return (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/word/document.xml" '
        f'ContentType="{_DOCUMENT_TYPE}.document.main+xml"/>'
        f'<Override PartName="/word/styles.xml" ContentType="{_DOCUMENT_TYPE}.styles+xml"/>'
        "</Types>"
    )


def _relations(kind: str, target: str) -> str:
    return (
        f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" Type="{_OFFICE}/{kind}" '
        f'Target="{target}"/></Relationships>'
    )


def _styles(writing: Writing) -> str:
    tag = escape_attribute(writing.tag)
    languages = f'<w:lang w:val="{tag}" w:eastAsia="{tag}" w:bidi="{tag}"/>'
    headings = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/>'
        f'<w:next w:val="Normal"/><w:pPr><w:keepNext/><w:spacing w:before="240" w:after="120"/>'
        f'<w:outlineLvl w:val="{level - 1}"/></w:pPr><w:rPr><w:b/><w:bCs/>'
        f'<w:sz w:val="{size}"/><w:szCs w:val="{size}"/></w:rPr></w:style>'
        for level, size in enumerate(_HEADING_SIZES, 1)
    )
    return (
        f'<w:styles xmlns:w="{_WORD}"><w:docDefaults><w:rPrDefault><w:rPr><w:sz w:val="22"/>'
        f'<w:szCs w:val="22"/>{languages}</w:rPr></w:rPrDefault><w:pPrDefault><w:pPr>'
        '<w:spacing w:after="120"/></w:pPr></w:pPrDefault></w:docDefaults>'
        '<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/>'
        f"</w:style>{headings}</w:styles>"
    )
