"""The verb around a stand-in for the model; tests/integration runs it with a real one."""

import io
import json
import re
import sys
from types import SimpleNamespace

import pytest

from nllb.cli import main
from nllb.errors import CheckpointError
from nllb.inference.generator import Hypothesis
from nllb.io.text import read_text
from nllb.translation.translator import Translator


class Upper:
    """Translates into capitals; a segment with LOOP loops, one with STOP is interrupted."""

    def __init__(self):
        self.segments = []

    def generate(self, segments, *, source, target, search, prefixes=None):
        self.segments += segments
        if any("STOP" in segment for segment in segments):
            raise KeyboardInterrupt
        return [[self.hypothesis(segment)] * search.num_hypotheses for segment in segments]

    def hypothesis(self, segment):
        return Hypothesis(
            source=segment,
            text="la " * 40 if "LOOP" in segment else "" if "EMPTY" in segment else segment.upper(),
            token_ids=(),
            log_probability=-0.1,
            score=-0.1,
            num_tokens=1,
        )

    def fits(self, segment, *, source):
        return True

    def supports(self, language):
        return language.script == "Latn"

    def has_shortlist(self, target):
        return False


class Stdin:
    def __init__(self, content):
        self.buffer = io.BytesIO(content)

    def isatty(self):
        return False


class Tty(io.StringIO):
    def isatty(self):
        return True


EN_FR = ("--source", "en", "--target", "fr")


@pytest.fixture
def run(monkeypatch, capfdbinary):
    """Return a function that runs the verb: its exit code, stdout, stderr and the generator."""

    def run(*words, stdin=b"", languages=EN_FR, detector=None, model="of one content"):
        generator = Upper()
        translator = Translator(generator)
        monkeypatch.setattr(Translator, "load", lambda *_, **__: translator)
        monkeypatch.setattr("nllb.cli.translate._load_detector", lambda arguments: detector)
        monkeypatch.setattr("nllb.inference.load_model.describe_model", lambda name: model)
        monkeypatch.setattr("sys.stdin", Stdin(stdin))
        code = main(["translate", "--model", "stand-in", *languages, *map(str, words)])
        out, err = capfdbinary.readouterr()
        return SimpleNamespace(
            code=code, out=out.decode(), err=err.decode(), segments=generator.segments
        )

    return run


def test_lines_from_stdin_to_stdout(run):
    done = run(stdin=b"One. Two.\n\n  three\r\n12:30\nlast")
    assert done.code == 0
    assert done.out == "ONE. TWO.\n\n  THREE\r\n12:30\nLAST\n"
    assert "source: en -> eng_Latn (English)" in done.err
    assert "target: fr -> fra_Latn (French)" in done.err
    assert run("--quiet", stdin=b"One.").err == ""


def test_empty_input_gives_empty_output(run):
    done = run(stdin=b"")
    assert (done.code, done.out) == (0, "")


def test_a_document_comes_back_byte_for_byte_but_for_its_words(run, tmp_path):
    text = "Title\r\n\r\n  - one. Two.\r\tx\n\n\nend without newline"
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert run("--document", tmp_path / "a.txt").out == text.upper()
    done = run("--document", "--json", tmp_path / "a.txt")
    [record] = map(json.loads, done.out.splitlines())
    assert record["source_text"] == text and record["text"] == text.upper()
    assert record["line"] == 1 and len(record["trust"]) == 5


def test_every_file_has_its_object(run, tmp_path):
    for name, text in (("a", "one\ntwo\n"), ("b", ""), ("c", "three")):
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in "abc"]
    done = run("--document", "--json", *files)
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["file"] for record in records] == files
    assert [record["text"] for record in records] == ["ONE\nTWO\n", "", "THREE"]
    assert [record["line"] for record in records] == [1, 3, 3]
    assert (records[1]["source"], records[1]["target"]) == ("und", "fra_Latn")
    assert records[1]["trust"] == [] == records[1]["flags"]


def test_further_outputs_stand_in_the_objects(run):
    done = run("--json", "--n-best", "3", stdin=b"One. Two.\n")
    [record] = map(json.loads, done.out.splitlines())
    assert [part["alternatives"] for part in record["trust"]] == [["ONE."] * 2, ["TWO."] * 2]
    assert "alternatives" not in run("--json", stdin=b"One.\n").out


def test_sentences_of_a_wrapped_document_go_on_over_line_ends(run):
    text = "A sentence that is so long that its line\nis full. Another.\n\n\nA new\nparagraph"
    done = run("--document", "--wrapped", stdin=text.encode())
    assert done.out == text.upper()
    assert done.segments[0] == "A sentence that is so long that its line is full."
    done = run("--document", "--wrapped", "--json", stdin=text.encode() + b"\n\nLOOP on and on\n")
    [record] = map(json.loads, done.out.splitlines())
    assert record["source_text"] == text + "\n\nLOOP on and on\n"
    assert "1 loop" in done.err and "line 1, 8)" in done.err
    assert run("--wrapped", stdin=b"x").code == 2


def test_json_has_a_record_for_every_line(run):
    done = run("--json", stdin=b"One. Two.\n\nLOOP here and there\n")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [list(record) for record in records] == [
        ["line", "source_text", "text", "source", "target", "trust", "flags"]
    ] * 3
    assert [record["line"] for record in records] == [1, 2, 3]
    assert records[0]["source_text"] == "One. Two." and records[0]["text"] == "ONE. TWO."
    assert [part["text"] for part in records[0]["trust"]] == ["ONE.", "TWO."]
    assert records[1]["trust"] == [] and records[1]["text"] == ""
    assert "loop" in records[2]["flags"] and "loop" in records[2]["trust"][0]["flags"]
    assert records[2]["trust"][0]["attempts"] == 4
    assert (records[2]["source"], records[2]["target"]) == ("eng_Latn", "fra_Latn")


def test_flags_are_counted_at_the_end_and_strict_exits_1(run):
    text = b"fine\nLOOP again and again\nfine too\n"
    done = run(stdin=text)
    assert done.code == 0
    assert re.search(r"1 of 3 segments flagged: .*1 loop.* \(line 2\)", done.err)
    assert run("--strict", stdin=text).code == 1
    assert run("--strict", stdin=b"fine\n").code == 0


def test_files_compressed_or_not_to_an_output_file(run, tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo")
    from nllb.io.text import write_lines

    write_lines(tmp_path / "b.zst", ["three"])
    for name in ("out.txt", "out.txt.gz", "out.zst"):
        done = run(tmp_path / "a.txt", tmp_path / "b.zst", "--output", tmp_path / name)
        assert (done.code, done.out) == (0, "")
        assert read_text(tmp_path / name) == "ONE\nTWO\nTHREE\n"
    assert not list(tmp_path.glob("*.part*"))


def test_an_interrupted_run_reports_what_is_done_and_is_continued(run, tmp_path):
    source, output = tmp_path / "a.txt", tmp_path / "out.txt"
    lines = [f"line {number}" for number in range(100)]
    source.write_text("\n".join([*lines[:50], "STOP", *lines[50:]]))
    done = run(source, "--output", output)
    assert done.code == 130
    assert not output.exists()
    written = (tmp_path / "out.txt.part").read_text().splitlines()
    assert written == [line.upper() for line in lines[: len(written)]] and len(written) == 28
    assert (
        f"interrupted: 28 lines are done in {output}.part; the same command continues" in done.err
    )
    source_state = source.stat()
    source.write_text("\n".join([*lines[:50], "GO! ", *lines[50:]]))
    import os

    os.utime(source, ns=(source_state.st_atime_ns, source_state.st_mtime_ns))
    done = run(source, "--output", output)
    assert done.code == 0 and "continuing after 28 lines" in done.err
    assert "line 3" not in done.segments and "line 30" in done.segments
    assert output.read_text().splitlines() == [
        line.upper() for line in [*lines[:50], "GO! ", *lines[50:]]
    ]


def test_another_model_at_the_same_path_starts_anew(run, tmp_path):
    source, output = tmp_path / "a.txt", tmp_path / "out.txt"
    source.write_text("".join(f"line {number}\n" for number in range(40)) + "STOP\n")
    assert run(source, "--output", output).code == 130
    assert "continuing after" in run(source, "--output", output).err
    done = run(source, "--output", output, model="of another")
    assert "continuing after" not in done.err and done.segments[0] == "line 0"


def test_an_interrupted_stream_keeps_what_was_printed(run):
    done = run(stdin=b"one\ntwo\nthree\nfour\nSTOP\n")
    assert done.code == 130 and done.out == "ONE\nTWO\nTHREE\nFOUR\n"
    assert "interrupted: 4 lines are done" in done.err


def test_a_lost_segment_ends_the_run_loudly(run, tmp_path):
    done = run("--output", tmp_path / "out", stdin=b"one\ntwo\nthree\nfour\nEMPTY of all\n")
    assert done.code == 1
    assert "empty output for the segment 'EMPTY of all'" in done.err
    assert "stopped: 4 lines are done in" in done.err
    assert not (tmp_path / "out").exists()


def test_bad_utf8_is_named_and_can_be_replaced(run, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\nb\xe4d\n")
    done = run(tmp_path / "a.txt")
    assert done.code == 1 and done.out == "GOOD\n"
    assert "a.txt:2: byte 2 of the line is not UTF-8 (0xe4)" in done.err
    assert run("--errors", "replace", tmp_path / "a.txt").out == "GOOD\nB\ufffdD\n"


def test_nuls_and_byte_order_marks(run):
    assert run(stdin=b"\xef\xbb\xbfone\x00two\n").out == "ONE\x00TWO\n"


class Detector:
    def detect_batch(self, texts, *, top=1):
        from nllb.languages.detection import Detection

        codes = {"Hello": "eng_Latn", "Hallo": "deu_Latn", "SALUT": "fra_Latn"}
        return [
            Detection(
                language=next((codes[word] for word in codes if word in text), "fra_Latn"),
                probability=0.9,
            )
            for text in texts
        ]


AUTO = ("--source", "auto", "--target", "fr")


def test_the_source_is_detected_line_by_line_or_once_a_document(run):
    text = b"Hello you\nHallo du\nMerci\n12\n"
    done = run("--json", stdin=text, languages=AUTO, detector=Detector())
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["source"] for record in records] == ["eng_Latn", "deu_Latn", "fra_Latn", "und"]
    assert records[0]["trust"][0]["source_probability"] == 0.9
    assert records[2]["text"] == "Merci"
    done = run("--document", "--json", stdin=text, languages=AUTO, detector=Detector())
    [record] = map(json.loads, done.out.splitlines())
    assert record["source"] == "eng_Latn"
    assert "source: eng_Latn (English), probability 0.90" in done.err
    assert record["text"] == "HELLO YOU\nHALLO DU\nMERCI\n12\n"


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (("--source", "engl", "--target", "fr"), "did you mean"),
        (("--source", "en", "--target", "en"), "both eng_Latn"),
        (("--source", "en", "--target", "ru"), r"does not cover rus_Cyrl \(Russian\)"),
        (AUTO, "requires a language detector"),
    ],
)
def test_bad_languages_exit_2(run, languages, message):
    done = run(stdin=b"one\n", languages=languages)
    assert done.code == 2 and done.out == "" and re.search(message, done.err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--beam", "0"], "--beam is 0"),
        (["--beam", "545"], "--beam is 545; it must be 1 to 256"),
        (["--threads", "-1"], "--threads is -1"),
        (["--threads", "5000"], "--threads is 5000; it must be 1 to 1024"),
        (["--wrapped"], "add --document"),
        (["nowhere.txt"], "no file 'nowhere.txt'"),
        (["."], "'.' is a directory; give the names of its files"),
        (["--n-best", "2"], "--n-best requires --json"),
        (["--n-best", "5", "--json"], "it must be 1 to 4, the beam size"),
    ],
)
def test_other_bad_usage(run, words, message):
    done = run(*words, stdin=b"one\n")
    assert done.code in {1, 2} and message in done.err


def test_missing_languages_exit_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["translate", "--target", "fr"])
    assert stop.value.code == 2 and "--source" in capsys.readouterr().err


def test_without_a_model_the_ways_to_get_one_are_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("nllb.model.shipped.SHIPPED_DIR", tmp_path)
    monkeypatch.delenv("NLLB_MODEL", raising=False)
    assert main(["translate", "--source", "en", "--target", "fr"]) == CheckpointError.exit_code == 2
    said = capsys.readouterr().err
    assert "facebook/nllb-200-distilled-600M" in said and "CC-BY-NC-4.0" in said
    assert re.search(r"\d GiB", said) and "--model" in said and "directory" in said


def test_an_output_that_cannot_be_written_is_reported_before_a_model_is_loaded(
    monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "out.txt")
    languages = ["--source", "en", "--target", "fr"]
    monkeypatch.setattr(Translator, "load", lambda *_, **__: pytest.fail("loaded"))
    assert main(["translate", *languages, "--output", output]) == 1


def test_a_model_that_cannot_be_loaded_leaves_no_part_of_an_output(tmp_path):
    languages = ["--source", "en", "--target", "fr", "--model", str(tmp_path)]
    assert main(["translate", *languages, "--output", str(tmp_path / "out.txt")]) == 2
    assert not list(tmp_path.iterdir())


def test_progress_shows_on_a_terminal_only(run, monkeypatch, tmp_path):
    terminal = Tty()
    monkeypatch.setattr(sys, "stderr", terminal)
    run("--output", tmp_path / "out", stdin=b"one\n")
    assert "translate" in terminal.getvalue()
    assert "lines" not in run("--output", tmp_path / "out2", stdin=b"one\n").err


def test_equal_languages_are_refused_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(Translator, "load", lambda *_, **__: pytest.fail("loaded"))
    assert main(["translate", "-s", "en", "-t", "eng_Latn", "-m", "/nowhere"]) == 2
    assert "both eng_Latn (English): name two languages" in capsys.readouterr().err


def test_other_formats_are_refused_unless_they_come_from_stdin(run, tmp_path):
    (tmp_path / "a.ass").write_text("Dialogue: 0,0:00:01.00,0:00:02.00,,,,,,,Hello.\n")
    done = run(tmp_path / "a.ass")
    assert done.code == 1 and "a.ass is subtitles (.ass), not plain text" in done.err
    assert run(stdin=(tmp_path / "a.ass").read_bytes()).out.endswith("HELLO.\n")


class UndDetector:
    def detect_batch(self, texts, *, top=1):
        from nllb.languages.detection import Detection

        return [
            Detection(language="und", probability=0.8, alternatives=(("sot_Latn", 0.8),))
            if len(text) < 8
            else Detection(
                language={"M": "fra_Latn", "W": "bel_Cyrl"}.get(text[0], "deu_Latn"),
                probability=0.95,
                alternatives=(("eng_Latn", 0.04),),
            )
            for text in texts
        ]


def test_assumed_kept_and_lacking_languages_are_reported(run):
    text = b"Hello\nMerci beaucoup.\nGuten Morgen.\nYes\nWaray nga pulong.\n"
    done = run("--json", stdin=text, languages=AUTO, detector=UndDetector())
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["source"] for record in records[:4]] == [
        *("eng_Latn", "fra_Latn", "deu_Latn", "eng_Latn"),
    ]
    assert [record["source_assumed"] for record in records] == [True, False, False, True, False]
    assert "uncertain_source" in records[0]["flags"]
    assert records[1]["text"] == "Merci beaucoup."
    assert (
        "2 lines in a language that could not be identified (line 1, 4): eng_Latn was assumed"
        in done.err
    )
    assert "1 line already in the target language, kept unchanged (line 2)" in done.err
    assert records[4]["source"] == "eng_Latn" and "uncertain_source" in records[4]["flags"]
    assert "1 line in bel_Cyrl, which the model lacks, translated as the likeliest" in done.err
    done = run("--assume", "de", stdin=text, languages=AUTO, detector=UndDetector())
    assert "de was assumed" in done.err
    done = run("--assume", "none", stdin=text, languages=AUTO, detector=UndDetector())
    assert done.code == 2 and "language of 'Hello" in done.err
    assert "could not be identified" in done.err
    assert run("--assume", "engl", stdin=text, languages=AUTO, detector=UndDetector()).code == 2


def test_lines_of_a_document_that_are_in_the_target_language_are_kept(run):
    text = b"Guten Morgen an alle.\nMerci beaucoup.\n```\nGuten Code\n```\n"
    done = run("--document", "--json", stdin=text, languages=AUTO, detector=UndDetector())
    [record] = map(json.loads, done.out.splitlines())
    assert record["text"] == ("GUTEN MORGEN AN ALLE.\nMerci beaucoup.\n```\nGuten Code\n```\n")
    assert [(each["language"], each["kept"]) for each in record["passages"]] == [
        ("deu_Latn", False),
        ("fra_Latn", True),
    ]
    assert "source languages: 1 line deu_Latn, 1 line fra_Latn" in done.err


def test_a_direction_that_fails_is_not_retried_for_ever_and_that_is_reported(run):
    text = "".join(f"LOOP number {number} of many\n" for number in range(40)).encode()
    done = run("--retry-limit", "8", stdin=text)
    assert done.out.count("\n") == 40
    assert (
        "the retry strategy repetition_block was stopped from eng_Latn to fra_Latn: it fixed "
        "fewer than one in ten of 8 segments (--retry-limit 0: no limit)" in done.err
    )
    assert len(done.segments) < 40 + 4 * 12 * 4
    assert "stopped" not in run("--retry-limit", "0", stdin=text).err
    assert run("--retry-limit", "-1", stdin=text).code == 2
