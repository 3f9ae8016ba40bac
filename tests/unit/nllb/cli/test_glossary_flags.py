import argparse

import pytest

from nllb.cli.glossary_flags import glossary_arguments, glossary_options
from nllb.errors import ConfigError, DataError
from nllb.translation.glossary import GlossaryEntry


@pytest.fixture
def options():
    def read(*words):
        parser = argparse.ArgumentParser()
        parser.add_argument("--source", default="en")
        parser.add_argument("--target", default="de")
        glossary_arguments(parser)
        return glossary_options(parser.parse_args(words))

    return read


def test_without_flags_models_get_everything(options):
    assert options() == {"glossary": None, "do_not_translate": (), "placeholders": None}


def test_terms_come_from_files_and_from_the_command_line(options, tmp_path):
    terms, glossary = tmp_path / "terms.txt", tmp_path / "glossary.csv"
    terms.write_text("\ufeffYahoo! Inc.\n\n C++ \n", encoding="utf-8")
    glossary.write_text("house,Haus,en,de\nhouse,casa,en,es\n", encoding="utf-8")
    found = options(
        *("--do-not-translate", str(terms), "--do-not-translate", "Go"),
        *("--glossary", str(glossary), "--keep", r"ID-\d+"),
    )
    assert found["do_not_translate"] == ("Yahoo! Inc.", "C++", "Go")
    assert found["glossary"].entries == (GlossaryEntry(source="house", targets=("Haus",)),)
    assert found["placeholders"] == (r"ID-\d+",)


def test_errors_end_the_run_before_a_model_is_loaded(options, tmp_path):
    path = tmp_path / "glossary.tsv"
    path.write_text("a\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1"):
        options("--glossary", str(path))
    with pytest.raises(DataError, match="cannot read"):
        options("--glossary", str(tmp_path / "missing.tsv"))
    with pytest.raises(ConfigError, match="regular expression"):
        options("--keep", "(")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        options("--do-not-translate", str(path))
