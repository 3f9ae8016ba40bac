"""`nllb translate` with documents and `nllb documents formats`, around a stand-in model."""

import bz2
import json
import zipfile
from types import SimpleNamespace

import pytest

from nllb.cli import main
from nllb.translation.translator import Translator

PAGE = "<html><p>Hello <b>you</b>.</p></html>"
TRANSLATED = '<html lang="fr"><p>HELLO <b>YOU</b>.</p></html>'
SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\nHello you.\n"


@pytest.fixture
def run(stand_in, monkeypatch, capsys):
    def run(*words, model="of one content"):
        generator = stand_in(lambda segment, search: segment.upper())
        monkeypatch.setattr(Translator, "load", lambda *_, **__: Translator(generator))
        monkeypatch.setattr("nllb.cli.translate._load_detector", lambda arguments: None)
        monkeypatch.setattr("nllb.inference.load_model.describe_model", lambda name: model)
        words = ["translate", "-m", "stand-in", "-s", "en", "-t", "fr", *map(str, words)]
        code = main(words)
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, calls=generator.calls)

    return run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "page.html").write_text(PAGE)
    (tmp_path / "film.srt").write_text(SUBTITLES)
    (tmp_path / "note.txt").write_text("Hello there.\n")
    (tmp_path / "table.csv").write_text("id,text\n1,Good day\n")
    return tmp_path


def test_a_document_is_written_beside_its_original(run, folder):
    done = run(folder / "page.html")
    assert done.code == 0 and not done.out
    assert "page.fra_Latn.html: 1 segment" in done.err
    assert (folder / "page.fra_Latn.html").read_text() == TRANSLATED
    assert (folder / "page.html").read_text() == PAGE


def test_documents_go_to_a_directory(run, folder):
    out = folder / "out"
    done = run(folder / "page.html", folder / "film.srt", folder / "note.txt", "-o", out)
    assert done.code == 0, done.err
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        "page.fra_Latn.html": TRANSLATED,
        "film.fra_Latn.srt": SUBTITLES.replace("Hello you", "HELLO YOU"),
        "note.fra_Latn.txt": "HELLO THERE.\n",
    }


def test_a_document_can_be_given_a_name(run, folder):
    assert run(folder / "page.html", "--output", folder / "seite.html").code == 0
    assert (folder / "seite.html").read_text() == TRANSLATED
    done = run(folder / "page.html", folder / "film.srt", "-o", folder / "seite.html")
    assert done.code == 2 and "directory" in done.err


def test_plain_text_still_goes_to_stdout(run, folder):
    assert run(folder / "note.txt").out == "HELLO THERE.\n"
    done = run(folder / "note.txt", "--output", folder / "out.txt")
    assert done.code == 0 and (folder / "out.txt").read_text() == "HELLO THERE.\n"


def test_reports_are_json(run, folder):
    done = run(folder / "page.html", folder / "table.csv", "--json")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["format"] for record in records] == ["html", "csv"]
    assert records[0]["units"][0]["text"] == "HELLO YOU."
    assert "columns" in records[1]["warnings"][0]


def test_choices_of_formats(run, folder):
    assert run(folder / "table.csv", "--columns", "text", "--beam", "2").code == 0
    assert (folder / "table.fra_Latn.csv").read_text() == "id,text\n1,GOOD DAY\n"
    done = run(folder / "table.csv", "--columns", "texts")
    assert done.code == 2 and "texts" in done.err
    done = run(folder / "page.html", "--n-best", "2", "--json")
    assert done.code == 2 and "--n-best" in done.err
    (folder / "wrapped.txt").write_text("This sentence goes on\nafter the end of a line.\n")
    done = run(folder / "wrapped.txt", "--document", "--wrapped", "-o", f"{folder}/out/")
    assert (folder / "out" / "wrapped.fra_Latn.txt").read_text() == (
        "THIS SENTENCE GOES ON\nAFTER THE END OF A LINE.\n"
    )
    assert [len(call[0]) for call in done.calls][:1] == [1]


def test_the_search_has_the_options_of_the_command(run, folder):
    done = run(folder / "page.html", "--beam", "2", "--full-vocabulary")
    [search] = {call[3] for call in done.calls}
    assert search.beam_size == 2 and not search.shortlist


def test_what_cannot_be_translated_is_refused(run, folder):
    (folder / "a.rtf").write_text("{\\rtf1 Hello}")
    done = run(folder / "a.rtf")
    assert done.code == 1 and "supported are" in done.err
    (folder / "a.json").write_text('{"a": ')
    done = run(folder / "a.json")
    assert done.code == 1 and "JSON" in done.err and "Traceback" not in done.err
    assert not (folder / "a.fra_Latn.json").exists()
    done = run(folder / "page.html", "-")
    assert done.code == 2 and "in separate commands" in done.err
    with zipfile.ZipFile(folder / "a.docx", "w") as archive:
        archive.writestr("word/document.xml", "text")
    done = run(folder / "a.docx")
    assert done.code == 1 and "is called .docx, but its content is not" in done.err
    (folder / "a.txt.bz2").write_bytes(bz2.compress(b"Hello.\n"))
    done = run(folder / "a.txt.bz2")
    assert done.code == 1 and "compressed with bzip2" in done.err and "use .gz" in done.err


def test_formats_are_listed(capsys):
    assert main(["documents", "formats"]) == 0
    shown = capsys.readouterr().out
    assert "html" in shown and ".srt" in shown
    assert main(["documents", "formats", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"name", "suffixes", "keeps"} == set(records[0])
