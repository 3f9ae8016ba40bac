"""Compressed files: the same bytes for the same text, and no bomb that fills the memory."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from nllb.errors import DataError
from nllb.io.compression import COMPRESSIONS, open_binary
from nllb.io.text import read_lines, write_lines


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_the_same_text_gives_the_same_bytes(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / f"a.txt{suffix}", tmp_path / f"another.txt{suffix}"
    write_lines(first, ["one", "two"])
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_lines(second, ["one", "two"])
    assert first.read_bytes() == second.read_bytes()
    assert list(read_lines(second)) == ["one", "two"]


def test_a_gzip_header_has_no_name_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    write_lines(path, ["one"])
    header = path.read_bytes()[:10]
    assert header[3] == 0 and header[4:8] == bytes(4)  # flags and time
    assert gzip.decompress(path.read_bytes()) == b"one\n"


def test_bzip2_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bzip2 is not supported"):
        open_binary(tmp_path / "a.txt.bz2")


@pytest.mark.parametrize("suffix", [".zst", ".gz"])
def test_a_line_that_compresses_to_nothing_is_refused_in_little_memory(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"bomb.txt{suffix}"
    with open_binary(path, "wb") as stream:
        for _ in range(400):
            stream.write(bytes(1 << 20))
    code = (
        "import resource, sys; from nllb.io.text import read_lines\n"
        "limit = 1 << 29; resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "from nllb.errors import DataError\n"
        "try: list(read_lines(sys.argv[1], errors='replace'))\n"
        "except DataError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bomb.txt" in done.stdout and ":1: the line is longer than 16 MiB" in done.stdout


def test_zstandard_frames_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    path.write_bytes(zstandard.compress(b"one\n") + zstandard.compress(b"two\n"))
    assert list(read_lines(path)) == ["one", "two"]
