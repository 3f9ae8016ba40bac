"""A home with nothing in it, and hub names that lead to a random twin on this machine."""

from collections.abc import Iterator
from pathlib import Path
from runpy import run_path

import pytest

HUB_NAMES = ("facebook/nllb-200-distilled-600M",)


@pytest.fixture(scope="session")
def hub_url(random_model_dir: Path) -> Iterator[str]:
    serve = run_path(str(Path(__file__).parents[1] / "hub_server.py"))["serve"]
    with serve(random_model_dir, HUB_NAMES) as hub:
        yield hub.url


@pytest.fixture
def documented_home(hub_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a user who has downloaded nothing yet."""
    home = str(tmp_path_factory.mktemp("home"))
    return {"HOME": home, "HF_HOME": home, "HF_ENDPOINT": hub_url, "HF_HUB_DISABLE_XET": "1"}
