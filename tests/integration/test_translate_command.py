"""`nllb translate` with a real, tiny model: the whole way from a command line to its output."""

import json
import signal
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ITALIAN = ("--source", "en", "--target", "it")


@pytest.fixture
def command(tiny_model):
    """Return a function that makes the arguments of a run with the tiny model."""

    def command(*words, languages=ITALIAN):
        verb = [sys.executable, "-m", "nllb", "translate", "--model", str(tiny_model.directory)]
        return [*verb, "--threads", "1", *languages, *map(str, words)]

    return command


@pytest.fixture
def nllb(command):
    def nllb(*words, stdin="", languages=ITALIAN):
        return subprocess.run(
            command(*words, languages=languages),
            input=stdin.encode(),
            capture_output=True,
            timeout=300,
            check=False,
        )

    return nllb


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_sentences_known_by_heart_come_back_right_in_both_languages(nllb, tiny_model, dtype):
    for target, pairs in tiny_model.by_heart.items():
        sources, expected = zip(*pairs, strict=True)
        done = nllb(
            "--dtype", dtype, stdin="\n".join(sources), languages=("-s", "en", "-t", target)
        )
        assert done.returncode == 0, done.stderr.decode()
        translated = done.stdout.decode().splitlines()
        right = sum(map(str.__eq__, translated, expected))
        assert len(translated) == len(expected) and right >= len(expected) - 1, translated


def test_a_document_keeps_its_layout_and_its_sentences(nllb, tiny_model):
    (one, uno), (two, due), (three, tre) = tiny_model.by_heart["ita_Latn"][:3]
    text = f"# {one}\r\n\r\n  - {two} {three}\n\t12:30 https://example.org\n\n\n{one}"
    done = nllb("--document", stdin=text)
    assert done.stdout.decode() == (
        f"# {uno}\r\n\r\n  - {due} {tre}\n\t12:30 https://example.org\n\n\n{uno}"
    )


def test_json_has_trust_for_every_segment_and_strict_sees_flags(nllb, tiny_model):
    source, target = tiny_model.by_heart["ita_Latn"][0]
    done = nllb("--json", "--strict", stdin=f"{source}\n\U00013000\U00013001 {source}\n")
    good, strange = map(json.loads, done.stdout.splitlines())
    assert good["text"] == target and good["flags"] == []
    assert good["trust"][0]["confidence"] > 0.3
    assert good["trust"][0]["log_probability"] < 0
    assert strange["trust"][0]["unknown_characters"] == ["\U00013000", "\U00013001"]
    assert "unknown_characters" in strange["flags"]
    assert done.returncode == 1


def test_a_reader_that_goes_away_ends_the_run_silently(command, tiny_model, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{source}\n" for source, _ in tiny_model.held_out))
    pipe = subprocess.Popen(
        command("--quiet", lines), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert pipe.stdout.readline().endswith(b"\n")
    pipe.stdout.close()
    assert pipe.stderr.read() == b""
    pipe.stderr.close()
    assert pipe.wait(timeout=300) == 128 + signal.SIGPIPE


def test_a_line_that_is_typed_is_answered_before_the_next(command, tiny_model):
    with subprocess.Popen(
        command("--quiet"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as talk:
        for source, target in tiny_model.by_heart["ita_Latn"][:2]:
            talk.stdin.write(source.encode() + b"\n")
            talk.stdin.flush()
            assert talk.stdout.readline().decode() == target + "\n"
        talk.stdin.close()
        assert talk.wait(timeout=300) == 0


# A shell that starts tests in the background has them, and their children, ignore SIGINT.
HEED_SIGINT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from nllb.cli import main; sys.exit(main(sys.argv[1:]))"
)


def test_an_interrupted_run_has_written_what_is_done(command, tiny_model, tmp_path):
    lines = tmp_path / "lines.txt"
    # More output than a pipe holds: the run cannot end before it is read.
    lines.write_text("".join(f"{source}\n" for source, _ in tiny_model.held_out * 20))
    python, _, _, *words = command(lines)
    running = subprocess.Popen(
        [python, "-c", HEED_SIGINT, *words],
        bufsize=0,  # or the lines read ahead with the first are lost to `communicate`
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    first = running.stdout.readline()
    running.send_signal(signal.SIGINT)
    rest, said = running.communicate(timeout=300)
    assert running.returncode == 130, said
    done = (first + rest).decode()
    assert done.endswith("\n") and 0 < done.count("\n") < 20_000
    lines = done.count("\n")
    counted = f"{lines:,} lines are" if lines > 1 else "1 line is"
    assert f"interrupted: {counted} done" in said.decode()


def test_bad_usage_is_said_and_exits_2(nllb, tmp_path):
    unknown = nllb(languages=("-s", "en", "-t", "de"), stdin="a")
    assert unknown.returncode == 2 and b"deu_Latn (German); it covers 3 languages" in unknown.stderr
    broken = subprocess.run(
        [sys.executable, "-m", "nllb", "translate", "--model", str(tmp_path), *ITALIAN],
        input=b"a",
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert broken.returncode == 2 and str(tmp_path).encode() in broken.stderr
