"""The language table."""

import pickle
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from nllb.languages import Language, add_languages, languages, parse_language


def test_table_has_the_languages_of_flores_and_nllb(data_dir: Path) -> None:
    codes = {language.code for language in languages()}
    assert codes == {path.stem for path in (data_dir / "flores200_dataset/devtest").iterdir()}


def test_table_counts() -> None:
    assert len(languages()) == 204
    absent = {language.code for language in languages() if not language.in_nllb}
    assert absent == {"arb_Latn", "min_Arab"}
    assert {language.level for language in languages()} == {"high", "low", "very_low"}
    right_to_left = {language.script for language in languages() if language.direction == "rtl"}
    assert right_to_left == {"Arab", "Hebr"}
    without = {language.code for language in languages() if not language.terminators}
    assert without == {"tha_Thai"}


def test_languages_are_values() -> None:
    english = parse_language("en")
    copy: Language = pickle.loads(pickle.dumps(english))
    assert copy == english
    assert hash(copy) == hash(english)
    assert {english: 1}[copy] == 1
    assert f"{english}" == "eng_Latn"


def test_pydantic_reads_and_writes_languages() -> None:
    class Request(BaseModel):
        target: Language

    request = Request.model_validate({"target": "French"})
    assert request.target is parse_language("fra_Latn")
    assert request.model_dump_json() == '{"target":"fra_Latn"}'
    with pytest.raises(ValidationError, match="did you mean fra_Latn"):
        Request.model_validate({"target": "Frensh"})
    with pytest.raises(ValidationError, match="expected a language, as text"):
        Request.model_validate({"target": ["French"]})


def test_added_languages_take_after_their_script() -> None:
    add_languages(["xyz_Arab", "fra_Latn"])
    added = parse_language("xyz_Arab")
    assert (added.direction, added.in_nllb, added.name) == ("rtl", False, "xyz_Arab")
    assert parse_language("XYZ-Arab") is added
    assert added not in languages()
