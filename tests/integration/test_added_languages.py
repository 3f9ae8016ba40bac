"""Languages that fine-tuning added with transformers are usable from the CLI and the API."""

import json
from pathlib import Path
from typing import Any

import pytest

from nllb import Translator
from nllb.cli import main

pytestmark = pytest.mark.slow
ADDED = ["tyv_Cyrl", "gsw", "xyz_Abcd"]
"""A code, one without a script, and one with a script that does not exist."""


@pytest.fixture(scope="module", params=["additional_special_tokens", "add_tokens"])
def fine_tuned(request, random_model_dir, tmp_path_factory) -> Path:
    """Return a model directory whose tokenizer got more languages, as tutorials do it."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("fine-tuned")
    model = AutoModelForSeq2SeqLM.from_pretrained(random_model_dir)
    options: dict[str, Any] = {}
    if request.param == "additional_special_tokens":
        known = AutoTokenizer.from_pretrained(random_model_dir).additional_special_tokens
        options = {"additional_special_tokens": [*known, *ADDED]}
    tokenizer = AutoTokenizer.from_pretrained(random_model_dir, **options)
    if not options:
        tokenizer.add_tokens(ADDED[:1])
        tokenizer.add_special_tokens(
            {"additional_special_tokens": ADDED[1:]}, replace_additional_special_tokens=False
        )
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_command_line_and_conversion(fine_tuned, tmp_path, capsys) -> None:
    assert main(["convert", str(fine_tuned), str(tmp_path / "converted"), "--quiet"]) == 0
    capsys.readouterr()
    text = tmp_path / "text.txt"
    text.write_text("Bonjour.\n")
    for code in ADDED:
        outputs = []
        for folder in (fine_tuned, tmp_path / "converted"):
            model = ["--model", str(folder), "--threads", "1", "--dtype", "float32"]
            languages = ["--source", "fr", "--target", code, "--json", "--no-retry", "--quiet"]
            assert main(["translate", str(text), *model, *languages]) == 0
            outputs.append(json.loads(capsys.readouterr().out))
        assert outputs[0]["target"] == code
        assert outputs[0] == outputs[1]


def test_python(fine_tuned) -> None:
    translator = Translator.load(fine_tuned, dtype="float32", num_threads=1, detector="auto")
    for code in ADDED:
        assert translator.translate("Bonjour.", "fr", code, retry=False).target.code == code
        assert translator.translate("Bonjour.", code, "fr", retry=False).source is not None
