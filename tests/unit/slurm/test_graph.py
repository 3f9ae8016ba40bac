"""Graphs of commands on this machine: order, resume, failures, and the same files as on Slurm."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nllb.cli import main
from nllb.config import load_config
from nllb.errors import ConfigError, DataError, NllbError
from slurm.graph import PipelineConfig, Step
from slurm.run_graph import run_pipeline
from slurm.tasks import RunDirectory

LOG = "import sys; open('log.txt', 'a').write(' '.join(sys.argv[1:]) + '\\n')"


def python(code: str, *words: str) -> str:
    return " ".join([sys.executable, "-c", f'"{code}"', *words])


def pipeline(*steps: Step) -> PipelineConfig:
    return PipelineConfig(kind="pipeline", steps=steps)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_steps_run_in_their_order_and_only_once() -> None:
    log = LOG.replace("'\\n'", "chr(10)")
    graph = pipeline(
        Step(name="end", command=python(log, "end", "{out}"), needs=("parts",)),
        Step(name="parts", command=python(log, "part"), shards=3, needs=("begin",)),
        Step(name="begin", command=python(log, "begin")),
    )
    assert len(run_pipeline(graph, Path("out"))) == 5
    lines = Path("log.txt").read_text().splitlines()
    assert lines[0] == "begin" and lines[-1] == f"end {Path('out').resolve()}"
    assert sorted(lines[1:4]) == [f"part --shard {i}/3" for i in (1, 2, 3)]
    assert run_pipeline(graph, Path("out")) == []


def test_a_failure_is_named_others_finish_and_a_second_start_mends() -> None:
    fails = "import os, sys; print('no luck'); sys.exit(0 if os.path.exists('fixed') else 5)"
    log = LOG.replace("'\\n'", "chr(10)")
    graph = pipeline(
        Step(name="bad", command=python(fails)),
        Step(name="after", command=python(log, "after"), needs=("bad",)),
        Step(name="free", command=python(log, "free")),
    )
    messages: list[str] = []
    with pytest.raises(DataError, match=r"bad: .*(exit code 5|no luck)"):
        run_pipeline(graph, Path("out"), say=messages.append)
    assert Path("log.txt").read_text() == "free\n"
    assert "after: not started because bad failed" in messages
    Path("fixed").touch()
    assert [task.key for task in run_pipeline(graph, Path("out"))] == ["bad", "after"]
    assert Path("log.txt").read_text() == "free\nafter\n"


def test_a_killed_run_repeats_nothing_that_was_finished() -> None:
    log = LOG.replace("'\\n'", "chr(10)")
    slow = log + "; import os, time; time.sleep(0 if os.path.exists('fast') else 60)"
    Path("graph.yaml").write_text(
        json.dumps(
            {
                "kind": "pipeline",
                "steps": [
                    {"name": "first", "command": python(log, "first")},
                    {"name": "slow", "command": python(slow, "slow"), "needs": ["first"]},
                ],
            }
        )
    )
    command = [sys.executable, "-m", "nllb", "run", "graph.yaml", "out"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as started:
        deadline = time.monotonic() + 60
        while "slow" not in (Path("log.txt").read_text() if Path("log.txt").exists() else ""):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(started.pid, signal.SIGINT)
        assert started.wait(30) == 130
    Path("fast").touch()
    assert main(["run", "graph.yaml", "out", "--quiet"]) == 0
    assert Path("log.txt").read_text().splitlines() == ["first", "slow", "slow"]
    run = RunDirectory.open(Path("out"))
    assert {run.state(task) for task in run.tasks()} == {"completed"}


def test_all_errors_of_a_graph_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(
        "kind: pipeline\n"
        "steps:\n"
        "- {name: one, command: a, needs: [tow]}\n"
        "- {name: two, command: b, needs: [three]}\n"
        "- {name: three, command: c, needs: [two]}\n"
        "- {name: three, command: d}\n"
    )
    with pytest.raises(ConfigError) as error:
        load_config(PipelineConfig, path)
    for words in ("needs 'tow'; did you mean two?", "two steps are named 'three'"):
        assert words in str(error.value)
    path.write_text("kind: pipeline\nsteps: [{name: a, command: x, shards: -1}]\n")
    with pytest.raises(ConfigError, match=r"steps\[0\]\.shards must be at least 0, got -1"):
        load_config(PipelineConfig, path)
    path.write_text(
        "kind: pipeline\nsteps:\n- {name: a, command: x, needs: [b]}\n"
        "- {name: b, command: y, needs: [a]}\n"
    )
    with pytest.raises(ConfigError, match=r"in a cycle: (a -> b -> a|b -> a -> b)"):
        load_config(PipelineConfig, path)
    with pytest.raises(ConfigError, match="known: out"):
        run_pipeline(pipeline(Step(name="a", command="x {nowhere}")), Path("out"))


# submitit leaves the processes of local jobs to themselves.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_local_jobs_have_the_same_verbs(capsys, tmp_path: Path) -> None:
    """`slurm submit local`, its status, logs and retry, without Slurm on the machine."""
    fails = "sys.argv[-1] == '2/3' and not os.path.exists('fixed')"
    code = f"import os, sys; print('shard', sys.argv[-1]); sys.exit({fails})"
    submit = ["slurm", "submit", "local", "--run-dir", "jobs", "--shards", "3", "--name", "work"]
    assert main([*submit, "--", sys.executable, "-c", code]) == 0
    assert "submitted 3 tasks" in capsys.readouterr().out
    assert main(["slurm", "wait", "jobs", "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["state"] for row in rows] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert main(["slurm", "logs", "jobs", "--task", "work-2-of-3"]) == 0
    assert "shard 2/3" in capsys.readouterr().out
    Path("fixed").touch()
    assert main(["slurm", "retry", "jobs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["submitted"] == ["work-2-of-3"]
    assert main(["slurm", "wait", "jobs"]) == 0
    assert main(["slurm", "cancel", "jobs"]) == 0
    assert "no job is waiting or running" in capsys.readouterr().out


def test_a_dry_run_of_a_graph_finds_what_the_run_would(tmp_path: Path, capsys) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text("kind: pipeline\nsteps:\n- {name: a, command: 'echo {nowhere} {out}'}\n")
    words = ["run", str(path), str(tmp_path / "out"), "--dry-run"]
    assert main(words) == 2
    assert "known: out" in capsys.readouterr().err
    assert main([*words, "variables.nowhere=two words"]) == 0
    assert capsys.readouterr().out == f"echo 'two words' {tmp_path / 'out'}\n"
    assert main([*words, "--cluster", "nocluster"]) == main([*words, "--workers", "0"]) == 2


def test_dry_run_needs_no_slurm(capsys, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    command = [
        "slurm",
        "submit",
        "gpu-node",
        "--dry-run",
        "--shards",
        "40",
        "--",
        "work",
        "on",
    ]
    assert main(command) == 0
    script = capsys.readouterr().out
    for line in (
        "#SBATCH --array=0-39%40",
        "#SBATCH --gpus-per-node=8",
        "#SBATCH --ntasks-per-node=8",
        "#SBATCH --mem=409600M",
        "#SBATCH --signal=USR2@300",
        "#SBATCH --requeue",
        "# 40 tasks, at most 7,680.0 GPU-hours",
        "work on --shard 1/40",
    ):
        assert line in script, line
    assert not Path("runs").exists()
    assert main([*command[:3], "--", "work"]) == 1
    assert "Slurm is not available on this machine" in capsys.readouterr().err


def test_a_command_with_bad_usage_is_refused_before_it_is_submitted(capsys) -> None:
    command = ["slurm", "submit", "local", "--", "nllb", "langauges"]
    assert main(command) == 2
    assert "did you mean languages" in capsys.readouterr().err
    assert main([*command[:-1], "languages", "--shards", "x"]) == 2
    assert "unrecognized arguments" in capsys.readouterr().err
    assert main([*command[:-1], "config", "check", "nowhere"]) == 2
    assert "neither a file nor a shipped name" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("place", ["{out:>999999999}", "{out.__class__}", "{missing}", "{"])
def test_commands_have_places_and_no_formats(place: str) -> None:
    with pytest.raises(ConfigError, match=r"step a: .* is not a command line"):
        run_pipeline(pipeline(Step(name="a", command=f"echo {place}")), Path("run"))


@pytest.mark.parametrize(
    "line",
    ["[]", '{"key": "a"}', '{"key": "../x", "command": ["x"], "cwd": "/"}',
     '{"key": "a", "command": ["x"], "cwd": "/", "num_ranks": 1000000000000}', "[" * 100_000],
)  # fmt: skip
def test_damaged_run_folders_are_refused(line: str) -> None:
    run = RunDirectory(Path("run"))
    run.add_tasks([])
    (run.path / "tasks.jsonl").write_text(line + "\n")
    with pytest.raises(NllbError):
        run.tasks()
