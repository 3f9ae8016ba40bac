"""The whole way on a real Slurm, from one command: data arrays, training on two ranks, scores.

Cancelled in the middle and submitted again, it repeats nothing that was finished.
"""

from pathlib import Path

import pytest

from nllb.cli import main
from nllb.config import load_config
from nllb.io.text import read_json
from slurm.graph import PipelineConfig
from slurm.status import cancel_run, report, wait
from slurm.tasks import RunDirectory

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("slurm")]
LINES = 12
CLUSTER = "kind: slurm\ntime_min: 30\nsignal_delay_s: 30\n"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "two.yaml").write_text(CLUSTER + "tasks_per_node: 2\n")
    path = tmp_path / "one.yaml"
    path.write_text(CLUSTER)
    return path


@pytest.fixture
def few_lines(data_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "flores"
    folder.mkdir()
    for code in ("eng_Latn", "fra_Latn"):
        path = data_dir / "flores200_dataset" / "devtest" / f"{code}.devtest"
        lines = path.read_text(encoding="utf-8").split("\n")[:LINES]
        (folder / f"{code}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_from_corpora_to_the_report(
    on_slurm, cluster: Path, few_lines: Path, data_dir: Path
) -> None:
    command = ["run", "pipeline/full-tiny", "out", "--cluster", str(cluster), "--quiet"]
    command += [f"variables.data={data_dir}", f"variables.flores={few_lines}", "variables.steps=4"]
    assert main(command) == 0
    run = RunDirectory.open(Path("out"))
    plan = load_config(PipelineConfig, Path("out/pipeline.yaml"))
    assert len(run.tasks()) == sum(max(1, step.shards) for step in plan.steps)

    def completed() -> set[str]:
        return {row.key for row in report(run) if row.state == "COMPLETED"}

    on_slurm.until(lambda: "clean-1-of-2" in completed(), "some of it is done", seconds=400)
    cancel_run(run)
    before = completed()
    assert "report" not in before
    assert main(command) == 0
    for rows in wait(run):
        last = {row.key: row for row in rows}
    assert {row.state for row in last.values()} == {"COMPLETED"}, last
    assert {last[key].requeues for key in before} == {0}
    assert main(command) == 0
    assert not any(row.active for row in report(run))
    assert (run.path / "report.html").stat().st_size > 5_000
    scores = read_json(run.path / "report.json")
    assert "eng_Latn-fra_Latn" in str(scores)


def test_preempted_training_of_spread_experts_ends_bitwise_equal(
    on_slurm, cluster: Path, token_data: Path, tmp_path: Path
) -> None:
    """Two ranks, experts spread over them; SIGUSR2 in the middle; the same weights as without."""
    two = str(tmp_path / "two.yaml")
    values = [
        f"data={token_data}",
        "parallel.experts=true",
        "schedule.steps=150",
        "schedule.log_every=5",
    ]
    values += ["schedule.checkpoint_every=1000", "schedule.validate_every=1000", "reader.seed=5"]
    weights = {}
    for name in ("whole", "preempted"):
        train = ["nllb", "train", "moe-54b-tiny", str(tmp_path / name), *values, "--quiet"]
        begin = ["slurm", "submit", two, "--run-dir", f"{name}-run", "--name", "train", "--quiet"]
        assert main([*begin, "--", *train]) == 0
        run = RunDirectory.open(Path(f"{name}-run"))
        if name == "preempted":
            metrics = tmp_path / name / "metrics"
            on_slurm.until(lambda path=metrics: any(path.rglob("*")), "it trains", seconds=200)
            (job_id,) = run.job_ids().values()
            on_slurm.ask("scancel", "--signal=SIGUSR2", job_id)
        for rows in wait(run, poll_s=1.0):
            (row,) = rows
        assert row.state == "COMPLETED", Path(row.log).read_text()
        assert row.requeues == (name == "preempted")
        weights[name] = (tmp_path / name / "model" / "model.safetensors").read_bytes()
    assert weights["whole"] == weights["preempted"]
