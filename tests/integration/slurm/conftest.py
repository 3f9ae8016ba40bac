"""Real Slurm clusters on loopback, without systemd; the tests start and stop the daemons."""

import contextlib
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


class TestCluster:
    """A controller and one or more node daemons on this machine."""

    __test__ = False

    def __init__(self, home: Path, nodes: int = 1) -> None:
        self.home = home
        host = socket.gethostname().split(".")[0]
        self.names = [host] if nodes == 1 else [f"n{i}" for i in range(1, nodes + 1)]
        self.conf = home / "slurm.conf"
        for folder in ("state", "spool"):
            (home / folder).mkdir(parents=True)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        control_port, *node_ports = free_ports(1 + nodes)
        template = (Path(__file__).parent / "slurm.conf.in").read_text()
        lines = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={os.cpu_count()} RealMemory={(memory - 512) // nodes} State=UNKNOWN"
            for name, port in zip(self.names, node_ports, strict=True)
        ]
        self.conf.write_text(
            template.format(
                host=host,
                home=home,
                user="root",
                control_port=control_port,
                nodes="\n".join(lines),
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
        for name in self.names:
            self.start_node(name)
        self.until(lambda: self.idle_nodes() == len(self.names), "all nodes are idle")

    def start_node(self, name: str) -> None:
        subprocess.run(["slurmd", "-f", self.conf, "-N", name], check=True)

    def kill_node(self, name: str) -> None:
        """End a node daemon and everything that runs on the node, as a power failure would."""
        doomed = {int((self.home / f"slurmd-{name}.pid").read_text())}
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = environ.read_bytes().split(b"\0")
                status = environ.with_name("stat").read_text()
                parent = int(status.rpartition(")")[2].split()[1])
                parent_name = Path(f"/proc/{parent}/comm").read_text()
            except OSError:
                continue
            if f"SLURMD_NODENAME={name}".encode() in variables:
                doomed |= {int(environ.parent.name)}
                doomed |= {parent} if parent_name.startswith("slurmstepd") else set()
        # All stop before any ends; otherwise a job would see its command die and record a failure.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def idle_nodes(self) -> int:
        return self.ask("sinfo", "-h", "-N", "-o", "%T").split().count("idle")

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
def slurm_node(tmp_path_factory) -> Iterator[TestCluster]:
    reason = why_not()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    node = TestCluster(tmp_path_factory.mktemp("slurm"))
    try:
        node.start()
        yield node
    finally:
        node.stop(*(f"slurmd-{name}" for name in node.names), "slurmctld", "munged")


@pytest.fixture
def on_slurm(slurm_node: TestCluster, monkeypatch) -> TestCluster:
    """Point Slurm's commands at the test cluster."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_node.conf))
    return slurm_node


@pytest.fixture
def three_nodes(tmp_path: Path, monkeypatch) -> Iterator[TestCluster]:
    """Start a cluster of three nodes and point Slurm's commands at it."""
    reason = why_not()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    cluster = TestCluster(tmp_path / "cluster", nodes=3)
    try:
        cluster.start()
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
        yield cluster
    finally:
        cluster.stop(*(f"slurmd-{name}" for name in cluster.names), "slurmctld", "munged")
