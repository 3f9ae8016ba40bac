"""Every shipped configuration is valid, in present names, and quick to check."""

import subprocess
import sys
from pathlib import Path

import pytest

from nllb.cli import main
from nllb.config import configs_dir
from nllb.config.shipped import config_kind
from nllb.errors import ConfigError

SHIPPED = sorted(configs_dir().glob("*/*.yaml"))
HEAVY = {"torch", "polars", "faiss", "pyarrow", "fairseq2", "transformers", "sentencepiece"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_configuration_is_valid(
    path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["config", "check", str(path)]) == 0
    assert not caplog.records  # no deprecated key
    assert main(["config", "show", str(path)]) == 0
    assert f"kind: {config_kind(path)}\n" in capsys.readouterr().out


def test_checking_configurations_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nllb.cli import main\n"
        f"for name in {[str(path) for path in SHIPPED]}:\n"
        "    assert main(['config', 'check', name]) == 0\n"
        "    assert main(['config', 'show', name]) == 0\n"
        f"loaded = {HEAVY} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def _out_of_range() -> dict[str, str]:
    return {
        "lid/default calibration.kept=98": "calibration.target_recall must be at least 0 and at "
        "most 1, got 98",
        "lid/default fasttext.dim=-3": "fasttext.dim must be at least 2, got -3",
        "lid/default fasttext.shortest_ngram=7": "fasttext.min_ngram: must be at most max_ngram",
        "data/full prepare.held_out_per_mille=1000": "prepare.held_out_fraction must be at least 0",
        "data/full filter.thresholds.max_lenght=3": "did you mean",
        "mine/encoder table.rows=0": "table.rows must be at least 1, got 0",
        "train/mini optimizer.learning_rate=0": "optimizer.learning_rate must be above 0, got 0",
        "train/mini model.heads=0": "model.heads must be at least 1, got 0",
        "slurm/local time_min=0": "time_min must be at least 1, got 0",
        "pipeline/mini steps=[]x": "not a YAML value",
        "backtranslation/tiny beam_size=0": "beam_size must be at least 1, got 0",
        "finetune/add-language replay_share=1": "replay_share must be at least 0 and below 1",
    }


@pytest.mark.parametrize(("command", "message"), _out_of_range().items())
def test_values_out_of_range_are_refused(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, override = command.split()
    assert main(["config", "check", name, override]) == ConfigError.exit_code
    assert message in capsys.readouterr().err


def test_every_field_has_a_help_text() -> None:
    from importlib import import_module

    from nllb.cli.config import KINDS
    from nllb.config.schema import Section, section_of

    seen: set[type[Section]] = set()
    waiting = []
    for home in KINDS.values():
        module, _, name = home.partition(":")
        waiting.append(getattr(import_module(module), name))
    while waiting:
        section = waiting.pop()
        seen.add(section)
        for key, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{key}"
            inner = section_of(field.annotation)
            if inner is not None and inner not in seen:
                waiting.append(inner)
    assert len(seen) > 30


def test_a_missing_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: x\n")
    with pytest.raises(ConfigError, match="`kind:`"):
        config_kind(tmp_path / "a.yaml")
