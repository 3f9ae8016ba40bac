"""Files appear whole or not at all, and errors name the file that they concern."""

import errno
import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nllb.errors import DataError
from nllb.io.atomic import atomic_binary, atomic_path, atomic_text, is_stdout
from nllb.io.text import write_json, write_lines


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt.gz"
    write_lines(path, ["old"])
    with pytest.raises(RuntimeError), atomic_text(path) as stream:
        stream.write("new\n")
        raise RuntimeError
    with gzip.open(path, "rt") as stream:
        assert stream.read() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_input_is_not_one_of_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match="input"),
        atomic_text(tmp_path / "out.txt"),
        (tmp_path / "input").open("rb"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_temporary_file_names_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"cannot write .*out\.txt: "),
        atomic_path(tmp_path / "out.txt") as temporary,
    ):
        temporary.unlink()
        temporary.open("rb")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_names_the_output(tmp_path: Path, number: int) -> None:
    with pytest.raises(DataError, match=r"out\.txt: "), atomic_binary(tmp_path / "out.txt"):
        raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())


def test_an_incomplete_write_of_numpy_names_the_output(tmp_path: Path) -> None:
    """numpy gives its error no number, so it could be taken for any other."""
    code = (
        "import resource, sys, numpy\n"
        "from pathlib import Path\n"
        "from nllb.io.atomic import atomic_path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with atomic_path(Path(sys.argv[1])) as beside, beside.open('wb') as stream:\n"
        "    numpy.save(stream, numpy.zeros(1000))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "array.npy")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "array.npy: the disk is full, limited or broken (1000 requested" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "out.json", tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match="cannot write "):
            write_json(path, {})


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    (tmp_path / "real/out.txt").write_text("old\n")
    link.symlink_to(tmp_path / "real/out.txt")
    write_lines(link, ["new"])
    assert link.is_symlink()
    assert (tmp_path / "real/out.txt").read_text() == "new\n"


def test_a_named_pipe_receives_the_bytes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        write_lines(pipe, ["one", "two"])
        assert reader.stdout is not None
        assert reader.stdout.read() == b"one\ntwo\n"


def test_writing_to_stdout_keeps_what_is_in_its_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    code = (
        "from pathlib import Path; from nllb.io.text import write_lines; print('first');"
        "write_lines(Path('/dev/stdout'), ['one']); print('last')"
    )
    with log.open("ab") as stream:
        subprocess.run([sys.executable, "-c", code], stdout=stream, check=True)
    assert log.read_text() == "before\nfirst\none\nlast\n"


def test_stdout_is_recognised_by_its_file(tmp_path: Path) -> None:
    assert not is_stdout(tmp_path / "nowhere")
    assert not is_stdout(tmp_path)


LIMITED = """
import resource, sys
from pathlib import Path
from nllb.cli.process_ends import run_to_exit_code
from nllb.io.text import write_lines
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
def verb():
    write_lines(Path(sys.argv[1]), (f"line {n * 7919 % 104729}" for n in range(100_000)))
    return 0
sys.exit(run_to_exit_code(verb))
"""


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".xz"])
def test_a_limit_on_the_size_of_files_is_one_message(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.txt{suffix}"
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"nllb: cannot write {path}: File too large\n")
    assert not list(tmp_path.iterdir())


ON_A_FULL_DISK = """
mount -t tmpfs -o size=64k tmpfs "$1" && shift && exec "$@"
"""
ON_A_READ_ONLY_DISK = """
mount -t tmpfs -o size=64k tmpfs "$1" && mount -o remount,ro "$1" && shift && exec "$@"
"""


@pytest.mark.parametrize(
    ("script", "reason"),
    [(ON_A_FULL_DISK, "No space left on device"), (ON_A_READ_ONLY_DISK, "Read-only file system")],
    ids=["full", "read-only"],
)
def test_full_and_read_only_disks_are_one_message(tmp_path: Path, script: str, reason: str) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], check=False).returncode:
        pytest.skip("user namespaces are not allowed here")
    path = tmp_path / "out.txt"
    code = LIMITED.replace("resource.setrlimit", "# ")
    command = [unshare, "-rm", "sh", "-c", script, "sh", str(tmp_path)]
    command += [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"nllb: cannot write {path}: {reason}\n")
