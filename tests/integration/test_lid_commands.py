"""Test `nllb lid train`, `nllb lid eval` and `nllb detect` with a tiny model."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest
import zstandard

from lid.fasttext_model import read_fasttext
from nllb.cli import main

SENTENCES = {
    "eng_Latn": "the river runs under an old bridge and people walk along it on sunday morning",
    "fra_Latn": "la rivière coule sous un vieux pont et les gens s'y promènent le dimanche matin",
    "deu_Latn": "der fluss fließt unter einer alten brücke und die leute gehen am sonntag hin",
    "rus_Cyrl": "река течёт под старым мостом и люди гуляют вдоль неё в воскресенье утром",
    "kin_Latn": "umugezi utemba munsi y'ikiraro gishaje abantu bagatembera ku cyumweru mu gitondo",
    "run_Latn": "uruzi rutemba munsi y'ikiraro gishaje abantu bakagendagenda ku musi w'imana",
}


def rotated(line: str, number: int) -> str:
    words = line.split()
    return " ".join(words[number % len(words) :] + words[: number % len(words)])


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with corpora, a test set and a configuration."""
    root = tmp_path_factory.mktemp("lid-commands")
    for folder in ("nllb_seed", "udhr_other", "test"):
        (root / folder).mkdir()
    for code, line in SENTENCES.items():
        rows = [
            f"{rotated(line, n)} {n}" + ". " + rotated(line, n * 5 + 1)[: 9 + n] for n in range(60)
        ]
        (root / "nllb_seed" / code).write_text("\n".join(rows) + "\n", encoding="utf-8")
        test = [rotated(line, n) for n in range(12)]
        (root / "test" / f"{code}.txt").write_text("\n".join(test) + "\n", encoding="utf-8")
    for code in ("aaa", "bbb", "ccc", "ddd", "eee", "fff"):
        words = [f"{code[0] * 2}{a}{b}" for a in "kwz" for b in "oiu"]
        rows = [f"{n}\t{rotated(' '.join(words), n)} {'z' * (n % 9)}q" for n in range(40)]
        (root / "udhr_other" / f"{code}__{code}.tsv").write_text(
            "\n".join(rows) + "\n", encoding="utf-8"
        )
    (root / "lid.yaml").write_text(
        f"""kind: lid
data_dir: {root}
sources: [{{path: nllb_seed, licence: MIT}}]
evaluation: [test]
out_of_set: {{sources: [udhr_other], min_lines: 5, max_lines: 20}}
sampling: {{lines: 200, max_lines: 200}}
ngrams: {{max_ngrams: 500, size_bytes: 8192}}
fasttext: {{dim: 8, epochs: 8, buckets: 3000, kept_ngrams: 2000, quantised_epochs: 2}}
licence: MIT
""",
        encoding="utf-8",
    )
    return root


@pytest.fixture(scope="session")
def model(project: Path) -> Path:
    """Return the trained model folder."""
    assert main(["lid", "train", str(project / "lid.yaml"), str(project / "model"), "--quiet"]) == 0
    return project / "model"


def test_train_writes_a_model_and_its_card(model: Path) -> None:
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    assert card["labels"] == 6 and card["licence"] == "MIT" and card["overlap_left"] == 0
    assert set(card["thresholds"]) == set(SENTENCES) == set(card["counts"])
    assert len(card["missing"]) == 198 and "ita_Latn" in card["missing"]
    assert card["experts"] == {"rwanda-rundi": ["nllb_seed"]}
    assert card["foreign"] == ["aaa", "bbb", "eee", "fff"]
    assert set(card["files"]) == {
        "model.ftz",
        "grams.bin",
        "words.bin",
        "experts/rwanda-rundi.ftz",
    }
    assert "kin_Latn" in (model / "CARD.md").read_text(encoding="utf-8")
    assert 0 < card["held_out"]["macro F1 of the best label"] <= 1


def test_trial_model_is_not_trained_on_held_out_languages(model: Path) -> None:
    """The language eee is withheld for calibration, but the final model is trained on it."""
    paths = (model / "work/trial.ftz", model / "model.ftz")
    labels = [read_fasttext(path).labels for path in paths]
    assert ["other_eee" in names for names in labels] == [False, True]
    assert set(labels[1]) == {*labels[0], "other_eee"}


def test_trial_model_is_the_model_if_nothing_is_held_out(project: Path) -> None:
    text = (project / "lid.yaml").read_text(encoding="utf-8")
    alone = project / "alone.yaml"
    alone.write_text(
        "".join(row for row in text.splitlines(keepends=True) if not row.startswith("out_of_set:")),
        encoding="utf-8",
    )
    out = project / "without-noise"
    assert main(["lid", "train", str(alone), str(out), "--quiet"]) == 0
    assert not (out / "work/trial.ftz").exists()
    labels = read_fasttext(out / "model.ftz").labels
    assert labels == read_fasttext(out / "work/model.bin").labels
    assert set(labels) == set(SENTENCES)


def test_the_calibrated_model_ships_without_retraining(project: Path) -> None:
    out = project / "calibrated"
    command = ["lid", "train", str(project / "lid.yaml"), str(out), "calibration.retrain=false"]
    assert main([*command, "--quiet"]) == 0
    assert not (out / "work/trial.ftz").exists()
    assert "other_eee" not in read_fasttext(out / "model.ftz").labels
    assert "eee" not in json.loads((out / "card.json").read_text(encoding="utf-8"))["foreign"]


def test_train_resumes_and_is_reproducible(
    project: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (model / "model.ftz").stat().st_mtime_ns
    command = ["lid", "train", str(project / "lid.yaml"), str(model), "--json", "--quiet"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == 6
    assert (model / "model.ftz").stat().st_mtime_ns == before
    again = project / "again"
    assert main([*command[:3], str(again), "--quiet"]) == 0
    assert (again / "model.ftz").read_bytes() == (model / "model.ftz").read_bytes()
    assert main([*command[:3], str(again), "seed=2", "--quiet"]) == 1
    assert "another configuration" in capsys.readouterr().err


def test_train_reports_all_errors_at_once(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (project / "lid.yaml").read_text(encoding="utf-8")
    bad = tmp_path / "bad.yaml"
    bad.write_text(text + "languages: [englsh, deu]\nepoch: 3\n", encoding="utf-8")
    assert main(["lid", "train", str(bad), str(tmp_path / "out")]) == 2
    output = capsys.readouterr().err
    assert "did you mean eng_Latn (English)" in output and "unknown key epoch" in output
    empty = tmp_path / "empty.yaml"
    empty.write_text(text + "languages: [eng, ita, spa]\n", encoding="utf-8")
    assert main(["lid", "train", str(empty), str(tmp_path / "out")]) == 2
    output = capsys.readouterr().err
    assert "ita_Latn" in output and "spa_Latn" in output
    gone = ["noise.sources=[nowhere]", "evaluation=[nothing]"]
    assert main(["lid", "train", str(project / "lid.yaml"), str(tmp_path / "o"), *gone]) == 2
    output = capsys.readouterr().err
    assert "nowhere" in output and "nothing" in output
    assert not (tmp_path / "out").exists()


def test_train_rejects_evaluation_text(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test").mkdir()
    line = (project / "nllb_seed" / "eng_Latn").read_text(encoding="utf-8").split("\n")[0]
    (tmp_path / "test" / "eng.txt").write_text(line.upper() + "!\n", encoding="utf-8")
    changes = [f"evaluation=[{tmp_path / 'test'}]", "on_overlap=refuse"]
    command = ["lid", "train", str(project / "lid.yaml"), str(tmp_path / "out"), "--quiet"]
    assert main([*command[:-1], *changes, "--quiet"]) == 1
    assert "1 of nllb_seed" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.ftz").exists()


def test_dry_run_prints_the_configuration(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["lid", "train", str(project / "lid.yaml"), str(project / "dry"), "--dry-run"]
    assert main(command) == 0
    assert "learning_rate: 0.8" in capsys.readouterr().out
    assert not (project / "dry").exists()


def test_eval_writes_json_and_html(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["lid", "eval", str(model), str(tmp_path), "--text", str(project / "test")]
    command += ["--out-of-set", str(project / "udhr_other"), "--quiet"]
    assert main(command) == 0
    assert "macro F1" in capsys.readouterr().out
    report = json.loads((tmp_path / "lid.json").read_text(encoding="utf-8"))
    assert [cut["words"] for cut in report["cuts"]] == [None, 10, 5, 3]
    full = report["cuts"][0]
    assert full["argmax_f1"] > 0.9 and full["f1"] <= 1 and full["all_f1"] <= full["group_f1"]
    assert report["foreign"]["languages"] < 6
    assert {score["label"] for score in report["labels"]} == set(SENTENCES)
    assert "<table" in (tmp_path / "lid.html").read_text(encoding="utf-8")
    assert main(["lid", "eval", str(model), str(tmp_path), "--text", str(tmp_path / "no")]) == 1
    assert "flores" in capsys.readouterr().err.lower()


def run_detect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: bytes, *options: str
) -> list[str]:
    stdin = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["detect", *options]) == 0
    return capsys.readouterr().out.split("\n")[:-1]


def test_detect_answers_each_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.encode() for line in SENTENCES.values()]
    text = b"\n".join(
        [lines[1], b"", b"\xff\xfe broken", lines[3], b"a\x00b\x0b \xe2\x80\xa8c", lines[2]]
    )
    found = run_detect(monkeypatch, capsys, text, "--model", str(model))
    assert len(found) == 6
    assert [found[n].split("\t")[0] for n in (0, 1, 3, 5)] == [
        "fra_Latn",
        "und",
        "rus_Cyrl",
        "deu_Latn",
    ]
    options = ["--model", str(model), "--json", "--top", "2", "--candidates", "eng,fra"]
    answers = [json.loads(one) for one in run_detect(monkeypatch, capsys, text, *options)]
    assert [one["line"] for one in answers] == [1, 2, 3, 4, 5, 6]
    assert set(answers[0]) == {
        "line",
        "language",
        "accepted",
        "best",
        "probability",
        "acceptance",
        "alternatives",
        "macro_group",
    }
    named = {one["language"] for one in answers} | {
        other["language"] for one in answers for other in one["alternatives"]
    }
    assert named <= {"eng_Latn", "fra_Latn", "und"}
    assert answers[3]["language"] != "und", "candidates are a closed set"


def test_detect_prints_rejected_answers_and_sentences(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{SENTENCES['fra_Latn']}. {SENTENCES['deu_Latn'].capitalize()}.".encode()
    options = ["--model", str(model)]
    (rejected,) = run_detect(monkeypatch, capsys, line, *options, "--threshold", "1")
    label, probability, acceptance, best, again = rejected.split("\t")
    assert label == "und" and best in SENTENCES and again == probability
    assert 0 < float(acceptance) < 1
    rows = run_detect(monkeypatch, capsys, line, *options, "--spans", "--threshold", "0")
    first, second = (row.split("\t") for row in rows)
    assert (first[0], first[3], second[0], second[3]) == ("1", "fra_Latn", "1", "deu_Latn")
    assert (
        line.decode()[int(second[1]) : int(second[2])]
        .casefold()
        .startswith(SENTENCES["deu_Latn"].casefold())
    )
    (answer,) = run_detect(monkeypatch, capsys, line, *options, "--spans", "--json")
    assert [span["start"] for span in json.loads(answer)["spans"]] == [0, int(second[1])]
    assert main(["detect", *options, "--threshold", "2"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err
    assert main(["detect", *options, "--spans", "--workers", "2"]) == 2
    assert "--workers" in capsys.readouterr().err


def test_detect_reports_lines_that_are_not_utf_8(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    french = SENTENCES["fra_Latn"]
    path = tmp_path / "latin-1"
    path.write_bytes(
        b"\xef\xbb\xbf" + f"{SENTENCES['eng_Latn']}\n\ufffd\n".encode() + french.encode("latin-1")
    )
    assert main(["detect", str(path), "--model", str(model), "--quiet"]) == 0
    output = capsys.readouterr()
    rows = output.out.splitlines()
    assert len(rows) == 3 and rows[0].startswith("eng_Latn\t") and rows[1].startswith("und\t")
    assert f"{path}: not UTF-8: 1 line, the first is line 3" in output.err
    path.write_bytes(french.encode())
    assert main(["detect", str(path), "--model", str(model), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_detect_reads_and_writes_compressed_files(model: Path, tmp_path: Path) -> None:
    text = "".join(line + "\n\n" for line in SENTENCES.values()) * 3
    (tmp_path / "in.gz").write_bytes(gzip.compress(text.encode()))
    out = tmp_path / "out.zst"
    assert (
        main(["detect", str(tmp_path / "in.gz"), "--model", str(model), "--output", str(out)]) == 0
    )
    rows = zstandard.ZstdDecompressor().stream_reader(out.read_bytes()).read().decode().split("\n")
    assert len(rows) == text.count("\n") + 1
    assert [row.split("\t")[0] for row in rows[:4]] == ["eng_Latn", "und", "fra_Latn", "und"]


@pytest.mark.slow
def test_detect_with_several_processes_gives_the_same_lines(model: Path, tmp_path: Path) -> None:
    text = "".join(f"{rotated(line, n)}\n" for n in range(1500) for line in SENTENCES.values())
    (tmp_path / "in.txt").write_text(text, encoding="utf-8")
    for name, workers in (("one", "1"), ("two", "2")):
        command = ["detect", str(tmp_path / "in.txt"), "--model", str(model), "--workers", workers]
        assert main([*command, "--output", str(tmp_path / name)]) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_detect_error_names_a_damaged_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.ftz").write_bytes(b"\xba\x16\x4f\x2f\x0c\x00\x00\x00")
    (tmp_path / "text").write_text("hello\n", encoding="utf-8")
    assert main(["detect", str(tmp_path / "text"), "--model", str(tmp_path / "cut.ftz")]) == 2
    assert "cut.ftz" in capsys.readouterr().err
    assert main(["detect", str(tmp_path / "text"), "--top", "0"]) == 2
