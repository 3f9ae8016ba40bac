"""Tasks and outcomes as files."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nllb.errors import ConfigError, DataError
from slurm.tasks import Outcome, RunDirectory, Task, resolve_program, shard_tasks, write_outcome


def task(key: str = "work", **fields: object) -> Task:
    return Task(**{"key": key, "command": ("true",), "cwd": "/", **fields})  # type: ignore[arg-type]


def test_shards_are_numbered_from_one_and_sort_in_order(tmp_path: Path) -> None:
    tasks = shard_tasks(["do", "it"], name="stage", cwd=tmp_path, shards=12)
    assert [t.command[-1] for t in tasks] == [f"{i}/12" for i in range(1, 13)]
    assert [t.key for t in tasks] == sorted(t.key for t in tasks)
    (whole,) = shard_tasks(["do", "it"], name="stage", cwd=tmp_path, shards=0)
    assert whole.command == ("do", "it")


def test_nllb_is_the_one_of_this_environment() -> None:
    program = resolve_program(["nllb", "detect"])
    assert program[-1] == "detect" and program[0] != "nllb"
    assert resolve_program([sys.executable, "x"]) == (sys.executable, "x")


def test_a_changed_configuration_changes_the_fingerprint(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    prints = []
    for text in ("a: 1", "a: 2", "a: 1"):
        config.write_text(text)
        tasks = shard_tasks(["do", "run.yaml"], name="stage", cwd=tmp_path, shards=2)
        assert tasks[0].fingerprint != tasks[1].fingerprint
        prints.append(tasks[0].fingerprint)
    assert prints[0] == prints[2] != prints[1]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((), "waiting"),
        (("completed",), "waiting"),
        (("completed", "completed"), "completed"),
        (("completed", "failed"), "failed"),
        (("running", "completed"), "running"),
        (("preempted", "running"), "preempted"),
    ],
)
def test_a_task_is_done_when_every_rank_says_so(tmp_path: Path, states, expected) -> None:
    run, two = RunDirectory(tmp_path), task(num_ranks=2, fingerprint="now")
    run.add_tasks([two])
    for rank, state in enumerate(states):
        write_outcome(run.outcome_path(two, rank), Outcome(state=state, fingerprint="now"))
    assert run.state(two) == expected
    assert run.state(replace(two, fingerprint="later")) == "waiting"
    assert RunDirectory.open(tmp_path).tasks() == [two]


def test_a_known_key_is_replaced_and_a_double_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.add_tasks([task("a"), task("b")])
    run.add_tasks([task("a", command=("false",))])
    assert [t.command for t in run.tasks()] == [("false",), ("true",)]
    with pytest.raises(ConfigError, match="same key"):
        run.add_tasks([task("c"), task("c")])
    with pytest.raises(ConfigError, match="not a valid task name"):
        task("../escape")


def test_the_last_word_on_a_submission_counts(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.add_tasks([task()])
    run.record_submission(token="t1", keys=["work"], executor="slurm")
    assert run.job_ids() == {}
    run.record_submission(token="t1", job_ids=["7"])
    run.record_submission(token="t2", keys=["work"], job_ids=["9"], executor="slurm")
    run.record_submission(token="c", job_ids=[], cancelled=["7"])
    assert run.job_ids() == {"work": "9"}
    assert run.cancelled() == {"7"}


def test_a_folder_without_tasks_is_not_a_run_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run directory"):
        RunDirectory.open(tmp_path)
