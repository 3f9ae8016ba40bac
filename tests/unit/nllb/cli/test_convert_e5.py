"""`nllb convert e5` makes an encoder and says what it kept; bad input is one message."""

import json

import pytest

from nllb.cli import main
from nllb.model.formats.encoder_directory import EncoderDirectory, file_sha256
from tests.tiny_encoder import PIECES, write_e5_file


@pytest.fixture
def arguments(tmp_path) -> list[str]:
    source = tmp_path / "tiny.bin"
    write_e5_file(source)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "eng_Latn").write_text("the old house\n")
    out = str(tmp_path / "out")
    return ["convert", "e5", str(source), out, "--sha256", file_sha256(source), "--quiet"]


def test_an_encoder_is_made(arguments, tmp_path, capsys) -> None:
    assert main([*arguments, "--text", f"lines:{tmp_path / 'text'}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["source_pieces"] == len(PIECES)
    assert result["lines"] == 1
    directory = EncoderDirectory.open(tmp_path / "out")
    assert directory.config.vocabulary_size == result["kept_pieces"]


def test_the_result_is_one_line(arguments, tmp_path, capsys) -> None:
    assert main([*arguments, "--text", f"lines:{tmp_path / 'text'}"]) == 0
    captured = capsys.readouterr()
    assert f"of {len(PIECES)} pieces, based on 1 lines in 1 languages" in captured.out
    assert captured.err == ""


def test_rows_that_cannot_be_read_are_counted(arguments, tmp_path, capsys) -> None:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "eng_Latn-fra_Latn.tsv").write_text("the\tle\nonly one\n")
    assert main([*arguments, "--text", f"pairs:{tmp_path / 'pairs'}"]) == 0
    assert "were skipped because they could not be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [("nowhere", "the corpus folder nowhere is missing"), ("text", "layout of")],
)
def test_text_that_cannot_be_read_is_an_error(
    arguments, tmp_path, capsys, monkeypatch, text, message
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--text", text]) == 1
    assert message in capsys.readouterr().err


def test_another_file_is_refused(arguments, tmp_path, capsys) -> None:
    del arguments[4:6]
    assert main([*arguments, "--text", f"lines:{tmp_path / 'text'}"]) == 2
    assert "is not the expected file" in capsys.readouterr().err
