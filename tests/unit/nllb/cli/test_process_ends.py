"""Commands that end early: closed streams, full and read-only file systems, signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A verb of our own, so that no model is loaded: it writes an output atomically, then waits.
WAITING_VERB = """
import sys
from pathlib import Path
import nllb.cli.languages as verb
from nllb.cli import main
from nllb.io.atomic import atomic_text

def wait(arguments):
    with atomic_text(Path(sys.argv[2])) as stream:
        stream.write("begun")
        stream.flush()
        print("ready", flush=True)
        sys.stdin.read()
    return 0

import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
verb.languages = wait
sys.exit(main(["languages", "French"]))
"""
NLLB = [sys.executable, "-m", "nllb"]


def run(*words, **options):
    return subprocess.run(
        [*NLLB, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGTERM, 143, "nllb: terminated\n"), (signal.SIGINT, 130, "nllb: interrupted\n")],
)
def test_a_signal_removes_temporary_files(tmp_path, number, code, message):
    with subprocess.Popen(
        [sys.executable, "-c", WAITING_VERB, "x", str(tmp_path / "out.txt")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.stderr.read().decode() == message
        assert process.wait(timeout=60) == code
    assert list(tmp_path.iterdir()) == []


def close(*numbers):
    def close_streams():
        for number in numbers:
            os.close(number)

    return close_streams


def test_a_closed_stdin_is_one_message():
    for words in (["translate", "-s", "en", "-t", "fr", "-m", "nowhere"], ["detect"]):
        done = run(*words, preexec_fn=close(0), stdout=subprocess.PIPE)
        assert done.returncode in {1, 2} and "Traceback" not in done.stderr
    assert done.stderr.endswith(
        "nllb: stdin is closed: name an input file, or pipe text into the command\n"
    )


def test_a_closed_stdout_is_one_message_and_no_file_takes_its_place(tmp_path):
    (tmp_path / "text").write_text("Good morning.\n")
    done = run("detect", tmp_path / "text", preexec_fn=close(1))
    assert done.returncode == 1
    assert done.stderr.startswith("nllb: stdout is closed: name an output file with --output")
    done = run("detect", tmp_path / "text", "-o", tmp_path / "out", preexec_fn=close(0, 1))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out").read_text().startswith("eng_Latn\t")


def test_a_closed_stderr_does_not_mix_messages_into_the_output(tmp_path):
    done = subprocess.run(
        [*NLLB, "languages", "Frensh"],
        stdout=subprocess.PIPE,
        preexec_fn=close(2),
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
@pytest.mark.parametrize("words", [["detect"], ["languages"], ["models"]])
def test_a_full_disk_behind_stdout_is_one_message(words):
    with Path("/dev/full").open("wb") as full:
        done = run(*words, stdout=full, input="Good morning.\n")
    assert (done.returncode, done.stderr) == (1, "nllb: cannot write: No space left on device\n")


def limit_file_size():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def test_a_full_file_system_leaves_no_part_of_an_output(tmp_path):
    (tmp_path / "text").write_text("Good morning to all of you.\n" * 2000)
    output = tmp_path / "labels"
    done = run("detect", tmp_path / "text", "-o", output, preexec_fn=limit_file_size)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a file system without files")
@pytest.mark.parametrize(
    "words",
    [["detect"], ["translate", "-s", "en", "-t", "fr"]],
    ids=["detect", "translate"],
)
def test_a_read_only_file_system_is_one_message(words):
    done = run(*words, "-o", "/sys/kernel/out.txt", input="Good morning.\n")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "nllb: " in done.stderr and "/sys/kernel" in done.stderr


def test_an_output_that_is_standard_output_is_appended_to(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("ab") as stream:
        done = run("detect", "-o", "/dev/stdout", input="Good morning.\n", stdout=stream)
    assert done.returncode == 0
    assert log.read_text().startswith("before\neng_Latn\t")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_forked_worker_ends_without_a_traceback():
    code = (
        "import os, signal\n"
        "from nllb.cli.process_ends import stop_signals_raise\n"
        "with stop_signals_raise():\n"
        "    reader, writer = os.pipe()\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os.write(writer, b'ready')\n"
        "        while True: pass\n"
        "    os.read(reader, 5)\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    print(os.waitpid(child, 0)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == (f"{int(signal.SIGTERM)}\n", "")


# Translates into capitals; the process signals itself at one line, as a user would from outside.
SIGNALLED_TRANSLATION = """
import os, signal, sys
import nllb.cli.translate as verb
import nllb.inference.load_model as load_model
from nllb.cli import main
from nllb.inference.generator import Hypothesis
from nllb.translation.translator import Translator

number, at = int(sys.argv[1]), sys.argv[2]

class Upper:
    def generate(self, segments, *, source, target, search, prefixes=None):
        if number and any(segment.startswith(f"Line {at} ") for segment in segments):
            os.kill(os.getpid(), number)
        return [
            [Hypothesis(source=segment, text=segment.upper(), token_ids=(), log_probability=-0.1,
                        score=-0.1, num_tokens=1)]
            for segment in segments
        ]
    def fits(self, segment, *, source): return True
    def supports(self, language): return True
    def has_shortlist(self, target): return False

signal.signal(signal.SIGINT, signal.default_int_handler)
Translator.load = lambda *words, **options: Translator(Upper())
verb._load_detector = lambda arguments: None
load_model.describe_model = lambda name: {}
sys.exit(main(["translate", "-q", "-s", "en", "-t", "fr", *sys.argv[3:]]))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_translation_that_was_ended_by_a_signal_is_continued(tmp_path, number, code):
    lines = [f"Line {number} of a text" for number in range(200)]
    (tmp_path / "text").write_text("\n".join(lines) + "\n")
    output = tmp_path / "out"
    words = [str(tmp_path / "text"), "-o", str(output)]

    def translate(number, at):
        command = [sys.executable, "-c", SIGNALLED_TRANSLATION, str(int(number)), str(at), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    for at in (2, 40, 150):
        done = translate(number, at)
        assert done.returncode == code and "Traceback" not in done.stderr
        assert not output.exists()
        if number != signal.SIGKILL:
            assert "line" in done.stderr and "done" in done.stderr
    assert translate(0, 0).returncode == 0
    assert output.read_text().splitlines() == [line.upper() for line in lines]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "text"]
