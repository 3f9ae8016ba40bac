"""`nllb languages` in its three forms."""

import json

import pytest

from nllb.cli import main
from nllb.errors import LanguageError
from nllb.languages import select_languages


def test_tab_separated_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["languages"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split("\t")[:3] == ["code", "name", "own_name"]
    assert len(rows) == 204
    assert {len(row.split("\t")) for row in rows} == {len(header.split("\t"))}


def test_json_has_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["languages", "zgh", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["code"] == "tzm_Tfng"
    assert record["in_nllb"] is True
    assert record["level"] == "very_low"
    assert record["known_issues"]


def test_table_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["languages", "yue"]) == 0
    shown = capsys.readouterr().out
    assert "yue_Hant" in shown
    assert "Known issue:" in shown


def test_filters_combine() -> None:
    chosen = select_languages("arabic", script="arab", level="high")
    assert [language.code for language in chosen] == ["arb_Arab"]
    assert {language.script for language in select_languages(None, script="Deva")} == {"Deva"}


def test_nothing_found_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["languages", "Frensh"]) == 2
    assert "did you mean fra_Latn (French)" in capsys.readouterr().err
    with pytest.raises(LanguageError, match="valid are Arab, Armn"):
        select_languages(None, script="Runr")
    with pytest.raises(LanguageError, match="eng_Latn"):
        select_languages("en", level="low")
