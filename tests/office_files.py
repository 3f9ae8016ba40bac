"""Office files built in memory, and a translator of units for tests."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from nllb.documents.registry import open_document
from nllb.documents.units import CodeKind, Document, FormatOptions, Fragment, InlineCode, Unit
from nllb.languages import parse_language

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
OFFICE_TYPES = "application/vnd.openxmlformats-officedocument."
HEADER = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\r\n'


def zip_bytes(members: Mapping[str, str | bytes], *, stored: Sequence[str] = ()) -> bytes:
    """Return a zip archive; the members named in `stored` are not compressed."""
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            entry = ZipInfo(name, (2020, 2, 2, 2, 2, 2))
            entry.compress_type = ZIP_STORED if name in stored else ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()


def members_of(data: bytes) -> dict[str, bytes]:
    """Return the members of a zip archive in order."""
    with ZipFile(BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def office_bytes(parts: Mapping[str, tuple[str, str | bytes]]) -> bytes:
    """Return an Office package of parts: content type (without its start) and content by name."""
    kinds = {
        name: kind if "/" in kind else OFFICE_TYPES + kind for name, (kind, _) in parts.items()
    }
    overrides = "".join(
        f'<Override PartName="/{name}" ContentType="{kind}"/>' for name, kind in kinds.items()
    )
    types = (
        f'{HEADER}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f"{overrides}</Types>"
    )
    return zip_bytes({"[Content_Types].xml": types, **{n: c for n, (_, c) in parts.items()}})


def docx_bytes(body: str, **parts: tuple[str, str]) -> bytes:
    """Return a Word document with a body; further parts are named without `word/` and `.xml`."""
    styles = (
        f'{HEADER}<w:styles xmlns:w="{WORD}"><w:docDefaults><w:rPrDefault><w:rPr>'
        '<w:lang w:val="en-US" w:eastAsia="ja-JP" w:bidi="he-IL"/></w:rPr></w:rPrDefault>'
        "</w:docDefaults></w:styles>"
    )
    document = (
        f'{HEADER}<w:document xmlns:w="{WORD}" xmlns:a="{DRAWING}" '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<w:body>{body}</w:body></w:document>"
    )
    return office_bytes(
        {
            "word/document.xml": ("wordprocessingml.document.main+xml", document),
            "word/styles.xml": ("wordprocessingml.styles+xml", styles),
            **{f"word/{name}.xml": part for name, part in parts.items()},
        }
    )


def paragraph(content: str) -> str:
    """Return a paragraph of Word; content without tags becomes one run."""
    return f"<w:p>{content if '<' in content else run(content)}</w:p>"


def run(text: str, properties: str = "") -> str:
    """Return a run of Word."""
    inside = f"<w:rPr>{properties}</w:rPr>" if properties else ""
    return f'<w:r>{inside}<w:t xml:space="preserve">{text}</w:t></w:r>'


def opened(data: bytes, name: str = "file") -> Document:
    """Return a parsed file."""
    return open_document(data, name, FormatOptions())[1]


def texts(document: Document) -> list[str]:
    """Return the texts of units, with codes as `<1>`, `</1>` and `<1/>`."""
    return [marked(unit.fragments) for unit in document.units]


def marked(fragments: Sequence[Fragment]) -> str:
    """Return fragments as one text, with codes as `<1>`, `</1>` and `<1/>`."""
    written = {CodeKind.OPEN: "<{}>", CodeKind.CLOSE: "</{}>", CodeKind.STANDALONE: "<{}/>"}
    return "".join(
        part if isinstance(part, str) else written[part.kind].format(part.number)
        for part in fragments
    )


def unmarked(unit: Unit, text: str) -> tuple[Fragment, ...]:
    """Return the fragments that `marked` writes as a text, with the codes of a unit."""
    codes = {marked([code]): code for code in unit.fragments if isinstance(code, InlineCode)}
    fragments: list[Fragment] = [text]
    for name, code in codes.items():
        split: list[Fragment] = []
        for part in fragments:
            if isinstance(part, str):
                before, found, after = part.partition(name)
                split += [before, code, after] if found else [before]
            else:
                split.append(part)
        fragments = split
    return tuple(part for part in fragments if part != "")


def translated(
    data: bytes, changes: Mapping[str, str], *, target: str = "deu_Latn", name: str = "file"
) -> bytes:
    """Return a file in which units with certain marked texts have others."""
    document = opened(data, name)
    found = {marked(unit.fragments): unit for unit in document.units}
    assert changes.keys() <= found.keys(), found.keys()
    new = {found[old].key: unmarked(found[old], text) for old, text in changes.items()}
    return document.render(new, source=None, target=parse_language(target))


def swapped(data: bytes, *, target: str = "deu_Latn", name: str = "file") -> bytes:
    """Return a file in which all letters of units have the other case."""
    document = opened(data, name)
    new = {unit.key: [_swap(part) for part in unit.fragments] for unit in document.units}
    return document.render(new, source=None, target=parse_language(target))


def unchanged(data: bytes, *, target: str = "deu_Latn", name: str = "file") -> bytes:
    """Return a file after a translation that changes nothing."""
    document = opened(data, name)
    same = {unit.key: unit.fragments for unit in document.units}
    return document.render(same, source=None, target=parse_language(target))


def _swap(part: Fragment) -> Fragment:
    return part.swapcase() if isinstance(part, str) else part
