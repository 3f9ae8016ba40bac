"""Deprecated keys work, with one warning that names the new ones."""

import logging
from pathlib import Path

import pytest

from nllb.config import load_config
from nllb.errors import ConfigError
from tests.unit.nllb.config.test_loading import GOOD, Optimizer, Run, write

OLD = f"""\
{GOOD.replace("optimizer:", "old_optimizer:")}
held_out_per_mille: 5
corpora:
  - name: a
    most_lines: 3
"""


def test_old_keys_are_read_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "nllb.config"):
        run = load_config(Run, write(tmp_path, OLD))
    assert run.optimizer == Optimizer(lr=3e-4)
    assert (run.held_out_fraction, run.corpora[0].max_lines) == (0.005, 3)
    (record,) = caplog.records
    for expected in (
        "run.yaml:5: old_optimizer is now called optimizer",
        "run.yaml:8: held_out_per_mille is now called held_out_fraction, in another unit",
        "run.yaml:11: corpora[0].most_lines is now called max_lines",
    ):
        assert expected in record.getMessage()


@pytest.mark.parametrize("text", [OLD, GOOD])
@pytest.mark.parametrize("name", ["optimizer", "old_optimizer"])
def test_an_override_replaces_a_key_by_any_of_its_names(
    tmp_path: Path, text: str, name: str
) -> None:
    run = load_config(Run, write(tmp_path, text), [f"{name}.warmup_steps=5"])
    assert run.optimizer == Optimizer(lr=3e-4, warmup_steps=5)


@pytest.mark.parametrize("override", ["held_out_per_mille=20", "held_out_fraction=0.02"])
def test_an_override_replaces_a_value_in_either_unit(tmp_path: Path, override: str) -> None:
    for text in (OLD, GOOD):
        assert load_config(Run, write(tmp_path, text), [override]).held_out_fraction == 0.02


def test_both_names_at_once_are_an_error(tmp_path: Path) -> None:
    text = GOOD + "corpora: [{name: a, most_lines: 1, max_lines: 2}]\n"
    with pytest.raises(ConfigError, match=r"most_lines is the deprecated name of corpora\[0\]"):
        load_config(Run, write(tmp_path, text))


def test_a_wrong_value_under_an_old_name_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="held_out_fraction: expected a number, got 'many'"):
        load_config(Run, write(tmp_path, GOOD), ["held_out_per_mille=many"])
