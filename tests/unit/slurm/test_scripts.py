"""The sbatch script: nothing that a user writes can become shell code or change our own options."""

import os
import subprocess
from pathlib import Path

import pytest

from nllb.config import load_config
from nllb.errors import ConfigError, NllbError
from slurm import controller, limits
from slurm.cluster import ClusterConfig
from slurm.graph import PipelineConfig, Step
from slurm.job import CommandFailed
from slurm.limits import check_request
from slurm.run_graph import run_pipeline
from slurm.scripts import RESERVED_OPTIONS, sbatch_script
from slurm.tasks import RunDirectory, shard_tasks

INJECTION = "x\ntouch owned"


def script(tmp_path: Path, *, name: str = "work", folder: str = "run", **fields: object) -> str:
    cluster = ClusterConfig(**fields)  # type: ignore[arg-type]
    tasks = shard_tasks(
        ["echo", "hi"], name="work", cwd=tmp_path, shards=0, container=cluster.container_words
    )
    return sbatch_script(RunDirectory(tmp_path / folder), tasks, cluster, name=name)


@pytest.mark.parametrize("separator", ["\n", "\r", "\0", "\x0b", "\x85", "\u2028"])
@pytest.mark.parametrize("field", ["partition", "account", "qos", "constraint", "exclude"])
def test_a_line_break_in_a_value_is_refused(tmp_path: Path, field: str, separator: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} contains the control character"):
        script(tmp_path, **{field: f"x{separator}touch owned"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": INJECTION},
        {"folder": INJECTION},
        {"mail_user": INJECTION},
        {"extra": {"nice": INJECTION}},
        {"extra": {INJECTION: "1"}},
        {"extra": {"--nice": "1"}},
        *({"extra": {option: "x"}} for option in sorted(RESERVED_OPTIONS)),
    ],
)
def test_every_other_way_into_the_script_is_checked(tmp_path: Path, arguments: dict) -> None:
    with pytest.raises(ConfigError):
        script(tmp_path, **arguments)


def test_shell_characters_in_values_stay_text(tmp_path: Path) -> None:
    text = script(tmp_path, account="$(touch owned)", constraint="a&b|c;'d", extra={"nice": "`x`"})
    for value in ("'$(touch owned)'", "a&b|c;", "'`x`'"):
        assert value in text
    checked = subprocess.run(
        ["bash", "-n"], input=text, text=True, capture_output=True, check=False, cwd=tmp_path
    )
    assert checked.returncode == 0, checked.stderr
    assert not (tmp_path / "owned").exists()


def test_percent_in_the_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contains '%'"):
        script(tmp_path, folder="10%train")


def test_container_mail_and_environment_reach_the_script(tmp_path: Path) -> None:
    cluster = ClusterConfig(container="x y.sif", gpus_per_node=1, mail_user="me@example.org")
    (task,) = shard_tasks(
        ["nllb", "train"],
        name="work",
        cwd=tmp_path,
        shards=0,
        container=cluster.container_words,
    )
    assert task.command == ("apptainer", "exec", "--nv", "x y.sif", "nllb", "train")
    text = script(tmp_path, mail_user="me@example.org")
    assert "--mail-user=me@example.org" in text and "--mail-type=END,FAIL" in text
    assert "export SLURM_EXPORT_ENV=ALL" in text
    assert str(tmp_path / "run" / "logs") in text


@pytest.mark.parametrize(
    ("written", "minutes"), [("90", 90), ("1-00:00:00", 1440), ("02:30:00", 150), ("0:00:30", 1)]
)
def test_a_time_limit_can_be_written_as_slurm_does(
    tmp_path: Path, written: str, minutes: int
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"kind: slurm\ntime_min: {written}\nsignal_delay_s: 20\n")
    assert load_config(ClusterConfig, path).time_min == minutes
    path.write_text("kind: slurm\ntime_min: 1-day\n")
    with pytest.raises(ConfigError, match="time_min"):
        load_config(ClusterConfig, path)


@pytest.fixture
def two_partitions(monkeypatch, tmp_path: Path) -> RunDirectory:
    """Pretend to be on a cluster with a small and a large partition."""
    answers = {
        "scontrol": "PartitionName=debug Default=YES TotalNodes=1 MaxTime=01:00:00\n"
        "PartitionName=large TotalNodes=9 MaxTime=2-00:00:00\n",
        "debug": "4|16000\n",
        "large": "64+|512000+\n",
    }

    def query(command: list[str]) -> str:
        if command[0] == "scontrol":
            return answers["scontrol"]
        return answers[command[3].partition("=")[2]]

    monkeypatch.setattr(controller, "query", query)
    monkeypatch.setattr(limits, "find_sbatch", lambda: "sbatch")
    monkeypatch.setattr(limits, "uncommitted_code", list)
    monkeypatch.setattr(limits, "LOCAL_FOLDERS", ())
    return RunDirectory(tmp_path / "run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cpus_per_task": 64}, "64 processors per node .* largest node of partition debug has 4"),
        ({"memory_gib": 900.0}, "memory_gib 900 is more than the 15.6 GiB"),
        ({"partition": "debgu"}, "no partition 'debgu'; did you mean debug"),
        ({"partition": "debug,other"}, "no partition 'other'"),
        ({"nodes": 20, "partition": "debug,large"}, "20 nodes .* debug has 1; 20 nodes .*large"),
        ({"time_min": 90}, "time_min 90 is over the 60 minutes of partition debug"),
    ],
)
def test_a_request_beyond_the_partition_is_refused(
    two_partitions: RunDirectory, fields: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_request(ClusterConfig(**fields), two_partitions)


def test_one_fitting_partition_of_a_list_is_enough(two_partitions: RunDirectory) -> None:
    cluster = ClusterConfig(partition="debug,large", cpus_per_task=32)
    (warning,) = check_request(cluster, two_partitions)
    assert "can only start in another partition" in warning


def test_a_failed_command_is_an_error_of_the_project() -> None:
    assert issubclass(CommandFailed, NllbError)


def test_a_step_after_failure_runs_all_the_same(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = (
        Step(name="bad", command="false"),
        Step(name="report", command="touch reported", needs=("bad",), after_failure=True),
        Step(name="next", command="touch next", needs=("bad",)),
    )
    with pytest.raises(NllbError, match="1 tasks failed"):
        run_pipeline(PipelineConfig(kind="pipeline", steps=steps), Path("out"), say=str)
    assert os.path.exists("reported") and not os.path.exists("next")
