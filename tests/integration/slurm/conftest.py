"""A real Slurm of one node on loopback, without systemd: started for the tests, ended by pid."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
INSTALL = "apt-get install slurm-wlm munge (as root; Debian and Ubuntu)"


def why_not() -> str | None:
    """Say why Slurm cannot be tested here, or None."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"SLURM NOT TESTED: {', '.join(missing)} missing; {INSTALL}"
    if os.getuid() != 0:
        return "SLURM NOT TESTED: its daemons must be started as root"
    if not Path("/sys/fs/cgroup/memory").is_dir():
        return "SLURM NOT TESTED: Slurm 22.05 needs a mounted cgroup v1 hierarchy in /sys/fs/cgroup"
    return None


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class OneNode:
    """The daemons of the test cluster."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.conf = home / "slurm.conf"
        for folder in ("state", "spool"):
            (home / folder).mkdir(parents=True)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        control_port, node_port = free_ports(2)
        template = (Path(__file__).parent / "one_node.conf").read_text()
        self.conf.write_text(
            template.format(
                host=socket.gethostname().split(".")[0],
                home=home,
                user="root",
                control_port=control_port,
                node_port=node_port,
                cpus=os.cpu_count(),
                memory_mib=memory - 512,
            )
        )
        (home / "cgroup.conf").write_text(
            "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n"
        )
        key = home / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)

    def start(self) -> None:
        names = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid"}
        names |= {"seed-file": "munged.seed", "log-file": "munged.log"}
        flags = [f"--{name}={self.home / file}" for name, file in names.items()]
        subprocess.run(["munged", *flags, "--force"], check=True)
        self.start_controller()
        subprocess.run(["slurmd", "-f", self.conf], check=True)
        self.until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), "the node is idle")

    def start_controller(self) -> None:
        subprocess.run(["slurmctld", "-f", self.conf], check=True)

    def stop(self, *names: str) -> None:
        for name in names:
            path = self.home / f"{name}.pid"
            if not path.exists():
                continue
            pid = int(path.read_text())
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(pid, number)
                    self.until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), name, seconds=8)
                except ProcessLookupError:
                    break
                except AssertionError:
                    continue
                break

    def ask(self, *command: str) -> str:
        environment = os.environ | {"SLURM_CONF": str(self.conf)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        return done.stdout

    def until(self, true: Callable[[], bool], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def slurm_node(tmp_path_factory) -> Iterator[OneNode]:
    reason = why_not()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    node = OneNode(tmp_path_factory.mktemp("slurm"))
    try:
        node.start()
        yield node
    finally:
        node.stop("slurmd", "slurmctld", "munged")


@pytest.fixture
def on_slurm(slurm_node: OneNode, monkeypatch) -> OneNode:
    """Point Slurm's commands at the test cluster."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_node.conf))
    return slurm_node
