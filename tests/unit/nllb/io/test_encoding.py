"""Files that are not UTF-8 are named as what they are."""

import bz2
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.errors import DataError
from nllb.io.encoding import check_encoding
from nllb.io.text import read_lines, read_text


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("Guten Tag.\nWie geht es?\n".encode("utf-16"), "UTF-16; convert it to UTF-8: iconv"),
        ("Guten Tag.\nWie geht es?\n".encode("utf-16-le"), "UTF-16LE; convert"),
        ("Guten Tag.\nWie geht es?\n".encode("utf-16-be"), "UTF-16BE; convert"),
        ("Guten Tag.\n".encode("utf-32"), "UTF-32; convert"),
        (
            gzip.compress(b"one\n", mtime=0),
            r"this is a gzip file, not text; give it the suffix \.gz",
        ),
        (bz2.compress(b"one\n"), "this is a bzip2 file, not text; extract the text first"),
        (b"PK\x03\x04\x14\x00\x06\x00\x08\x00", "this is a zip file"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "this is a PDF file"),
    ],
    ids=["utf-16", "utf-16-le", "utf-16-be", "utf-32", "gzip", "bzip2", "zip", "pdf"],
)
def test_other_files_are_named(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(raw)
    for read in (lambda: list(read_lines(path)), lambda: read_text(path)):
        with pytest.raises(DataError, match=message):
            read()


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"))))
def test_text_in_utf_8_passes(text: str) -> None:
    check_encoding(("BZh " + text).encode(), "text")
    check_encoding(text.encode(), "text")


def test_a_character_that_the_limit_cuts_is_text() -> None:
    check_encoding(("BZh" + "\U0001f600" * 2000).encode(), "text")
