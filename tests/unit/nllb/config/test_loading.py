"""One YAML = one run: every fault at once, with its line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from nllb.config import (
    dump_config,
    field_help,
    find_config,
    format_size,
    load_config,
    parse_size,
    range_faults,
    repeated,
)
from nllb.errors import ConfigError
from nllb.languages import Language, parse_language


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    lr: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 10
    """Steps of linear warm-up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    kind: Literal["sample"]
    """The sort of run."""
    text_dir: Path
    """Folder of the text."""
    languages: tuple[Language, ...] = ()
    """Languages
    to train on."""
    mode: Literal["fast", "exact"] = "exact"
    """How."""
    seed: int | None = None
    """Seed; null draws one."""
    weights: dict[str, float] | None = None
    """Weight of each source."""
    optimizer: Optimizer = Optimizer()
    """The optimizer."""

    def faults(self):
        yield from range_faults(self, "seed", least=0, below=100)
        for language in self.languages:
            if language.code == "und":
                yield "languages: und is none"


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


GOOD = """\
kind: sample
text_dir: somewhere/far
languages: [French, eng_Latn]
weights: {seed: 2, other: 0.5}
optimizer:
  lr: 3e-4
"""


def test_a_good_file_is_read_with_its_types(tmp_path: Path) -> None:
    run = load_config(Run, write(tmp_path, GOOD), ["optimizer.warmup_steps=20", "mode=fast"])
    assert run.text_dir == Path("somewhere/far")
    assert run.languages == (parse_language("fra_Latn"), parse_language("eng_Latn"))
    assert run.weights == {"seed": 2.0, "other": 0.5}
    assert run.optimizer == Optimizer(lr=3e-4, warmup_steps=20)
    assert (run.mode, run.seed) == ("fast", None)


def test_what_is_dumped_reads_back_the_same(tmp_path: Path) -> None:
    run = load_config(Run, write(tmp_path, GOOD))
    text = dump_config(run)
    assert "# Peak learning rate." in text and "# Languages to train on." in text
    assert load_config(Run, write(tmp_path, text)) == run
    assert field_help(Optimizer)["lr"] == "Peak learning rate."


def test_all_faults_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
kind: sample
texts_dir: here
languages: [Frnech]
mode: fats
seed: 1.5
optimizer:
  learning_rate: 1
  warmup_steps: many
  lr: .nan
seed: 2
"""
    with pytest.raises(ConfigError) as error:
        load_config(Run, write(tmp_path, text), ["optimizer", "nothing.at.all=1"])
    message = str(error.value)
    for expected in (
        "run.yaml:2: unknown key texts_dir; did you mean text_dir?",
        "missing key text_dir: Folder of the text.",
        "run.yaml:3: languages[0]: unknown language 'Frnech'",
        "run.yaml:4: mode: got 'fats'; did you mean fast?",
        "run.yaml:5: seed: expected a whole number, got 1.5",
        "run.yaml:7: unknown key optimizer.learning_rate",
        "lr (0.001)",
        "run.yaml:8: optimizer.warmup_steps: expected a whole number, got 'many'",
        "run.yaml:9: optimizer.lr: expected a number",
        "run.yaml:10: seed stands twice",
        "command line: 'optimizer' is not of the form key=value",
        "command line: unknown key nothing",
    ):
        assert expected in message, message


def test_faults_across_fields_are_told(tmp_path: Path) -> None:
    for seed in (-1, 100):
        with pytest.raises(ConfigError, match=f"seed must be at least 0 and below 100, got {seed}"):
            load_config(Run, write(tmp_path, GOOD), [f"seed={seed}"])
    assert load_config(Run, write(tmp_path, GOOD), ["seed=99"]).seed == 99


def test_checks_across_fields_wait_until_every_item_of_a_list_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 fault:") as error:
        load_config(Run, write(tmp_path, GOOD), ["languages=[French, Frnech]"])
    assert "languages[1]: unknown language 'Frnech'" in str(error.value)


def test_repeated_names_are_found() -> None:
    assert repeated(["b", "a", "b", "c", "a"]) == ["a", "b"]
    assert repeated(["a", "b"]) == []


@pytest.mark.parametrize("text", ["", "- a\n", "a: [\n", "just words\n"])
def test_what_is_no_configuration_is_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(Run, write(tmp_path, text))


def test_a_missing_file_lists_the_shipped_names() -> None:
    with pytest.raises(ConfigError, match="neither a file nor a shipped name"):
        find_config("nowhere")


def test_sizes_are_read_as_people_write_them() -> None:
    sizes = {
        "8GiB": 8 << 30,
        "512 MB": 512_000_000,
        "1.5kib": 1536,
        "100": 100,
        "7 B": 7,
        "2g": 2 * 10**9,
    }
    assert {text: parse_size(text) for text in sizes} == sizes
    for text in ("", "GiB", "-1GiB", "8 GiBs", "1e9"):
        with pytest.raises(ConfigError, match="not a size"):
            parse_size(text)
    assert [format_size(n) for n in (0, 1536, 8 << 30, 150 << 20)] == [
        "0 B",
        "1.5 KiB",
        "8.0 GiB",
        "150 MiB",
    ]
