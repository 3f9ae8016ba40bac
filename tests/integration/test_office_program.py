"""Translated office files open in a real office program, with their text."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.office_files import swapped

PROGRAMS = ("soffice", "pdftotext")
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)),
    reason="needs soffice of LibreOffice and pdftotext of poppler (Debian: "
    "libreoffice-writer-nogui, libreoffice-calc-nogui, poppler-utils)",
)
PAGE = (
    "<html><body><h1>Old houses</h1><p>The house is <b>very old</b>.</p>"
    "<table><tr><td>First cell</td><td>Second cell</td></tr></table>"
    "<ul><li>One item</li></ul></body></html>"
)
TABLE = "Name,Text\nHouse,The house is old.\n,=A2\n"
WANTED = {
    "docx": "oLD HOUSES tHE HOUSE IS VERY OLD fIRST CELL sECOND CELL oNE ITEM",
    "odt": "oLD HOUSES tHE HOUSE IS VERY OLD fIRST CELL sECOND CELL oNE ITEM",
    "xlsx": "nAME tEXT hOUSE tHE HOUSE IS OLD",
    "ods": "nAME tEXT hOUSE tHE HOUSE IS OLD",
}
WORD = re.compile(r"\w+")


@pytest.fixture
def convert(tmp_path):
    """Return a function that converts a file by the office program."""

    def run(path: Path, kind: str) -> Path:
        result = tmp_path / "converted" / f"{path.stem}.{kind}"
        filters = ["--infilter=HTML (StarWriter)"] if path.suffix == ".html" else []
        command = ["soffice", "--headless", *filters, "--convert-to", kind]
        subprocess.run(
            [*command, "--outdir", result.parent, path],
            env=os.environ | {"HOME": str(tmp_path)},
            check=True,
            capture_output=True,
            timeout=600,
        )
        assert result.is_file(), f"{path.name} was not opened"
        return result

    return run


@pytest.mark.parametrize(
    ("kind", "target"),
    [("docx", "arb_Arab"), ("odt", "deu_Latn"), ("xlsx", "arb_Arab"), ("ods", "deu_Latn")],
)
def test_translated_files_open(tmp_path, convert, kind, target):
    is_page = kind in {"docx", "odt"}
    source = tmp_path / ("page.html" if is_page else "page.csv")
    source.write_text(PAGE if is_page else TABLE)
    original = convert(source, kind)
    translated = tmp_path / f"new.{kind}"
    translated.write_bytes(swapped(original.read_bytes(), target=target, name=original.name))
    shown = subprocess.run(
        ["pdftotext", "-layout", convert(translated, "pdf"), "-"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # Words, not lines: the program orders text from right to left by its position on the page.
    assert set(WORD.findall(WANTED[kind])) - set(WORD.findall(shown)) == set()
