"""Fixtures that tests of several packages share."""

import os
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data; the test skips where it is missing."""
    folder = Path(os.environ.get("NLLB_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}: set NLLB_TEST_DATA")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def tiny_model(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the small English-Italian model that `tiny_model.py` trains, once for all workers."""
    # Under xdist the parent of a worker's folder is the run's, otherwise the user's.
    cache_dir = tmp_path_factory.getbasetemp().parent
    return run_path(str(ROOT / "tests" / "tiny_model.py"))["tiny_model"](data_dir, cache_dir)
