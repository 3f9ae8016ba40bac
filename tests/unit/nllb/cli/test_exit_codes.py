"""Exit codes and messages of verbs that fail, each in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WRITER = """
import sys
from pathlib import Path
from nllb.cli.process_ends import run_to_exit_code
from nllb.io.atomic import atomic_text

def verb():
    with atomic_text(Path(sys.argv[1])) as stream:
        stream.write("begun\\n")
        print("ready", flush=True)
        sys.stdin.readline()
    return 0

sys.exit(run_to_exit_code(verb))
"""
FAILING = """
import sys
from nllb.cli.process_ends import run_to_exit_code

def verb():
    {body}
    return 0

sys.exit(run_to_exit_code(verb))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("old", [True, False])
def test_a_signal_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, number: signal.Signals, old: bool
) -> None:
    path = tmp_path / "out.txt.gz"
    if old:
        path.write_bytes(b"old")
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
        message = process.stderr.read().decode()
    assert message == f"nllb: {'interrupted' if number == signal.SIGINT else 'terminated'}\n"
    assert [p.name for p in tmp_path.iterdir()] == (["out.txt.gz"] if old else [])
    assert not old or path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("open('/nowhere/at/all')", 1, "nllb: /nowhere/at/all: No such file or directory\n"),
        ("raise MemoryError", 1, "nllb: not enough memory"),
        ("raise KeyboardInterrupt", 130, "nllb: interrupted\n"),
        ("from nllb.errors import ConfigError; raise ConfigError('bad usage')", 2, "nllb: bad us"),
    ],
)
def test_an_error_is_one_message(body: str, code: int, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILING.format(body=body)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1


def test_developers_see_the_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILING.format(body="open('/nowhere')")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NLLB_DEBUG": "1"},
    )
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_closed_pipe_ends_silently() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "nllb", "languages", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""
