"""The named architectures: their sizes, and their registration with fairseq2."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nllb.model.formats.weight_names import num_parameters
from nllb.training.architecture import ModelSection, architectures, family_of


@pytest.mark.parametrize(
    ("name", "billions"), [("600m", 0.615), ("1.3b", 1.37), ("3.3b", 3.34), ("moe-54b", 54.5)]
)
def test_published_sizes(name: str, billions: float) -> None:
    shape = ModelSection(architecture=name).resolve(vocabulary_size=256_206)
    assert num_parameters(shape) / 1e9 == pytest.approx(billions, rel=0.01)


def test_every_architecture_has_a_family() -> None:
    for name in architectures():
        is_sparse = ModelSection(architecture=name).resolve(vocabulary_size=9).num_experts > 0
        assert family_of(name) == ("nllb_moe" if is_sparse else "nllb_dense")


@pytest.mark.slow
def test_fairseq2_finds_the_families() -> None:
    pytest.importorskip("fairseq2")
    program = """
from importlib.metadata import entry_points
import nllb.training.fairseq2_loop
from fairseq2 import init_fairseq2
from fairseq2.gang import create_fake_gangs
from fairseq2.models import ModelFamily
from fairseq2.runtime.dependency import get_dependency_resolver
from nllb.training.fairseq2_families import register
import dataclasses, torch
# An editable install from before the entry point does not know of it.
installed = [point.name for point in entry_points(group="fairseq2.extension")]
init_fairseq2(extras=None if "nllb" in installed else register)
for family, name in (("nllb_dense", "tiny"), ("nllb_moe", "moe-tiny")):
    known = get_dependency_resolver().resolve(ModelFamily, key=family)
    config = known.maybe_get_arch_config(name)
    print(family, type(config).__name__, config.num_experts, config.vocabulary_size)
    small = dataclasses.replace(config, vocabulary_size=50)
    gangs = create_fake_gangs(torch.device("cpu"))
    model = known.create_new_model(small, gangs, torch.float32, False, False)
    print(type(model).__name__, model(torch.tensor([[5, 6]]), torch.tensor([[2]])).shape[-1])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"FAIRSEQ2_EXTENSION_TRACE": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nllb_dense DenseConfig 0 256206" in done.stdout
    assert "nllb_moe MoeConfig 4 256206" in done.stdout
    assert done.stdout.count("Transformer 50") == 2
    pyproject = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())
    (home,) = pyproject["project"]["entry-points"]["fairseq2.extension"].values()
    assert home == "nllb.training.fairseq2_families:register"
