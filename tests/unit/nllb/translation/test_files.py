import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nllb.errors import DataError
from nllb.io.compression import open_binary
from nllb.io.text import read_text
from nllb.translation.files import (
    PartialOutput,
    describe_inputs,
    read_batches,
    read_windows,
)


class Arriving(io.RawIOBase):
    """A pipe into which its writer puts one piece at a time."""

    def __init__(self, pieces):
        self.pieces = list(pieces)
        self.read_so_far = 0

    def readable(self):
        return True

    def read1(self, size=-1):
        self.read_so_far += 1
        return self.pieces.pop(0) if self.pieces else b""


@pytest.fixture
def pipe(monkeypatch):
    def pipe(*pieces):
        stream = Arriving(pieces)
        monkeypatch.setattr("nllb.io.text.open_binary", lambda path: stream)
        return stream

    return pipe


def write(path, content):
    with open_binary(path, "wb") as stream:
        stream.write(content)
    return path


def test_lines_come_as_soon_as_they_have_come(pipe):
    stream = pipe(b"one\n", b"tw", b"o\nthree\nfo", b"ur")
    batches = read_batches("-")
    assert (next(batches), stream.read_so_far) == (["one\n"], 1)
    assert (next(batches), stream.read_so_far) == (["two\n", "three\n"], 3)
    assert list(batches) == [["four"]]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".xz"])
def test_every_line_comes_back(tmp_path, suffix):
    text = "".join(f"Zeile {n} äöü\u2028 \x0c\r\n" for n in range(30_000)) + "\n\nlast"
    path = write(tmp_path / f"text{suffix}", b"\xef\xbb\xbf" + text.encode())
    batches = list(read_batches(path))
    assert "".join(line for batch in batches for line in batch) == text
    assert all(line.endswith("\n") for line in [x for batch in batches for x in batch][:-1])
    windows = list(read_windows([path]))
    assert [len(window) for window in windows[:3]] == [4, 8, 16]
    assert max(map(len, windows)) <= 2048
    assert "".join(line for window in windows for line in window) == text


def test_files_follow_each_other_and_lines_can_be_skipped(tmp_path):
    first = write(tmp_path / "a", b"1\n2\n3")
    second = write(tmp_path / "b.gz", b"4\n5")
    empty = write(tmp_path / "c", b"")
    windows = read_windows([first, empty, second], skip=2)
    assert [line for window in windows for line in window] == ["3\n", "4\n", "5"]
    assert list(read_windows([empty])) == []


def test_bytes_that_are_not_utf8_are_named_after_the_lines_before_them(tmp_path):
    path = write(tmp_path / "text", b"good\nfine\nbad \xff byte\nmore\n")
    batches = read_batches(path)
    assert next(batches) == ["good\n", "fine\n"]
    with pytest.raises(DataError, match=r"text:3: byte 5 of the line is not UTF-8 \(0xff\)"):
        next(batches)
    [replaced] = read_batches(path, errors="replace")
    assert replaced[2] == "bad \ufffd byte\n"


def test_a_damaged_or_missing_file_is_an_error(tmp_path):
    whole = gzip.compress(b"line\n" * 100_000)
    path = tmp_path / "cut.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.gz is damaged or truncated"):
        list(read_batches(path))
    with pytest.raises(DataError, match="cannot open"):
        list(read_batches(tmp_path / "none"))
    with pytest.raises(DataError, match="cannot"):
        list(read_batches(tmp_path))


def test_a_long_line_is_put_together(pipe):
    pipe(*[b"x" * 1000] * 2000, b"y\nz")
    [[line], [rest]] = read_batches("-")
    assert len(line) == 2_000_002 and rest == "z"


JOB = {"target": "fra_Latn"}


def interrupt(path, text, job):
    with PartialOutput(path, job) as output:
        output.write(text)
        output.flush()


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_an_interrupted_output_is_continued(tmp_path, suffix):
    path = tmp_path / f"out.txt{suffix}"
    interrupt(path, "un\ndeux\ntro", JOB)
    assert not path.exists()
    with PartialOutput(path, JOB) as output:
        assert output.lines_done == 2
        output.write("trois\n")
        output.finish()
    assert read_text(path) == "un\ndeux\ntrois\n"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("job", [None, {"target": "deu_Latn"}])
def test_another_job_starts_anew(tmp_path, job):
    path = tmp_path / "out.txt"
    interrupt(path, "un\ndeux\n", JOB)
    with PartialOutput(path, job) as output:
        assert output.lines_done == 0
        output.write("eins\n")
        output.finish()
    assert path.read_text() == "eins\n"
    assert [each.name for each in tmp_path.iterdir()] == ["out.txt"]


def test_the_part_describes_its_job(tmp_path):
    interrupt(tmp_path / "deep" / "out.txt", "un\n", JOB)
    folder = tmp_path / "deep"
    assert (folder / "out.txt.part").read_text() == "un\n"
    assert json.loads((folder / "out.txt.part.json").read_text()) == JOB
    (folder / "out.txt.part.json").write_bytes(b"\xff damaged")
    with PartialOutput(folder / "out.txt", JOB) as output:
        assert output.lines_done == 0


def test_an_output_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        PartialOutput(tmp_path / "file" / "out.txt", None)


def test_inputs_are_described_unless_they_cannot_be_read_again(tmp_path):
    path = write(tmp_path / "a", b"12345")
    [described] = describe_inputs([path])
    assert described["size"] == 5 and described["path"] == str(path)
    assert describe_inputs([path, "-"]) is None
    assert describe_inputs(["/dev/stdin"]) is None


def test_pipes_are_written_directly_and_stay(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with PartialOutput(pipe, None) as output:
        output.write("un\n")
        output.finish()
    assert os.read(reader, 100) == b"un\n"
    os.close(reader)
    assert pipe.is_fifo() and [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_a_link_stays_a_link_and_its_file_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    real = tmp_path / "there" / "real.txt"
    real.write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to(real)
    with PartialOutput(link, JOB) as output:
        output.write("un\n")
        output.finish()
    assert link.is_symlink() and real.read_text() == "un\n"


def test_a_directory_is_refused_at_once(tmp_path):
    with pytest.raises(DataError, match="it is a directory"):
        PartialOutput(tmp_path, JOB)


def test_two_cannot_write_the_same_output(tmp_path):
    path = tmp_path / "out.txt"
    with PartialOutput(path, JOB) as first:
        first.write("un\n")
        first.flush()
        with pytest.raises(DataError, match="another process is writing"):
            PartialOutput(path, JOB)
        first.write("deux\n")
        first.finish()
    assert path.read_text() == "un\ndeux\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device /dev/full of Linux")
def test_a_full_disk_is_reported_and_closing_is_quiet():
    with (
        pytest.raises(DataError, match="cannot write /dev/full: No space left"),
        PartialOutput(Path("/dev/full"), None) as output,
    ):
        output.write("un\n")
        output.flush()
    assert not Path("/dev/full").is_file()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"])
def test_standard_output_is_appended_to_and_never_replaced(tmp_path, name):
    """As in `nllb translate -o /dev/stdout >> log`."""
    log = tmp_path / "log"
    log.write_text("before\n")
    code = (
        "from pathlib import Path; from nllb.translation.files import PartialOutput\n"
        f"with PartialOutput(Path({name!r}), None) as output:\n"
        "    output.write('after\\n'); output.finish()"
    )
    with log.open("ab") as stream:
        subprocess.run([sys.executable, "-c", code], stdout=stream, check=True)
    assert log.read_text() == "before\nafter\n"
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


def test_a_full_file_system_is_one_error_and_keeps_complete_lines(tmp_path):
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from nllb.translation.files import PartialOutput\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "with PartialOutput(Path(sys.argv[1]), {'job': 1}) as output:\n"
        "    for n in range(1000): output.write_through(f'line {n}\\n')"
    )
    path = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1].endswith(f"DataError: cannot write {path}: File too large")
    assert not path.exists()
    with PartialOutput(path, {"job": 1}) as output:
        assert output.lines_done > 400


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_recognized_with_and_without_a_byte_order_mark(tmp_path, encoding):
    path = write(tmp_path / "text", "Hello.\nBye.\n".encode(encoding))
    with pytest.raises(DataError, match=r"text is in UTF-16.*iconv -f UTF-16"):
        list(read_batches(path, errors="replace"))


def test_a_few_nuls_are_text(tmp_path):
    path = write(tmp_path / "text", b"one\x00two\n" + b"a\x00b\n")
    assert list(read_batches(path)) == [["one\x00two\n", "a\x00b\n"]]
