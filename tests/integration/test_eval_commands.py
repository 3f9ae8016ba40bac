"""`nllb eval score`, `flores`, `compare` and `report` as a user types them."""

import json
import subprocess
import sys

import pytest

from nllb.cli import main

LINES = {
    "eng_Latn": [f"Line {n} is about the weather in town number {n * 3}." for n in range(20)],
    "fra_Latn": [f"La ligne {n} parle du temps dans la ville {n * 3}." for n in range(20)],
}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "set").mkdir()
    for code, lines in LINES.items():
        (tmp_path / "set" / code).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, word in (("old", "climat"), ("new", "temps")):
        (tmp_path / name).mkdir()
        lines = [
            line.replace("temps", word).replace("ligne", "rangée") for line in LINES["fra_Latn"]
        ]
        path = tmp_path / name / "eng_Latn-fra_Latn.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_score_prints_one_object_a_metric(files, capsys):
    code = main(
        ["eval", "score", "--hypothesis", str(files / "new" / "eng_Latn-fra_Latn.txt"),
         "--reference", str(files / "set" / "fra_Latn"), "--target", "fr",
         "--metrics", "chrf++,chrf,bleu", "--json",
         "--source-text", str(files / "set" / "eng_Latn")]
    )  # fmt: skip
    assert code == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["metric"] for one in objects] == ["chrf++", "chrf", "bleu"]
    for one in objects:
        assert one["low"] <= one["score"] <= one["high"]
        assert one["signature"].startswith("nrefs:1|case:mixed|eff:")
        assert one["target"] == "fra_Latn"
        assert one["num_sentences"] == 20
    assert objects[0]["score"] != round(objects[0]["score"], 6)  # full precision


def test_problems_are_reported_and_strict_fails(files, capsys):
    path = files / "copy.txt"
    path.write_text("\n".join(LINES["eng_Latn"]) + "\n", encoding="utf-8")
    words = ["eval", "score", "--hypothesis", str(path), "--target", "fra_Latn",
             "--reference", str(files / "set" / "fra_Latn"),
             "--source-text", str(files / "set" / "eng_Latn")]  # fmt: skip
    assert main(words) == 0
    assert "20 of 20 lines are equal to the source" in capsys.readouterr().err
    assert main([*words, "--strict"]) == 1


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        ({"--hypothesis": "none"}, "cannot open", 1),
        ({"--target": "fra_Lat"}, "did you mean", 2),
        ({"--metrics": "chrf+++"}, "did you mean chrf++", 2),
        ({"--metrics": "spbleu"}, "requires a SentencePiece model", 2),
        ({"--metrics": "spbleu", "--spm": "none.model"}, "cannot read the SentencePiece model", 2),
        ({"--source-text": "short"}, "3 lines where", 1),
        ({"--hypothesis": "short"}, "17 fewer than the reference's 20", 1),
        ({"--reference": "empty"}, "needs at least one line", 1),
        ({"--reference": "latin1"}, "is not UTF-8", 1),
    ],
)
def test_bad_input_is_named(files, capsys, monkeypatch, change, message, code):
    monkeypatch.chdir(files)
    (files / "short").write_text("a\nb\nc\n", encoding="utf-8")
    (files / "empty").write_text("", encoding="utf-8")
    (files / "latin1").write_bytes("caf\xe9\n".encode("latin-1") * 20)
    options = {
        "--hypothesis": "new/eng_Latn-fra_Latn.txt",
        "--reference": "set/fra_Latn",
        "--target": "fra_Latn",
    } | change
    assert main(["eval", "score", *(word for pair in options.items() for word in pair)]) == code
    assert message in capsys.readouterr().err


def test_from_outputs_to_report(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    for name in ("old", "new"):
        words = ["eval", "flores", f"{name}-out", "--outputs", name, "--flores", "set", "--quiet"]
        assert main([*words, "--directions", "all"]) == 0
        captured = capsys.readouterr()
        assert "eng-xx" in captured.out
        assert "1 requested directions have no file: fra_Latn-eng_Latn" in captured.err
        assert main([*words, "--directions", "all", "--strict"]) == 1
        capsys.readouterr()
        assert main([*words, "--json"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert rows[0]["direction"] == "eng_Latn-fra_Latn"
    assert main(["eval", "compare", "old-out", "new-out", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("new is better than old in the one direction (+")
    assert main(["eval", "report", "old-out", "new-out", "r.html", "--quiet"]) == 0
    verdict, change = said.splitlines()
    assert "p = 0.00" in change and "two-sided" in change
    assert verdict in capsys.readouterr().out
    assert (files / "r.html").stat().st_size > 20_000
    report = ["eval", "report", "new-out", "r.html", "--quiet", "--json"]
    assert main([*report, "--fail-if", "all chrf++ < 99"]) == 1
    assert json.loads(capsys.readouterr().out)["gates"][0]["failed"] is True
    assert main(["eval", "report", "new-out", "old-out"]) == 2
    assert "*.html" in capsys.readouterr().err


def test_a_file_with_many_problems_is_named_with_the_scores(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    path = files / "new" / "eng_Latn-fra_Latn.txt"
    path.write_text("\n".join([*LINES["eng_Latn"][:10], *[""] * 10]) + "\n", encoding="utf-8")
    words = ["eval", "flores", "out", "--outputs", "new", "--flores", "set", "--detect"]
    assert main([*words, "--metrics", "chrf++", "bleu"]) == 0
    said = capsys.readouterr()
    assert (
        "warning: 1 file has a problem in more than 2% of the lines: eng_Latn-fra_Latn (10 lines "
        "empty; 10 lines equal to the source; 10 lines not in the target language)"
    ) in said.err
    assert "of 20 lines 50.00% are empty, 50.00% equal to the source" in said.out
    assert "0.0% of 10 in the target language (references: " in said.out


def test_copying_is_what_a_system_is_compared_with(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    assert main(["eval", "flores", "a", "--copying", "--flores", "set", "--quiet",
                 "--directions", "en-fr"]) == 0  # fmt: skip
    assert main(["eval", "flores", "b", "--outputs", "new", "--flores", "set", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["eval", "compare", "a", "b", "--quiet", "--resamples", "200"]) == 0
    assert "new is better than copying the source in the one direction" in capsys.readouterr().out
    assert main(["eval", "compare", "a", "b", "--quiet", "--resamples", "5"]) == 2
    assert "give 100 or more" in capsys.readouterr().err
    words = ["eval", "flores", "b", "--outputs", "new", "--flores", "set", "--lines", "5"]
    assert main(words) == 2
    assert "cannot be combined with --outputs" in capsys.readouterr().err


def test_dry_run_writes_nothing(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    words = ["eval", "flores", "out", "--outputs", "old", "--flores", "set", "--dry-run"]
    assert main([*words, "--directions", "*-*"]) == 0
    said = "would score 2 directions of set; 1 have a file"
    assert said in capsys.readouterr().out
    assert not (files / "out").exists()


def test_missing_test_set_says_how_to_obtain_it(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    monkeypatch.delenv("NLLB_FLORES", raising=False)
    assert main(["eval", "flores", "out", "--outputs", "old"]) == 2
    assert "openlanguagedata/flores_plus" in capsys.readouterr().err
    (files / "nothing").mkdir()
    assert main(["eval", "flores", "out", "--outputs", "old", "--flores", "nothing"]) == 1
    assert "no FLORES devtest files" in capsys.readouterr().err


def test_scoring_and_reporting_never_import_torch(files):
    program = (
        "import sys; sys.modules['torch'] = None; from nllb.cli import main; "
        "codes = [main(['eval', 'score', '--hypothesis', 'new/eng_Latn-fra_Latn.txt', "
        "'--reference', 'set/fra_Latn', '--target', 'fr']), "
        "main(['eval', 'flores', 'out', '--outputs', 'new', "
        "'--flores', 'set', '--quiet']), main(['eval', 'report', 'out', 'r.html', '--quiet'])]; "
        "assert codes == [0, 0, 0], codes; "
        "assert not [m for m in sys.modules if m.split('.')[0] in ('fairseq2', 'transformers')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=files, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_neural_metric_from_a_command(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    program = (
        "import sys, json; sys.stdin.readline(); "
        "print(json.dumps(dict(name='one', version='1', licence='MIT', supported=False))); "
        "[print(json.dumps(dict(score=1.0))) for line in sys.stdin]"
    )
    (files / "plugin.py").write_text(program, encoding="utf-8")
    words = ["eval", "score", "--hypothesis", "new/eng_Latn-fra_Latn.txt", "--target", "fr",
             "--reference", "set/fra_Latn", "--neural", f"{sys.executable} plugin.py"]  # fmt: skip
    assert main(words) == 2
    assert "--neural needs --source-text" in capsys.readouterr().err
    assert main([*words, "--source-text", "set/eng_Latn", "--source", "en"]) == 0
    captured = capsys.readouterr()
    assert "one 1.0000 (95 % 1.0000 to 1.0000)  one|version:1|model:-  licence: MIT" in captured.out
    assert "was not trained on fr" in captured.err


def test_a_neural_score_is_kept_and_not_asked_for_again(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    program = (
        "import sys, json; sys.stdin.readline(); items = sys.stdin.readlines(); "
        "open('asked', 'a').write(f'{len(items)} '); "
        "print(json.dumps(dict(name='one', version='1', licence='MIT', supported=True))); "
        "[print(json.dumps(dict(score=0.5))) for item in items]"
    )
    (files / "plugin.py").write_text(program, encoding="utf-8")
    words = ["eval", "score", "--hypothesis", "new/eng_Latn-fra_Latn.txt", "--target", "fr",
             "--reference", "set/fra_Latn", "--source-text", "set/eng_Latn", "--source", "en",
             "--neural", f"{sys.executable} plugin.py", "--neural-cache", "kept"]  # fmt: skip
    for _ in range(2):
        assert main(words) == 0
        assert "one 0.5000" in capsys.readouterr().out
    assert (files / "asked").read_text(encoding="utf-8").split() == ["0", "20", "0"]
