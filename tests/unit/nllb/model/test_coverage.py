"""A model declares its languages; others are refused, with the models that have them."""

import json
import shutil
from pathlib import Path

import pytest

from nllb.cli import main
from nllb.errors import LanguageError
from nllb.translation import Translator


@pytest.fixture
def covering(random_model_dir: Path, tmp_path: Path) -> Path:
    """Return a model of two languages, whose vocabulary has all."""
    shutil.copytree(random_model_dir, tmp_path / "model")
    settings = tmp_path / "model" / "nllb.json"
    values = json.loads(settings.read_text()) | {"covered_languages": ["eng_Latn", "fra_Latn"]}
    settings.write_text(json.dumps(values))
    return tmp_path / "model"


def test_its_languages_are_listed(covering: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["languages", "--model", str(covering), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["code"] for line in lines] == ["eng_Latn", "fra_Latn"]
    assert main(["languages", "German", "--model", str(covering)]) == 2
    assert "covers none" in capsys.readouterr().err


def test_others_are_refused_with_the_models_that_have_them(covering: Path) -> None:
    translator = Translator.load(covering, device="cpu")
    assert translator.language("fra_Latn").code == "fra_Latn"
    with pytest.raises(LanguageError, match=r"does not cover deu_Latn .*distilled-600M \(.*GiB"):
        translator.translate("Good morning.", "eng_Latn", "deu_Latn")


def test_a_damaged_list_is_refused(covering: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = covering / "nllb.json"
    settings.write_text(json.dumps({"covered_languages": ["../../etc"]}))
    assert main(["languages", "--model", str(covering)]) == 2
    assert "covered_languages" in capsys.readouterr().err
