"""Checks of a request against the machine and the cluster before anything is submitted."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from nllb.errors import ConfigError, ResourceError, did_you_mean

from . import controller
from .cluster import ClusterConfig
from .scripts import find_sbatch, validate_request
from .tasks import RunDirectory

LOCAL_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def check_request(cluster: ClusterConfig, run: RunDirectory, *, name: str = "run") -> list[str]:
    """Check a request and return warnings.

    Raises:
        ResourceError: Slurm is not available, its controller does not answer, or the run directory
            cannot be written.
        ConfigError: a value is not allowed in a script, the partition does not exist, or none of
            the named partitions allows what is requested.
    """
    validate_request(run, cluster, name=name)
    _check_writable(run)
    warnings = uncommitted_code()
    if cluster.executor != "slurm":
        return warnings
    find_sbatch()
    if str(run.path).startswith(LOCAL_FOLDERS):
        warnings.append(
            f"{run.path} is usually local to one machine, but all nodes must be able to read it"
        )
    partitions = _chosen_partitions(cluster, controller.partitions())
    problems = [_partition_problem(cluster, partition) for partition in partitions]
    if all(problems):
        raise ConfigError("; ".join(filter(None, problems)))
    return warnings + [
        f"{problem}; the job can only start in another partition" for problem in problems if problem
    ]


def _chosen_partitions(
    cluster: ClusterConfig, known: Mapping[str, Mapping[str, str]]
) -> list[Mapping[str, str]]:
    valid = ", ".join(known) or "none"
    if cluster.partition is None:
        default = [values for values in known.values() if values.get("Default") == "YES"]
        if not default:
            raise ConfigError(
                f"the cluster has no default partition; set `partition:`; valid: {valid}"
            )
        return default
    names = [name.strip() for name in cluster.partition.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"no partition {name!r}{did_you_mean(name, known) or ';'} valid: {valid}"
            )
    return [known[name] for name in names]


def _partition_problem(cluster: ClusterConfig, partition: Mapping[str, str]) -> str | None:
    """Return why a partition cannot run the request, or None."""
    name = partition["PartitionName"]
    nodes = partition.get("TotalNodes", "")
    if nodes.isdigit() and cluster.nodes > int(nodes):
        return f"{cluster.nodes} nodes are asked for, but partition {name} has {nodes}"
    limit = parse_minutes(partition.get("MaxTime", "UNLIMITED"))
    if limit is not None and cluster.time_min > limit:
        return f"time_min {cluster.time_min} is over the {limit} minutes of partition {name}"
    shapes = controller.node_shapes(name)
    cpus = cluster.cpus_per_task * cluster.tasks_per_node
    largest = max((shape.cpus for shape in shapes), default=cpus)
    if cpus > largest:
        return (
            f"{cpus} processors per node are asked for (cpus_per_task x tasks_per_node), but the "
            f"largest node of partition {name} has {largest}"
        )
    memory = max((shape.memory_mib for shape in shapes), default=0)
    if cluster.memory_gib is not None and 0 < memory < cluster.memory_gib * 1024:
        return (
            f"memory_gib {cluster.memory_gib:g} is more than the {memory / 1024:.1f} GiB of the "
            f"largest node of partition {name}"
        )
    return None


def uncommitted_code() -> list[str]:
    """Return a warning if the program runs from a checkout with uncommitted changes."""
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return []
    command = ["git", "-C", str(checkout), "status", "--porcelain", "--untracked-files=no"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    changed: Sequence[str] = done.stdout.splitlines()
    if not changed:
        return []
    return [
        f"{len(changed)} files of {checkout} have uncommitted changes: jobs run the files as they "
        "are when the job starts"
    ]


def _check_writable(run: RunDirectory) -> None:
    try:
        run.logs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run.path) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise ResourceError(
            f"the run directory {run.path} cannot be written: {error.strerror}; "
            f"choose another one or free some space"
        ) from error


def parse_minutes(text: str) -> int | None:
    """Return Slurm's time (`D-HH:MM:SS`, `HH:MM:SS`) in minutes; None if it is unlimited."""
    if text in {"UNLIMITED", "INFINITE", "NONE", ""}:
        return None
    days, _, clock = text.rpartition("-")
    hours, minutes, *_ = (int(part) for part in clock.split(":"))
    return (int(days) * 24 if days else 0) * 60 + hours * 60 + minutes
