"""Lines in and out: nothing shifted, nothing half-written, every fault with file and line."""

import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from nllb.errors import DataError
from nllb.io import text
from nllb.io.atomic import atomic_text
from nllb.io.compression import open_binary
from nllb.io.text import (
    MAX_LINE_BYTES,
    read_binary_lines,
    read_json,
    read_json_lines,
    read_lines,
    read_table,
    read_text,
    write_json,
    write_lines,
)

# Lines with a null in every second byte would be taken for UTF-16.
LINES = st.lists(st.text(st.characters(blacklist_characters="\n\0", blacklist_categories=("Cs",))))


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".xz"])
def test_lines_come_back_as_they_went(tmp_path: Path, suffix: str) -> None:
    lines = ["", "a\u2028b\u0085c\x0c", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", " x ", "\r", ""]
    path = tmp_path / f"lines.txt{suffix}"
    assert write_lines(path, lines) == len(lines)
    assert list(read_lines(path)) == lines
    assert list(tmp_path.iterdir()) == [path]


@given(LINES)
def test_any_lines_come_back(tmp_path_factory, lines) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines.txt"
    write_lines(path, lines)
    expected = [*lines]
    if expected and expected[0].startswith("\ufeff"):
        expected[0] = expected[0][1:]
    assert list(read_lines(path)) == expected


def test_a_last_line_without_an_end_counts_and_a_bom_does_not(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert list(read_lines(path)) == ["one\r", "two"]
    assert read_text(path) == "one\r\ntwo"


def test_bad_bytes_are_named_by_file_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"fine\nbro\xffken\n")
    with pytest.raises(DataError, match=r"lines\.txt:2: byte 4 .* 0xff|0xff"):
        list(read_lines(path))
    assert list(read_lines(path, errors="replace")) == ["fine", "bro\ufffdken"]
    with pytest.raises(DataError, match=r"lines\.txt:2"):
        read_text(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".xz"])
def test_a_damaged_file_is_an_error_not_a_shorter_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.txt{suffix}"
    write_lines(path, (f"line {number * 7919 % 104729}" for number in range(50_000)))
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:-2000], whole[:middle] + b"\xff" * 64 + whole[middle + 64 :]):
        path.write_bytes(damaged)
        for read in (lambda: list(read_lines(path)), lambda: read_text(path)):
            with pytest.raises(DataError, match=path.name):
                read()


def test_a_file_that_is_not_compressed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "plain.gz"
    path.write_text("not gzip")
    with pytest.raises(DataError, match=r"plain\.gz"):
        list(read_lines(path))


def test_a_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        list(read_lines(tmp_path / "nowhere.txt"))


def test_a_line_with_a_break_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2"):
        write_lines(tmp_path / "out.txt", ["fine", "a\nb"])
    assert not list(tmp_path.iterdir())


def test_a_line_of_more_than_the_limit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    with path.open("wb") as stream:
        stream.write(b"short\n" + b"x" * MAX_LINE_BYTES + b"\n")
        stream.write(b"y" * (MAX_LINE_BYTES + (1 << 19)))
    lines = read_binary_lines(path)
    assert [len(next(lines)), len(next(lines))] == [5, MAX_LINE_BYTES]
    with pytest.raises(DataError, match=r"long\.txt:3: the line is longer than 16 MiB"):
        next(lines)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, "{", "nothing"])
def test_json_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json:1: "):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_text(f"1\n{text}\n")
    with pytest.raises(DataError, match=r"a\.jsonl:2: "):
        list(read_json_lines(tmp_path / "a.jsonl"))


def test_json_and_tables(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "\u00e9"})
    assert read_json(tmp_path / "a.json") == {"name": "\u00e9"}
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match=r"bad\.jsonl:2"):
        list(read_json_lines(tmp_path / "bad.jsonl"))
    (tmp_path / "t.tsv").write_text("# SOURCE: test\na\tb\n1\t2\n")
    assert list(read_table(tmp_path / "t.tsv")) == [{"a": "1", "b": "2"}]
    (tmp_path / "t.tsv").write_text("a\tb\n1\n")
    with pytest.raises(DataError, match=r"t\.tsv:2: 1 columns"):
        list(read_table(tmp_path / "t.tsv"))


BOMB = """
import resource, sys
from nllb.errors import DataError
from nllb.io.text import read_binary_lines
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read = []
try:
    for line in read_binary_lines(sys.argv[1]):
        read.append(line)
except DataError as error:
    print(len(read), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".xz"])
def test_a_line_that_does_not_end_is_refused_before_it_takes_memory(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"bomb.txt{suffix}"
    with open_binary(path, "wb") as stream:
        stream.write(b"one\ntwo\n")
        for _ in range(20):
            stream.write(b"a" * (1 << 24))
    assert path.stat().st_size < 1 << 20
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, check=True
    )
    num_read, kib, message = done.stdout.split(" ", 2)
    assert int(num_read) == 2 and int(kib) < 100 << 10
    assert message.startswith(f"{path}:3: the line is longer than 16 MiB")


def test_lines_up_to_the_limit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / "long.txt"
    path.write_bytes(b"a\n" + b"b" * (1 << 20) + b"\nc\n")
    assert [len(line) for line in read_lines(path)] == [1, 1 << 20, 1]
    path.write_bytes(b"a\n" + b"b" * ((1 << 20) + 1) + b"\nc\n")
    with pytest.raises(DataError, match=r"long\.txt:2: the line is longer than 1 MiB"):
        list(read_lines(path))


def test_whole_files_have_a_limit_after_decompression(tmp_path: Path) -> None:
    path = tmp_path / "a.json.zst"
    with atomic_text(path) as stream:
        stream.write('"' + "a" * (3 << 20) + '"')
    assert path.stat().st_size < 10_000 and len(read_text(path)) == (3 << 20) + 2
    with pytest.raises(DataError, match=r"a\.json\.zst is longer than 2 MiB"):
        read_json(path, max_bytes=2 << 20)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "nests too deeply"),
        ('{"a":' * 100_000, "nests too deeply"),
        ("9" * 5000, "not JSON"),
        ("[1,\n2,", ":2: not JSON"),
    ],
)
def test_json_that_python_cannot_hold(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=rf"a\.json.*{message}"):
        read_json(path)
    path.write_text("{}\n" + content.replace("\n", ""))
    with pytest.raises(DataError, match=r"a\.json:2: not"):
        list(read_json_lines(path))


def test_many_small_frames_and_blocks_of_zeros(tmp_path: Path) -> None:
    path = tmp_path / "frames.zst"
    lines = [b"line %d" % number + b" " * (number % 7 * 5000) for number in range(300)]
    path.write_bytes(b"".join(zstandard.ZstdCompressor().compress(line + b"\n") for line in lines))
    assert list(text.read_binary_lines(path)) == lines
