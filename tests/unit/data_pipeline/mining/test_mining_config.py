"""Configurations of mining, encoders and xsim."""

import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline.mining.mining_config import EncoderTrainingConfig
from nllb.config import load_config
from nllb.errors import ConfigError


def test_configurations_of_mining_are_checked_without_torch() -> None:
    code = (
        "import sys; from nllb.cli import main; "
        "names = ('default', 'encoder', 'encoder-mediawiki', 'distil', 'distil-tiny', 'xsim', "
        "'distil-pretrained'); "
        "assert all(main(['config', 'check', f'mine/{name}']) == 0 for name in names); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ("epochs: 0, dropout: 1.0", ("epochs must be at least 1", "dropout must be at least 0")),
        ("bits: 3", ("bits: got 3; valid: 1, 2, 4",)),
    ],
)
def test_a_distillation_of_bad_numbers_is_refused(
    tmp_path: Path, fields: str, faults: tuple[str, ...]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"kind: encoder\nsources: []\nshield: []\ndistillation: {{{fields}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(EncoderTrainingConfig, path)
    for fault in faults:
        assert fault in str(caught.value)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../x"])
def test_names_that_become_files_are_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"kind: encoder\nsources: []\ndecontamination: []\nname: '{name}'\n")
    with pytest.raises(ConfigError, match="becomes the name of files"):
        load_config(EncoderTrainingConfig, path)
