"""Jobs on a real Slurm: arrays, dependencies, failures, signals, requeues, and a restart."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nllb.cli import main
from nllb.errors import ConfigError, ResourceError
from slurm import controller
from slurm.cluster import ClusterConfig
from slurm.graph import PipelineConfig, Step
from slurm.limits import check_request
from slurm.run_graph import run_pipeline
from slurm.status import cancel_run, report, wait
from slurm.submission import cancel_unrecorded, submit
from slurm.tasks import RunDirectory, Task, shard_tasks

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]
CLUSTER = ClusterConfig(time_min=10, signal_delay_s=30)
APPEND = "import sys, time; open(sys.argv[1], 'a').write(sys.argv[-1] + '\\n')"


def python_tasks(code: str, *arguments: object, cwd: Path, name: str = "work", shards: int = 0):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return shard_tasks(command, name=name, cwd=cwd, shards=shards)


def finish(run: RunDirectory) -> dict[str, str]:
    for rows in wait(run, poll_s=1.0):
        last = rows
    return {row.key: row.state for row in last}


def start(tmp_path: Path, tasks: list[Task], cluster: ClusterConfig = CLUSTER, **options):
    run = RunDirectory(tmp_path / "run")
    run.add_tasks(tasks)
    return run, submit(run, tasks, cluster, name="test", **options)


def test_one_job_runs_and_is_followed(on_slurm, tmp_path: Path, capsys) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("kind: slurm\ntime_min: 5\nsignal_delay_s: 30\n")
    command = [sys.executable, "-c", "print('from the node')"]
    run_dir = tmp_path / "run"
    begin = ["slurm", "submit", str(cluster), "--run-dir", str(run_dir), "--", *command]
    assert main(begin) == 0
    assert str(run_dir) in capsys.readouterr().out
    assert main(["slurm", "wait", str(run_dir), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["state"], row["exit_code"], row["requeues"]) == ("COMPLETED", 0, 0)
    assert main(["slurm", "logs", str(run_dir)]) == 0
    assert "from the node" in capsys.readouterr().out
    assert main(begin) == 0
    assert "submitted 0 tasks" in capsys.readouterr().out


def test_an_array_runs_every_shard_and_names_the_one_that_fails(on_slurm, tmp_path: Path) -> None:
    code = "import sys; print(sys.argv[-1]); sys.exit(3 if sys.argv[-1] == '2/5' else 0)"
    run, job_ids = start(tmp_path, python_tasks(code, cwd=tmp_path, shards=5))
    assert len({job_id.split("_")[0] for job_id in job_ids}) == 1
    states = finish(run)
    assert states.pop("work-2-of-5") == "FAILED"
    assert set(states.values()) == {"COMPLETED"}
    failed = next(row for row in report(run) if row.state == "FAILED")
    assert failed.exit_code == 3
    assert "2/5" in Path(failed.log).read_text()


def test_a_graph_waits_for_what_it_needs_and_resumes(on_slurm, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    append = f'{sys.executable} -c "{APPEND}" done.txt'
    pipeline = PipelineConfig(
        kind="pipeline",
        steps=(
            Step(name="last", command=f"{append} last", needs=("many",)),
            Step(name="many", command=append, shards=3, needs=("first",)),
            Step(name="first", command=f"{append} first"),
        ),
    )
    said: list[str] = []
    started = run_pipeline(pipeline, Path("out"), cluster=CLUSTER, say=said.append)
    assert [task.key for task in started] == [
        "first",
        *(f"many-{i}-of-3" for i in (1, 2, 3)),
        "last",
    ]
    # A second start while the first still runs submits nothing twice.
    assert run_pipeline(pipeline, Path("out"), cluster=CLUSTER, say=said.append) == []
    run = RunDirectory(Path("out"))
    assert set(finish(run).values()) == {"COMPLETED"}
    lines = Path("done.txt").read_text().splitlines()
    assert lines[0] == "first" and lines[-1] == "last"
    assert sorted(lines[1:4]) == ["1/3", "2/3", "3/3"]
    assert run_pipeline(pipeline, Path("out"), cluster=CLUSTER, say=said.append) == []
    assert len(Path("done.txt").read_text().splitlines()) == 5


def test_a_failed_step_never_starts_what_needs_it(on_slurm, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = (
        Step(name="bad", command=f'{sys.executable} -c "import sys; sys.exit(4)"'),
        Step(name="after", command=f'{sys.executable} -c "{APPEND}" done.txt x', needs=("bad",)),
    )
    run_pipeline(PipelineConfig(kind="pipeline", steps=steps), Path("out"), cluster=CLUSTER)
    states = finish(RunDirectory(Path("out")))
    assert states["bad"] == "FAILED"
    assert states["after"] in {"CANCELLED", "LOST"}
    assert not Path("done.txt").exists()


RESUMES = """
import pathlib, signal, sys, time
state = pathlib.Path(sys.argv[1])
stop = []
signal.signal(signal.SIGUSR2, lambda *_: stop.append(1))
step = int(state.read_text()) if state.exists() else 0
print("starts at", step, flush=True)
while step < 60 and not stop:
    step += 1
    time.sleep(0.1)
state.write_text(str(step))
print("stops at", step, flush=True)
"""


def test_preemption_stops_requeues_and_resumes_without_loss(on_slurm, tmp_path: Path) -> None:
    run, (job_id,) = start(tmp_path, python_tasks(RESUMES, tmp_path / "state", cwd=tmp_path))
    log = run.logs / f"{job_id}_0_log.out"
    on_slurm.until(lambda: log.exists() and "starts at 0" in log.read_text(), "the job works")
    preempted = time.monotonic()
    subprocess.run(["scancel", "--signal=SIGUSR2", job_id], check=True)
    on_slurm.until(lambda: log.read_text().count("starts at") == 2, "the job is back", seconds=60)
    assert time.monotonic() - preempted < 20
    assert finish(run) == {"work": "COMPLETED"}
    (row,) = report(run)
    assert row.requeues == 1
    words = [line.split() for line in log.read_text().splitlines() if line.startswith("st")]
    assert [word for word, _, _ in words] == ["starts", "stops", "starts", "stops"]
    assert words[1][2] == words[2][2] and words[3][2] == "60"


def test_a_job_that_reaches_its_time_limit_goes_on_in_the_next(on_slurm, tmp_path: Path) -> None:
    """The signal comes before the limit of a minute; the work takes longer than that."""
    code = RESUMES.replace("step < 60", "step < 450")
    cluster = ClusterConfig(time_min=1, signal_delay_s=35)
    run, (job_id,) = start(tmp_path, python_tasks(code, tmp_path / "state", cwd=tmp_path), cluster)
    assert finish(run) == {"work": "COMPLETED"}
    assert report(run)[0].requeues >= 1
    log = (run.logs / f"{job_id}_0_log.out").read_text()
    words = [line.split() for line in log.splitlines() if line.startswith("st")]
    steps = [int(last) for _, _, last in words]
    assert steps[0] == 0 and steps[-1] == 450
    assert steps[1:-1:2] == steps[2::2]


def test_a_command_deaf_to_the_signal_starts_anew(on_slurm, tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; p = pathlib.Path(sys.argv[1]);"
        "first = not p.exists(); p.write_text('seen'); print('here', flush=True);"
        "time.sleep(300 if first else 0)"
    )
    run, (job_id,) = start(tmp_path, python_tasks(code, tmp_path / "mark", cwd=tmp_path))
    on_slurm.until((tmp_path / "mark").exists, "the job works")
    subprocess.run(["scancel", "--signal=SIGUSR2", job_id], check=True)
    assert finish(run) == {"work": "COMPLETED"}
    assert report(run)[0].requeues == 1


def test_two_ranks_find_each_other(on_slurm, tmp_path: Path) -> None:
    code = (
        "import os, torch, torch.distributed as d; d.init_process_group('gloo');"
        "x = torch.ones(1) * (d.get_rank() + 1); d.all_reduce(x);"
        "print('sum', x.item(), 'rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE']);"
        "d.destroy_process_group()"
    )
    cluster = ClusterConfig(time_min=10, tasks_per_node=2, signal_delay_s=30)
    command = [sys.executable, "-c", code]
    tasks = shard_tasks(command, name="work", cwd=tmp_path, shards=0, num_ranks=2)
    run, (job_id,) = start(tmp_path, tasks, cluster)
    assert finish(run) == {"work": "COMPLETED"}
    for rank in range(2):
        text = (run.logs / f"{job_id}_{rank}_log.out").read_text()
        assert f"sum 3.0 rank {rank} of 2" in text


def test_cancel_ends_what_runs_and_what_waits(on_slurm, tmp_path: Path) -> None:
    tasks = python_tasks(
        "import time; print('up', flush=True); time.sleep(300)", cwd=tmp_path, shards=12
    )
    run, _ = start(tmp_path, tasks)
    on_slurm.until(lambda: any(row.state == "RUNNING" for row in report(run)), "one runs")
    assert cancel_run(run)
    states = finish(run)
    assert set(states.values()) <= {"CANCELLED", "FAILED"} and len(states) == 12


def test_sbatchs_refusal_is_shown_whole(on_slurm, tmp_path: Path) -> None:
    tasks = python_tasks("pass", cwd=tmp_path)
    wrong = ClusterConfig(partition="nowhere", time_min=10)
    with pytest.raises(ResourceError, match="invalid partition"):
        start(tmp_path, tasks, wrong)
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"no partition .nowhere..*debug"):
        check_request(wrong, run)
    with pytest.raises(ConfigError, match="2000 is over the 1440 minutes"):
        check_request(ClusterConfig(time_min=2000), run)
    with pytest.raises(ConfigError, match="9 nodes are asked for"):
        check_request(ClusterConfig(nodes=9), run)
    # Nothing is left that a later start could take for submitted.
    assert [row.state for row in report(run)] == ["WAITING"]


def test_a_restart_of_the_controller_loses_and_doubles_nothing(on_slurm, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n#SBATCH --comment=token-42 --output=/dev/null\ntrue\n")
    on_slurm.stop("slurmctld")
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "slurm.sbatch_proxy",
            "token-42",
            shutil.which("sbatch"),
            str(tmp_path / "refusal"),
            str(script),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        assert "does not answer; waiting for it" in waiting.stderr.readline()
        on_slurm.start_controller()
        out, _ = waiting.communicate(timeout=90)
    assert out.startswith("Submitted batch job ")
    ids = on_slurm.ask("squeue", "--noheader", "--states=all", "--format=%F %k").splitlines()
    assert [line.split()[1] for line in ids].count("token-42") == 1


def test_a_submission_cut_in_the_middle_is_cleared(on_slurm, tmp_path: Path) -> None:
    """A job whose id was never written down is cancelled, not adopted and not doubled."""
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n#SBATCH --comment=token-43 --hold --output=/dev/null\ntrue\n")
    run = RunDirectory(tmp_path / "run")
    run.add_tasks([Task(key="work", command=("true",), cwd=str(tmp_path))])
    run.record_submission(token="token-43", name="work", keys=["work"], executor="slurm")
    controller.submit_once("token-43", str(script))
    cancel_unrecorded(run)
    assert "CANCELLED" in on_slurm.ask("squeue", "--noheader", "--states=all", "--format=%T %k")
    assert [row.state for row in report(run)] == ["WAITING"]


def test_a_thousand_tasks_ask_the_controller_seldom(on_slurm, tmp_path: Path, monkeypatch) -> None:
    tasks = python_tasks("pass", cwd=tmp_path, shards=1000)
    held = ClusterConfig(time_min=10, extra={"hold": True}, array_parallelism=1)
    began = time.monotonic()
    run, job_ids = start(tmp_path, tasks, held)
    assert len(job_ids) == 1000
    assert (time.monotonic() - began) / 1000 < 0.2
    calls = []
    ask = controller.ask
    monkeypatch.setattr(controller, "ask", lambda command: calls.append(command) or ask(command))
    rows = report(run)
    assert len(calls) == 1
    assert {row.state for row in rows} == {"PENDING"}
    cancel_run(run)


def test_retry_keeps_the_order_of_the_graph(on_slurm, tmp_path: Path, monkeypatch) -> None:
    """`score` reads what `train` writes, so it must wait for the second attempt of `train`."""
    monkeypatch.chdir(tmp_path)
    train = "sh -c 'test -f {out}/ok && sleep 3 && echo model > {out}/model'"
    steps = (
        Step(name="train", command=train),
        Step(name="score", command="sh -c 'cat {out}/model'", needs=("train",)),
        Step(name="tidy", command="true", needs=("train",), after_failure=True),
    )
    pipeline = PipelineConfig(kind="pipeline", steps=steps)
    run_pipeline(pipeline, Path("out"), cluster=CLUSTER, say=str)
    run = RunDirectory(Path("out"))
    states = finish(run)
    assert states.pop("tidy") == "COMPLETED" and "COMPLETED" not in states.values()
    train_row = next(row for row in report(run) if row.key == "train")
    assert "exit code 1" in train_row.reason
    Path("out/ok").touch()
    assert main(["slurm", "retry", "out", "--json"]) == 0
    assert finish(run) == {"train": "COMPLETED", "score": "COMPLETED", "tidy": "COMPLETED"}


def test_a_job_runs_although_the_shell_exports_nothing(
    on_slurm, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    monkeypatch.setenv("SLURM_EXPORT_ENV", "NONE")
    run, _ = start(tmp_path, python_tasks("print('hi')", cwd=tmp_path))
    assert finish(run) == {"work": "COMPLETED"}
