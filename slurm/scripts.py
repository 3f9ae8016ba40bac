"""The sbatch script: submitit writes it, and every value that reaches it is validated here first.

submitit calls `sbatch` and `srun` by name. Programs of these names in a temporary folder at the
front of PATH let us submit exactly once, or capture the script for a dry run, through submitit's
public interface alone.
"""

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nllb.errors import ConfigError, ResourceError

from .cluster import ClusterConfig
from .job import CommandJob
from .tasks import RunDirectory, Task

RESERVED_OPTIONS: Final = frozenset(
    {"array", "comment", "dependency", "error", "job-name", "open-mode", "output", "signal", "wrap"}
)
"""sbatch options that this package sets itself, so that `extra` may not change them."""

_OPTION_NAME = re.compile(r"[a-z][a-z0-9-]*")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def validate_request(run: RunDirectory, cluster: ClusterConfig, *, name: str) -> None:
    """Check every value that reaches the script.

    A line break in a value would end the `#SBATCH` comment, and the rest of the value would run as
    shell code. Slurm expands `%` in the names of log files.

    Raises:
        ConfigError: a value has a control character, `extra` has a reserved or malformed option,
            or the path of the run directory contains `%`.
    """
    values: dict[str, object] = {
        field: getattr(cluster, field)
        for field in ("partition", "account", "qos", "constraint", "exclude", "mail_user")
    }
    values |= {"the name": name, "the run directory": str(run.path)}
    values |= {f"extra.{option}": value for option, value in cluster.extra.items()}
    for field, value in values.items():
        if isinstance(value, str) and (found := _CONTROL_CHARACTER.search(value)):
            raise ConfigError(
                f"{field} contains the control character {found.group()!r}, which is not allowed "
                f"in an sbatch script: {value!r}"
            )
    for option in cluster.extra:
        if not _OPTION_NAME.fullmatch(option):
            raise ConfigError(
                f"extra: {option!r} is not a long sbatch option; write it without dashes in front, "
                "such as mail-user"
            )
        if option in RESERVED_OPTIONS:
            raise ConfigError(
                f"extra: {option!r} is set by nllb and cannot be changed; reserved options: "
                f"{', '.join(sorted(RESERVED_OPTIONS))}"
            )
    if "%" in str(run.path):
        raise ConfigError(
            f"the run directory {run.path} contains '%', which Slurm expands in the names of log "
            "files; choose a path without it"
        )


def sbatch_script(
    run: RunDirectory, tasks: Sequence[Task], cluster: ClusterConfig, *, name: str
) -> str:
    """Return the script that would be submitted, for `--dry-run`. It does not need Slurm."""
    validate_request(run, cluster, name=name)
    with tempfile.TemporaryDirectory(prefix="nllb-dry-run-") as folder:
        logs, captured = Path(folder) / "logs", Path(folder) / "script"
        copy = [sys.executable, "-c", "import shutil, sys; shutil.copy(*sys.argv[1:])"]
        capture = f'{shlex.join(copy)} "$1" {shlex.quote(str(captured))}'
        programs = {"sbatch": f"{capture}\necho Submitted batch job 0\n", "srun": "exit 1\n"}
        with _programs_on_path(programs):
            executor = slurm_executor(logs, cluster, name=name, token="dry-run")
            submit_jobs(executor, [CommandJob(run.path, task) for task in tasks])
        return captured.read_text(encoding="utf-8").replace(str(logs), str(run.logs))


def slurm_executor(
    logs: Path, cluster: ClusterConfig, *, name: str, token: str, dependency: str | None = None
) -> Any:
    """Return a submitit executor with the options of the cluster.

    Raises:
        ConfigError: submitit does not accept an option.
    """
    executor = import_submitit().SlurmExecutor(folder=logs, max_num_timeout=cluster.max_requeues)
    parameters = cluster.sbatch_parameters(name=name, token=token, dependency=dependency)
    try:
        executor.update_parameters(**parameters)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return executor


def submit_jobs(executor: Any, jobs: list[CommandJob]) -> list[Any]:
    """Submit one job, or several as an array."""
    if len(jobs) == 1:
        return [executor.submit(jobs[0])]
    return list(executor.map_array(CommandJob.__call__, jobs))


@contextmanager
def submitting_once(token: str) -> Iterator[Path]:
    """Let submitit submit through `slurm.sbatch_proxy`; yield the file of a refusal's text."""
    sbatch = find_sbatch()
    with tempfile.TemporaryDirectory(prefix="nllb-sbatch-") as folder:
        refusal = Path(folder) / "refusal"
        command = [sys.executable, "-m", "slurm.sbatch_proxy", token, sbatch, str(refusal)]
        with _programs_on_path({"sbatch": f'exec {shlex.join(command)} "$1"\n'}):
            yield refusal


def find_sbatch() -> str:
    """Return the path of the real `sbatch`.

    Raises:
        ResourceError: Slurm is not installed here.
    """
    found = shutil.which("sbatch")
    if found is None:
        raise ResourceError(
            "sbatch is not on PATH, so Slurm is not available on this machine; set "
            "`executor: local` in the cluster's configuration to run here"
        )
    return found


def import_submitit() -> Any:
    """Import submitit, which is an extra.

    Raises:
        ResourceError: it is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise ResourceError("submitit is missing: pip install 'nllb[slurm]'") from None
    return submitit


@contextmanager
def _programs_on_path(programs: Mapping[str, str]) -> Iterator[None]:
    """Put shell programs in front of PATH for the time of a block."""
    before = os.environ.get("PATH", "")
    with tempfile.TemporaryDirectory(prefix="nllb-programs-") as folder:
        for name, body in programs.items():
            path = Path(folder) / name
            path.write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
            path.chmod(0o755)
        os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before
