"""Fingerprints tell the same work from other work."""

from pathlib import Path

import pytest

from nllb.config.fingerprints import (
    MADE_BY_FILE,
    changed_fields,
    claim_directory,
    file_fingerprint,
    fingerprint,
    model_fingerprint,
)
from nllb.errors import ConfigError, DataError
from nllb.languages import parse_language
from tests.unit.nllb.config.test_loading import Optimizer


def test_equal_values_have_equal_fingerprints() -> None:
    french = parse_language("fr")
    assert fingerprint("a", {"x": 1, "y": Path("b")}) == fingerprint("a", {"y": "b", "x": 1})
    assert fingerprint(Optimizer(), french) == fingerprint(Optimizer(lr=1e-3), "fra_Latn")
    assert fingerprint(Optimizer()) != fingerprint(Optimizer(lr=2e-3))
    assert fingerprint("a", "b") != fingerprint("ab")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert len(file_fingerprint(tmp_path / "file")) == 32
    with pytest.raises(DataError, match="missing"):
        file_fingerprint(tmp_path / "missing")


def test_a_model_is_known_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"0" * 300_000)
    before = model_fingerprint(tmp_path)
    assert model_fingerprint(tmp_path) == before
    (tmp_path / "weights").write_bytes(b"0" * 299_999 + b"1")
    assert model_fingerprint(tmp_path) != before


def test_a_folder_is_held_to_its_work(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    claim_directory(folder, {"text": "a", "beam": 4, "model": "here"})
    claim_directory(folder, {"text": "b", "beam": 4})  # nothing in it yet
    (folder / "part").write_text("x")
    claim_directory(folder, {"text": "b", "beam": 4, "model": "moved"}, ignored=["model"])
    with pytest.raises(ConfigError, match="beam was 4, now 5; text was b, now not recorded"):
        claim_directory(folder, {"beam": 5})
    assert (folder / MADE_BY_FILE).is_file()


def test_changed_fields_are_named() -> None:
    assert changed_fields({"a": 1, "b": 2}, {"a": 1, "c": 3}) == ["b", "c"]
