"""Back-translation: sides of the bitext, skipped lines, blocks, shards and resuming."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from nllb.errors import ConfigError
from nllb.io.text import read_json, read_lines
from nllb.training.backtranslation import backtranslate
from nllb.training.backtranslation_config import BacktranslationConfig, MonolingualText
from nllb.training.translating import Translate


def upside_down(lines: Sequence[str], source: str, target: str) -> list[str]:
    assert (source, target) == ("fra_Latn", "eng_Latn")
    return [line[::-1] if len(line) < 30 else line * 9 for line in lines]


class Translators:
    """Stands in for the inference engine; counts how often the model is loaded."""

    def __init__(self, translate: Translate = upside_down) -> None:
        self.translate, self.loaded, self.files = translate, 0, "files"

    def load(
        self, model: str, *, device: str = "auto", beam_size: int = 1, sampling: bool = False
    ) -> Translate:
        self.loaded += 1
        return self.translate

    def fingerprint(self, model: str) -> str:
        return self.files

    def from_weights(self, *_: object) -> Translate:
        raise AssertionError("back-translation loads models by name")


@pytest.fixture
def config(tmp_path: Path) -> BacktranslationConfig:
    path = tmp_path / "text.txt"
    lines = [f"phrase {number:02d}" for number in range(20)]
    lines[3], lines[7], lines[11] = "", "a \t b  c", "level"
    lines[15] = "une phrase qui est beaucoup trop longue"
    path.write_text("\n".join(lines) + "\n")
    text = MonolingualText(path=path, language="fra_Latn", into="eng_Latn")
    return BacktranslationConfig(model="any", text=(text,), block_lines=6)


def test_back_translation_puts_the_translation_on_the_source_side(
    config: BacktranslationConfig, tmp_path: Path
) -> None:
    report = backtranslate(config, tmp_path / "out", Translators(upside_down), quiet=True)
    counts = {"written": 17, "empty": 1, "too_long": 0, "length": 1, "same": 1}
    assert report == {"eng_Latn-fra_Latn": counts} == read_json(tmp_path / "out" / "report.json")
    rows = list(read_lines(tmp_path / "out" / "eng_Latn-fra_Latn.tsv.zst"))
    assert rows[0] == "00 esarhp\tphrase 00" and "c b a\ta b c" in rows
    assert len(rows) == 17


def test_lines_too_long_for_the_model_are_counted(
    config: BacktranslationConfig, tmp_path: Path
) -> None:
    def limited(lines: Sequence[str], source: str, target: str) -> list[str | None]:
        return [None if len(line) > 30 else line[::-1] for line in lines]

    report = backtranslate(config, tmp_path / "out", Translators(limited), quiet=True)
    counts = {"written": 17, "empty": 1, "too_long": 1, "length": 0, "same": 1}
    assert report == {"eng_Latn-fra_Latn": counts}


def test_blocks_of_another_run_are_refused(config: BacktranslationConfig, tmp_path: Path) -> None:
    backtranslate(config, tmp_path / "out", Translators(upside_down), quiet=True)
    whole = (tmp_path / "out" / "eng_Latn-fra_Latn.tsv.zst").read_bytes()
    other = Translators()
    with pytest.raises(ConfigError, match="block_lines was 6, now 5"):
        backtranslate(config.replace(block_lines=5), tmp_path / "out", other, quiet=True)
    assert other.loaded == 0  # the folder is checked first
    # The files of a model count, not its name.
    backtranslate(config.replace(model="moved"), tmp_path / "out", Translators(), quiet=True)
    write = config.replace(model="moved")
    kept = (tmp_path / "out" / "config.yaml").read_text()
    other.files = "retrained"
    with pytest.raises(ConfigError, match="model files was"):
        backtranslate(write, tmp_path / "out", other, quiet=True)
    assert (tmp_path / "out" / "config.yaml").read_text() == kept
    config.text[0].path.write_text("une autre phrase\n")
    with pytest.raises(ConfigError, match="text was"):
        backtranslate(config, tmp_path / "out", Translators(upside_down), quiet=True)
    assert (tmp_path / "out" / "eng_Latn-fra_Latn.tsv.zst").read_bytes() == whole


def test_distillation_puts_the_translation_on_the_target_side(
    config: BacktranslationConfig, tmp_path: Path
) -> None:
    config = config.replace(mode="distillation")
    backtranslate(config, tmp_path / "out", Translators(upside_down), quiet=True)
    rows = list(read_lines(tmp_path / "out" / "fra_Latn-eng_Latn.tsv.zst"))
    assert rows[0] == "phrase 00\t00 esarhp"


def test_shards_and_interruptions(config: BacktranslationConfig, tmp_path: Path) -> None:
    backtranslate(config, tmp_path / "whole", Translators(upside_down), quiet=True)
    out = tmp_path / "out"
    assert backtranslate(config, out, Translators(upside_down), shard=(1, 2), quiet=True) == {}
    calls = 0

    def failing(lines: Sequence[str], source: str, target: str) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return upside_down(lines, source, target)

    with pytest.raises(KeyboardInterrupt):
        backtranslate(config, out, Translators(failing), shard=(0, 2), quiet=True)
    calls = 5
    report = backtranslate(config, out, Translators(failing), shard=(0, 2), quiet=True)
    assert calls == 6  # only the block that was lost
    assert report == read_json(tmp_path / "whole" / "report.json")
    name = "eng_Latn-fra_Latn.tsv.zst"
    assert list(read_lines(out / name)) == list(read_lines(tmp_path / "whole" / name))


def test_contradictions_are_refused(config: BacktranslationConfig) -> None:
    with pytest.raises(ValidationError, match="sampling: true requires beam_size: 1"):
        config.replace(sampling=True)
    with pytest.raises(ValidationError, match="two files produce eng_Latn-fra_Latn"):
        config.replace(text=config.text * 2)
