"""TMX: units are read in any encoding, and a bad unit does not end the reading."""

from pathlib import Path

import pytest

from data_pipeline.readers import tmx
from data_pipeline.readers.tmx import BadUnit, read_tmx
from nllb.errors import DataError

HEAD = '<?xml version="1.0" encoding="{}"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx><body>\n'
TAIL = "</body></tmx>\n"


def unit(source: str, target: str) -> str:
    return (
        f'<tu><tuv xml:lang="en-GB"><seg>{source}</seg></tuv>'
        f'<tuv xml:lang="fr"><seg>{target}</seg></tuv></tu>\n'
    )


def read(path: Path, text: str, encoding: str = "utf-8", declared: str = "utf-8") -> list[object]:
    """Write a file with this body and return what is read of it."""
    file = path / "memory.tmx"
    file.write_bytes((HEAD.format(declared) + text + TAIL).encode(encoding))
    return list(read_tmx(file, "eng_Latn", "fra_Latn"))


GOOD = [("Good.", "Bon.")]


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (unit("A &nbsp; b", "c"), "entity &nbsp; is not defined"),
        (unit("A \x0b b", "c"), "invalid token"),
        (unit("2 < 3", "c"), "invalid token"),
        (unit("<b>A</i>", "c"), "mismatched tag"),
        ("<tu <x>", "invalid token"),
        ("</tu>", "mismatched tag"),
        ('<tu><tuv xml:lang="en"><seg>A</seg></tuv>\n', "an end tag </tu> is missing"),
        ("<tu>" + "<x>" * 20_000 + "</x>" * 20_000 + "</tu>", "nested more than 100 deep"),
        ('<tu><tuv xml:lang="en"><seg>A</seg></tuv></tu>', "no segment of fra_Latn"),
    ],
)
def test_reading_resumes_at_the_next_unit(tmp_path: Path, bad: str, fault: str) -> None:
    good = unit("Good.", "Bon.")
    before, found, *after = read(tmp_path, good + bad + good + good)
    assert [before, *after] == GOOD * 3
    assert isinstance(found, BadUnit) and fault in found.error


def test_a_fault_names_its_line(tmp_path: Path) -> None:
    lines = unit("Good.", "Bon.") * 5000 + unit("2 < 3", "c") + unit("Good.", "Bon.") * 5000
    lines += unit("A \x01", "c")
    found = read(tmp_path, lines)
    assert [number for number, row in enumerate(found) if row != GOOD[0]] == [5000, 10001]
    faults = [row.error for row in found if isinstance(row, BadUnit)]
    assert [fault.rsplit(", ")[-1] for fault in faults] == [
        "line 5004 of the file",
        "line 10005 of the file",
    ]


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "iso-8859-1"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16"),
        ("utf-16-be", "utf-16"),
        ("utf-32", "utf-32"),
        ("windows-1252", "windows-1252"),
        ("utf-8", "utf-16"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, declared: str) -> None:
    rows = read(tmp_path, unit("Zoë’s", "L’été") * 3000, encoding, declared)
    assert rows == [("Zoë’s", "L’été")] * 3000


def test_bytes_outside_the_declared_encoding_are_a_bad_unit(tmp_path: Path) -> None:
    found = read(tmp_path, unit("Zoë", "été") + unit("Good.", "Bon."), "latin-1", "utf-8")
    assert isinstance(found[0], BadUnit) and found[1:] == GOOD


def test_an_unknown_encoding_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown encoding 'klingon'"):
        read(tmp_path, unit("a", "b"), "utf-8", "klingon")


def test_comments_and_native_codes_are_not_text(tmp_path: Path) -> None:
    commented = f"<!-- {unit('x', 'y')} -->"
    inline = unit('a <bpt i="1">code <sub>x</sub></bpt>b<ept i="1"/> &amp; c', "<hi>d</hi> e")
    assert read(tmp_path, commented + inline) == [("a b & c", "d e")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", "not a TMX file"),
        ("<html><p>x</p></html>", "the root element is <html>"),
        (HEAD.format("utf-8") + unit("a", "b"), "truncated"),
        ("", "truncated"),
        ("<tmx><body>" + "<x>" * 20_000, "nested more than 100 deep"),
        ('<!DOCTYPE t [<!ENTITY a "b">]><tmx><body>' + unit("&a;", "b") + TAIL, "entity 'a'"),
    ],
)
def test_files_that_cannot_be_read_are_errors(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "memory.tmx"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_tmx(path, "eng_Latn", "fra_Latn"))


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmx, "MAX_TAG_BYTES", 100_000)
    with pytest.raises(DataError, match="a tag or comment is longer"):
        read(tmp_path, unit("a", "b") + "<!-- " + "x" * 500_000)
    monkeypatch.setattr(tmx, "MAX_UNIT_CHARACTERS", 1000)
    found = read(tmp_path, unit("x" * 2000, "b") + unit("Good.", "Bon."))
    assert isinstance(found[0], BadUnit) and found[1:] == GOOD


def test_a_unit_with_endless_notes_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tmx, "MAX_UNIT_BYTES", 100_000)
    note = "<note>" + "Nobody reads this. " * 20_000 + "</note>"
    found = read(tmp_path, unit("a", "b").replace("<tu>", f"<tu>{note}") + unit("Good.", "Bon."))
    assert isinstance(found[0], BadUnit) and "more than 100,000 bytes" in found[0].error
    assert found[1:] == GOOD
    many = unit("Good.", "Bon.") * 2000
    assert len(read(tmp_path, many)) == 2000
    with pytest.raises(DataError, match="between two units"):
        read(tmp_path, unit("a", "b") + f"<x>{note}</x>" + unit("Good.", "Bon."))
