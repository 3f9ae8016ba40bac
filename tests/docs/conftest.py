"""A home in which the hub names of the documents lead to a random twin, without a network."""

import shutil
from pathlib import Path

import pytest

HUB_NAMES = ("facebook/nllb-200-distilled-600M",)
REVISION = "0" * 40


@pytest.fixture(scope="session")
def documented_home(random_model_dir: Path, tmp_path_factory) -> dict[str, str]:
    """Return the environment of a user who has downloaded the documented models."""
    home = tmp_path_factory.mktemp("home")
    cache = home / "hub"
    for name in HUB_NAMES:
        folder = cache / f"models--{name.replace('/', '--')}"
        shutil.copytree(random_model_dir, folder / "snapshots" / REVISION)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(REVISION)
    return {
        "HOME": str(home),
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
    }
