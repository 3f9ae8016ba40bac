"""Tasks, keys and shards; configuration faults; nothing is half-written on a full disk."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import stages
from data_pipeline.blocks import read_columns
from data_pipeline.cleaning.clean_text import clean
from data_pipeline.data_config import CleanConfig, CorpusConfig, DataConfig
from data_pipeline.stages import Machine, require, run_tasks
from nllb.config import load_config
from nllb.config.fingerprints import fingerprint
from nllb.errors import ConfigError, DataError, ResourceError

OWN_TASKS = """
import os
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True)
class Touch:
    output: Path

def touch(task):
    task.output.write_text(task.output.name)

def die(task):
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a module of tasks that worker processes can import too."""
    name = f"own_tasks_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(OWN_TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    # Workers of a test before know neither this folder nor this module.
    stages._pool.cache_clear()
    yield import_module(name)
    stages._pool.cache_clear()
    del sys.modules[name]


@pytest.mark.parametrize("workers", [1, 2])
def test_only_missing_tasks_are_done(tmp_path: Path, own: Any, workers: int) -> None:
    tasks = [own.Touch(tmp_path / str(number)) for number in range(6)]
    (tmp_path / "3").write_text("kept")
    machine = Machine(workers=workers, quiet=True)
    assert run_tasks("test", tasks, own.touch, machine) == 5
    assert (tmp_path / "3").read_text() == "kept" and (tmp_path / "5").read_text() == "5"
    assert run_tasks("test", tasks, own.touch, machine) == 0


def test_shards_share_the_tasks(tmp_path: Path, own: Any) -> None:
    tasks = [own.Touch(tmp_path / str(number)) for number in range(10)]
    done = [
        run_tasks("test", tasks, own.touch, Machine(shard=(shard, 3), quiet=True))
        for shard in range(3)
    ]
    assert done == [4, 3, 3]


def test_a_killed_worker_is_an_error_that_says_what_to_do(tmp_path: Path, own: Any) -> None:
    tasks = [own.Touch(tmp_path / str(number)) for number in range(2)]
    with pytest.raises(ResourceError, match="fewer --workers"):
        run_tasks("test", tasks, own.die, Machine(workers=2, quiet=True))


def test_no_workers_do_no_work() -> None:
    with pytest.raises(ConfigError, match="--workers must be 1 or more, got 0"):
        Machine(workers=0)


def test_keys_follow_content_alone() -> None:
    assert fingerprint("a", 1) == fingerprint("a", 1) != fingerprint("a", 2)
    assert fingerprint(CleanConfig()) == fingerprint(CleanConfig())
    assert fingerprint(CleanConfig()) != fingerprint(CleanConfig(markup=False))


def test_a_changed_configuration_never_meets_an_old_file(
    tmp_path: Path,
    make_block: Callable[..., Any],
    make_config: Callable[..., DataConfig],
    machine: Machine,
) -> None:
    raw = make_block(["<b>a</b>"], ["b"])
    (one,) = clean(make_config(), [raw], tmp_path / "out", machine)
    (other,) = clean(make_config(clean=CleanConfig(markup=False)), [raw], tmp_path / "out", machine)
    assert read_columns(one.path)["source"].to_list() == ["a"]
    assert read_columns(other.path)["source"].to_list() == ["<b>a</b>"]


def test_a_missing_stage_is_named(make_block: Callable[..., Any], tmp_path: Path) -> None:
    block = make_block(["a"], ["b"])
    require([block], "clean")
    with pytest.raises(DataError, match=r"1 of 2 blocks of the stage 'filter'.*nllb data filter"):
        require([block, block.derive(tmp_path, "other")], "filter")


def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path,
    make_block: Callable[..., Any],
    make_config: Callable[..., DataConfig],
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pyarrow import parquet

    raw = make_block(["a"], ["b"])

    def full(table: Any, where: Any, **options: Any) -> None:
        Path(where).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", full)
    with pytest.raises(DataError, match="No space left on device"):
        clean(make_config(), [raw], tmp_path / "out", machine)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_damaged_block_is_named(make_block: Callable[..., Any]) -> None:
    block = make_block(["a"], ["b"])
    block.path.write_bytes(block.path.read_bytes()[:100])
    with pytest.raises(DataError, match="remove it and run again"):
        read_columns(block.path)


def test_all_faults_of_a_configuration_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        """
kind: data
corpora:
  - {name: "a b", format: tsv, path: "x.tsv"}
  - {name: one, format: moses, path: "{source}-{targt}"}
  - {name: one, format: jsonl, path: "{language}.jsonl"}
filter:
  thresholds: {max_lenght_ratio: 3}
prepare:
  phases: [{until_step: 5, min_pairs: 1}, {until_step: 3, min_pairs: 9}]
decontamination: []
"""
    )
    with pytest.raises(ConfigError) as caught:
        load_config(DataConfig, path)
    for part in (
        "'a b' becomes a folder",
        "name the pair with {source} and {target}",
        "unknown placeholder {targt}",
        "moses requires {language}",
        "did you mean max_length_ratio",
        "min_pairs grows from 1 to 9",
        "until_step must grow",
    ):
        assert part in str(caught.value), part


def test_a_run_without_a_shield_must_say_so(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    corpus = '{name: a, format: tsv, path: "{source}-{target}.tsv"}'
    path.write_text(f"kind: data\ncorpora: [{corpus}]\n")
    with pytest.raises(ConfigError, match="missing key decontamination"):
        load_config(DataConfig, path)
    path.write_text(f"kind: data\nshield: []\ncorpora: [{corpus}]\n")
    assert load_config(DataConfig, path).decontamination == ()


def test_names_and_thresholds_are_checked_across_sections(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        """
kind: data
decontamination: []
corpora:
  - {name: a, format: tsv, path: "{source}-{target}.tsv"}
  - {name: a, format: jsonl, path: "{language}.jsonl"}
monolingual:
  corpora: [{name: m, format: tsv, path: "{source}-{target}.tsv"}]
"""
    )
    with pytest.raises(ConfigError) as caught:
        load_config(DataConfig, path)
    for part in ("'a' is given twice", "a is monolingual (jsonl)", "m has format tsv"):
        assert part in str(caught.value), part
    corpus = CorpusConfig(name="m", format="lines", path="{language}.txt")
    assert list(corpus.cross_field_errors()) == []
