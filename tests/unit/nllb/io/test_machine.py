"""Memory and processors within the limits of a container."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from nllb.io import machine

GIB = 1 << 30


def make_group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "_free_memory", lambda: 64 * GIB)
    return tmp_path


def test_this_machine_has_memory_and_processors() -> None:
    assert machine.available_memory() > 10 << 20
    assert machine.usable_processors() >= 1


def test_without_limits_all_is_free(groups: Path) -> None:
    assert machine.available_memory() == 64 * GIB
    make_group(groups, {"memory.max": "max\n", "memory.current": f"{GIB}\n"})
    assert machine.available_memory() == 64 * GIB


def test_what_a_container_uses_is_not_free_but_its_cache_is(groups: Path) -> None:
    stat = f"anon {2 * GIB}\ninactive_file {GIB}\n"
    files = {"memory.max": f"{8 * GIB}", "memory.current": f"{3 * GIB}", "memory.stat": stat}
    make_group(groups, files)
    assert machine.available_memory() == 6 * GIB


def test_a_job_is_limited_by_the_groups_above_it(groups: Path) -> None:
    (groups / "own").write_text("0::/slurm/job_7/step_0\n")
    make_group(groups / "slurm/job_7", {"memory.max": f"{4 * GIB}", "memory.current": f"{GIB}"})
    make_group(groups / "slurm/job_7/step_0", {"memory.max": "max", "memory.current": "0"})
    assert machine.available_memory() == 3 * GIB


def test_the_first_version_of_control_groups(groups: Path) -> None:
    (groups / "own").write_text("5:cpu,cpuacct:/\n4:memory:/docker/a\n")
    files = {
        "memory.limit_in_bytes": f"{2 * GIB}",
        "memory.usage_in_bytes": f"{3 * GIB}",
        "memory.stat": f"total_inactive_file {GIB // 2}\n",
    }
    make_group(groups / "memory/docker/a", files)
    assert machine.available_memory() == 0


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_a_freed_block_is_used_again_without_page_faults() -> None:
    code = """
import resource, sys
import numpy
from nllb.io.machine import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = numpy.ones(25_000_000)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", code, how]))
        for how in ("kept", "returned")
    }
    assert faults["kept"] < faults["returned"] / 10
