"""Runs Slurm commands: one call for all jobs, retried while the controller restarts."""

import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nllb.errors import ResourceError

ANSWER_TIMEOUT_S = 60
PATIENCE_S = 600
RETRY_S = 2.0
_AWAY = re.compile(r"unable to contact|connection refused|timed out|communication", re.IGNORECASE)
FINISHED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
FINISHED |= {"PREEMPTED", "BOOT_FAIL", "DEADLINE"}


@dataclass(frozen=True, kw_only=True, slots=True)
class JobState:
    """The state of one job in Slurm."""

    job_id: str
    """Job id; `ID_INDEX` for a task of an array."""
    state: str
    """Slurm's state: PENDING, RUNNING, COMPLETED, ..."""
    reason: str = ""
    """Why the job is waiting or failed."""
    elapsed: str = ""
    """Running time in Slurm's format."""
    node: str = ""
    """Nodes on which it runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeShape:
    """Size of the nodes of a partition."""

    cpus: int
    """Processors of a node."""
    memory_mib: int
    """Memory of a node in MiB."""


def ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands.

    Raises:
        ResourceError: Slurm is not installed here, or does not answer in time.
    """
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=ANSWER_TIMEOUT_S
        )
    except FileNotFoundError:
        raise ResourceError(
            f"Slurm is not available on this machine: {command[0]!r} is not installed or not on "
            "PATH; set `executor: local` in the cluster's configuration to run here"
        ) from None
    except subprocess.TimeoutExpired:
        raise ResourceError(
            f"{command[0]} did not answer within {ANSWER_TIMEOUT_S} s; check with `scontrol ping` "
            "whether the controller is up"
        ) from None


def is_away(answer: subprocess.CompletedProcess[str]) -> bool:
    """Return whether a command failed because the controller could not be reached."""
    return answer.returncode != 0 and _AWAY.search(answer.stderr) is not None


def query(command: Sequence[str]) -> str:
    """Run one of Slurm's commands and return its output.

    Raises:
        ResourceError: Slurm is not installed, its controller is down, or it refuses.
    """
    answer = ask(command)
    if is_away(answer):
        raise ResourceError(
            "the Slurm controller does not answer, so nothing was submitted; try again when "
            f"`scontrol ping` says that it is up ({answer.stderr.strip().splitlines()[0]})"
        )
    if answer.returncode != 0:
        raise ResourceError(f"{command[0]} failed: {answer.stderr.strip()}")
    return answer.stdout


def limits() -> dict[str, str]:
    """Return the controller's configuration, such as MaxArraySize."""
    lines = query(["scontrol", "show", "config"]).splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def partitions() -> dict[str, dict[str, str]]:
    """Return the limits of each partition, under scontrol's names."""
    answer = query(["scontrol", "-o", "show", "partition"])
    rows = (dict(re.findall(r"(\w+)=(\S*)", line)) for line in answer.splitlines())
    return {row["PartitionName"]: row for row in rows if "PartitionName" in row}


def node_shapes(partition: str) -> list[NodeShape]:
    """Return the different node sizes of a partition."""
    answer = query(["sinfo", "--noheader", "--exact", f"--partition={partition}", "--format=%c|%m"])
    rows = (re.findall(r"\d+", line) for line in answer.splitlines())
    return [NodeShape(cpus=int(row[0]), memory_mib=int(row[1])) for row in rows if len(row) == 2]


def find_by_token(token: str) -> str | None:
    """Return the id of the job whose comment is the token, or None."""
    answer = ask(["squeue", "--noheader", "--states=all", "--format=%F|%k"])
    if answer.returncode != 0:
        raise ResourceError(answer.stderr.strip())
    for line in answer.stdout.splitlines():
        job_id, _, comment = line.partition("|")
        if comment.strip() == token:
            return job_id.strip()
    return None


def job_states(job_ids: Iterable[str]) -> dict[str, JobState]:
    """Return what Slurm knows about jobs, in one call; it forgets finished jobs after a while."""
    wanted = set(job_ids)
    if not wanted:
        return {}
    roots = ",".join(sorted({job_id.split("_")[0] for job_id in wanted}))
    answer = ask(
        [
            "squeue",
            "--noheader",
            "--array",
            "--states=all",
            f"--jobs={roots}",
            "--format=%i|%T|%r|%M|%N",
        ]
    )
    if is_away(answer):
        raise ResourceError(f"the Slurm controller does not answer: {answer.stderr.strip()}")
    found = {}
    for line in answer.stdout.splitlines():
        job_id, state, reason, elapsed, node = (part.strip() for part in line.split("|", 4))
        if job_id in wanted:
            found[job_id] = JobState(
                job_id=job_id,
                state=state,
                reason="" if reason == "None" else reason,
                elapsed=elapsed,
                node=node,
            )
    return found


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs; a job that has ended is not an error."""
    ids = sorted(job_ids)
    for start in range(0, len(ids), 200):
        answer = ask(["scancel", *ids[start : start + 200]])
        if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
            raise ResourceError(f"scancel refused: {answer.stderr.strip()}")


def submit_once(
    token: str, script: str, *, sbatch: str = "sbatch", patience_s: float = PATIENCE_S
) -> str:
    """Submit a script whose comment is `token` exactly once and return the job id.

    If the controller becomes unreachable during the submission, the job with the token is looked up
    before the next attempt. The job gets the environment of this process, even if SBATCH_EXPORT
    says otherwise, because the options of the script rank below that variable.

    Args:
        token: comment of the script, unique for each submission.
        script: path of the script.
        sbatch: path of the program.
        patience_s: how long to wait for the controller.

    Raises:
        ResourceError: sbatch refuses; the text has its own message.
    """
    deadline = time.monotonic() + patience_s
    asked = False
    while True:
        try:
            found = find_by_token(token) if asked else None
            if found is not None:
                return found
            asked = True
            answer = ask([sbatch, "--parsable", "--export=ALL", script])
        except ResourceError as error:
            if not asked or time.monotonic() > deadline or "not available" in str(error):
                raise
        else:
            if answer.returncode == 0:
                return answer.stdout.strip().split(";")[0]
            if not is_away(answer) or time.monotonic() > deadline:
                raise ResourceError(f"sbatch refused the job:\n{answer.stderr.strip()}")
        print("the Slurm controller does not answer; waiting for it", file=sys.stderr, flush=True)
        time.sleep(RETRY_S)
