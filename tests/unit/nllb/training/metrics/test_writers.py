"""Metrics writers: what each gets, resuming, and a package that is missing."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nllb.errors import ResourceError
from nllb.training.metrics.writers import open_writers, scalars

RECORD = {"loss": 2.5, "best": True, "loss_by_direction": {"a-b": 1.5, "name": "x"}, "note": "text"}
NUMBERS = {"valid/loss": 2.5, "valid/best": True, "valid/loss_by_direction/a-b": 1.5}


class FakeService:
    """Stands in for the packages wandb and mlflow."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.info = SimpleNamespace(run_id="run-7")

    def init(self, **settings: Any) -> "FakeService":
        self.calls.append(("init", settings))
        return self

    def start_run(self, **settings: Any) -> "FakeService":
        self.calls.append(("start_run", settings))
        return self

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.calls.append(("log", (step, values)))

    log_metrics = log

    def log_params(self, values: dict[str, str]) -> None:
        self.calls.append(("log_params", values))

    def finish(self) -> None:
        self.calls.append(("finish", None))

    end_run = finish

    def named(self, name: str) -> list[Any]:
        return [value for call, value in self.calls if call == name]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    fake = FakeService()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    return fake


def test_numbers_are_taken_from_a_record() -> None:
    assert scalars("valid", RECORD) == NUMBERS


def test_json_lines_are_complete_and_cut_when_a_run_resumes(tmp_path: Path) -> None:
    writers = open_writers([], tmp_path, settings={})
    for step in (10, 20, 30):
        writers.write("valid", step, RECORD)
    path = tmp_path / "metrics" / "valid.jsonl"
    with path.open("a") as file:
        file.write('{"step": 31, "lo')  # a kill cut this line short
    writers = open_writers([], tmp_path, from_step=20, settings={})
    writers.write("valid", 30, RECORD)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30] and lines[0] == {"step": 10, **RECORD}


def test_tensorboard_is_written_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    writers = open_writers(["tensorboard"], tmp_path, settings={})
    writers.write("valid", 10, RECORD)
    writers.close()
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_missing_tensorboard_is_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    open_writers(["tensorboard"], tmp_path, settings={}).write("valid", 10, RECORD)
    assert (tmp_path / "metrics" / "valid.jsonl").is_file()


def test_wandb_continues_the_run_of_a_folder(service: FakeService, tmp_path: Path) -> None:
    for step in (10, 20):
        writers = open_writers(["wandb"], tmp_path, from_step=step - 10, settings={"seed": 2})
        writers.write("valid", step, RECORD)
        writers.close()
    first, second = service.named("init")
    assert first["id"] == second["id"] and first["resume"] == "allow"
    assert first["config"] == {"seed": 2} and first["name"] == tmp_path.name
    assert service.named("log") == [(10, NUMBERS), (20, NUMBERS)]
    assert len(service.named("finish")) == 2


def test_mlflow_continues_the_run_of_a_folder(service: FakeService, tmp_path: Path) -> None:
    for step in (10, 20):
        writers = open_writers(["mlflow"], tmp_path, from_step=step - 10, settings={"seed": 2})
        writers.write("valid", step, RECORD)
        writers.close()
    assert [call["run_id"] for call in service.named("start_run")] == [None, "run-7"]
    assert service.named("log_params") == [{"seed": "2"}]
    assert service.named("log") == [(10, NUMBERS), (20, NUMBERS)]


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("mlflow", "mlflow-skinny")])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ResourceError, match=f"pip install {package}"):
        open_writers([name], tmp_path, settings={})
