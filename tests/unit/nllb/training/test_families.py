"""Our architectures: their sizes, and what fairseq2 knows of them."""

import subprocess
import sys

import pytest

from nllb.model.weight_names import num_parameters
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
import soundfile, fairseq2.recipe, torch
from fairseq2 import init_fairseq2
from fairseq2.models.family import get_model_family
from fairseq2.runtime.dependency import DependencyContainer
from nllb.training.fairseq2_families import register
init_fairseq2()
from fairseq2.runtime.dependency import get_dependency_resolver
from fairseq2.models import ModelFamily
resolver = get_dependency_resolver()
for family, arch in (("nllb_dense", "tiny"), ("nllb_moe", "moe-tiny")):
    known = resolver.resolve(ModelFamily, key=family)
    config = known.get_arch_config(arch)
    print(family, type(config).__name__, config.num_experts, config.vocabulary_size)
    assert "600m" in known.get_archs() or family == "nllb_moe"
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
