"""One YAML file describes one run: every error is reported at once, with its line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from nllb.config import dump_config, find_config, load_config
from nllb.config.loading import config_of
from nllb.config.schema import (
    ByteSize,
    FilePath,
    RenamedKey,
    RunConfig,
    Section,
    Text,
    per_mille,
    repeated,
)
from nllb.errors import ConfigError
from nllb.languages import Language, parse_language


class Optimizer(Section):
    lr: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 10
    """Steps of linear warm-up."""


class Corpus(Section):
    renamed_keys: ClassVar = {"most_lines": "max_lines"}

    name: Text
    """Its name."""
    max_lines: Annotated[int, Field(ge=1)] = 10
    """Maximum number of lines."""


class Run(RunConfig):
    renamed_keys: ClassVar = {
        "held_out_per_mille": RenamedKey("held_out_fraction", per_mille),
        "old_optimizer": "optimizer",
    }

    kind: Literal["sample"]
    """The kind of run."""
    text_dir: FilePath
    """Folder of the text."""
    languages: tuple[Language, ...] = ()
    """Languages
    to train on."""
    mode: Literal["fast", "exact"] = "exact"
    """Speed or exactness."""
    seed: Annotated[int, Field(ge=0, lt=100)] | None = None
    """Seed; null chooses one."""
    weights: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Weight of each source."""
    optimizer: Optimizer = Optimizer()
    """The optimizer."""
    corpora: tuple[Corpus, ...] = ()
    """The corpora."""
    held_out_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Held-out fraction."""
    memory: ByteSize = 0
    """Memory."""
    extra: dict[str, bool | Text] = Field(default_factory=dict)
    """Further options."""

    def cross_field_errors(self) -> Iterator[str]:
        for name in repeated(corpus.name for corpus in self.corpora):
            yield f"corpora: the name {name!r} is given twice"
        if self.mode == "fast" and self.seed is not None:
            yield "fast mode has no seed"


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


def errors_of(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(Run, write(folder, text), overrides)
    return str(error.value)


def test_a_good_file_is_read_with_its_types(tmp_path: Path) -> None:
    run = load_config(Run, write(tmp_path, GOOD), ["optimizer.warmup_steps=20", "mode=fast"])
    assert run.text_dir == Path("somewhere/far")
    assert run.languages == (parse_language("fra_Latn"), parse_language("eng_Latn"))
    assert run.weights == {"seed": 2.0, "other": 0.5}
    assert run.optimizer == Optimizer(lr=3e-4, warmup_steps=20)
    assert (run.mode, run.seed) == ("fast", None)


def test_text_keeps_the_form_in_which_it_was_written(tmp_path: Path) -> None:
    given = ["text_dir=2024-01-01", "corpora=[{name: 007}, {name: 1.50}, {name: 3e-4}]"]
    run = load_config(Run, write(tmp_path, GOOD), [*given, "extra={a: 1_0, b: true}"])
    assert run.text_dir == Path("2024-01-01")
    assert [corpus.name for corpus in run.corpora] == ["007", "1.50", "3e-4"]
    assert run.extra == {"a": "1_0", "b": True}


def test_sizes_are_numbers_or_text(tmp_path: Path) -> None:
    sizes = [load_config(Run, write(tmp_path, GOOD), [f"memory={s}"]).memory for s in (7, "2KiB")]
    assert sizes == [7, 2048]
    assert "memory: 'much' is not a size" in errors_of(tmp_path, GOOD, ("memory=much",))


def test_the_dump_reads_back_the_same(tmp_path: Path) -> None:
    names = ("007", "1.50", "no", "null", "3e-4", "2024-01-01", "a: b", "0x1F", "true", "")
    run = load_config(Run, write(tmp_path, GOOD))
    run = run.replace(corpora=tuple(Corpus(name=name) for name in names), extra={"a": "true"})
    text = dump_config(run)
    assert "# Peak learning rate." in text and "# Languages to train on." in text
    assert load_config(Run, write(tmp_path, text)) == run


def test_all_errors_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
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
weights: {a: -1}
? [a, b]
: 1
corpora: {name: x}
"""
    message = errors_of(tmp_path, text, ("optimizer", "nothing.at.all=1", "extra.x=[1]"))
    for expected in (
        "run.yaml:2: unknown key texts_dir; did you mean text_dir?",
        "run.yaml:1: missing key text_dir: Folder of the text.",
        "run.yaml:3: languages[0]: unknown language 'Frnech'",
        "run.yaml:4: mode: got 'fats'; did you mean fast? valid: fast, exact",
        "run.yaml:5: seed: expected a whole number, got 1.5",
        "run.yaml:7: unknown key optimizer.learning_rate",
        "lr (0.001)",
        "run.yaml:8: optimizer.warmup_steps: expected a whole number, got 'many'",
        "run.yaml:9: optimizer.lr: expected a number, got nan",
        "run.yaml:10: the key seed is given twice",
        "run.yaml:11: weights.a must be above 0, got -1",
        "run.yaml:12: a key must be plain text",
        "run.yaml:14: corpora: expected a list, got nested keys",
        "command line: 'optimizer' is not of the form key=value",
        "command line: unknown key nothing",
        "command line: extra.x: expected true or false or text, got a list",
        "15 errors:",
    ):
        assert expected in message, message
    lines = [int(line.split(":")[1]) for line in message.splitlines()[1:] if "run.yaml" in line]
    assert lines == sorted(lines)


def test_bounds_are_named_in_full(tmp_path: Path) -> None:
    for seed in (-1, 100):
        message = errors_of(tmp_path, GOOD, (f"seed={seed}",))
        assert f"seed must be at least 0 and below 100, got {seed}" in message
    assert load_config(Run, write(tmp_path, GOOD), ["seed=99"]).seed == 99
    message = errors_of(tmp_path, GOOD, ("corpora=[{name: a, max_lines: 0}]",))
    assert "corpora[0].max_lines must be at least 1, got 0" in message


def test_errors_between_fields_name_the_line_of_their_field(tmp_path: Path) -> None:
    message = errors_of(tmp_path, f"{GOOD}corpora: [{{name: a}}, {{name: a}}]\nmode: fast\nseed: 1")
    assert "run.yaml:7: corpora: the name 'a' is given twice" in message
    assert "run.yaml:1: fast mode has no seed" in message


def test_rules_between_fields_wait_until_every_field_can_be_read(tmp_path: Path) -> None:
    message = errors_of(tmp_path, GOOD, ("languages=[French, Frnech]", "mode=fast", "seed=1"))
    assert "1 error:" in message and "languages[1]: unknown language 'Frnech'" in message


@pytest.mark.parametrize("value", [".nan", ".inf", "yes", "'1'", "1:30"])
def test_what_is_not_a_number_is_refused(tmp_path: Path, value: str) -> None:
    assert "optimizer.lr: expected a number" in errors_of(
        tmp_path, GOOD, (f"optimizer.lr={value}",)
    )


def test_no_is_a_language_and_not_a_boolean(tmp_path: Path) -> None:
    (language,) = load_config(Run, write(tmp_path, GOOD), ["languages=[no]"]).languages
    assert "Norwegian" in language.name


@pytest.mark.parametrize("text", ["", "- a\n", "a: [\n", "just words\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(Run, write(tmp_path, text))


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, "- " * 5000, "a: &a [*a]\n"])
def test_deep_and_recursive_documents_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"levels deep|recursive"):
        load_config(Run, write(tmp_path, text))


def test_documents_that_aliases_make_huge_are_refused(tmp_path: Path) -> None:
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="aliases make the document too large"):
        load_config(Run, write(tmp_path, "\n".join(rows)))


def test_a_deep_override_is_refused(tmp_path: Path) -> None:
    assert "not a YAML value" in errors_of(tmp_path, GOOD, ("languages=" + "[" * 5000,))


def test_a_missing_file_lists_the_shipped_names() -> None:
    with pytest.raises(ConfigError, match="neither a file nor a shipped name"):
        find_config("nowhere")


def test_values_without_a_file_are_checked_alike() -> None:
    values = {"kind": "sample", "text_dir": Path("a"), "languages": [parse_language("fra_Latn")]}
    run = config_of(Run, values, ["seed=3"])
    assert (run.text_dir, run.seed) == (Path("a"), 3)
    with pytest.raises(ConfigError, match="command line: seed must be at least 0"):
        config_of(Run, values, ["seed=-3"])


def test_sections_cannot_be_changed_and_copies_are_checked() -> None:
    optimizer = Optimizer()
    with pytest.raises(ValueError, match="frozen"):
        optimizer.lr = 1.0  # type: ignore[misc]
    assert optimizer.replace(lr=2.0) == Optimizer(lr=2.0)
    with pytest.raises(ValueError, match="lr"):
        optimizer.replace(lr="fast")
