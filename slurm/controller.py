"""Slurm's own commands: asked seldom, in one call for all jobs, and patient with a restart."""

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
    """One job as Slurm sees it."""

    job_id: str
    """Its id; `ID_INDEX` for a task of an array."""
    state: str
    """Slurm's word: PENDING, RUNNING, COMPLETED, ..."""
    reason: str = ""
    """Why it waits or failed."""
    elapsed: str = ""
    """How long it has run, as Slurm writes it."""
    node: str = ""
    """Where it runs."""
    restarts: int = 0
    """How often it was requeued."""


def ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands.

    Raises:
        ResourceError: there is no Slurm here, or it does not answer in time.
    """
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=ANSWER_TIMEOUT_S
        )
    except FileNotFoundError:
        raise ResourceError(
            f"no Slurm on this machine: {command[0]!r} is not installed or not on PATH; "
            f"set `executor: local` in the cluster's configuration to run here"
        ) from None
    except subprocess.TimeoutExpired:
        raise ResourceError(
            f"{command[0]} did not answer within {ANSWER_TIMEOUT_S} s: is the controller up? "
            f"(`scontrol ping`)"
        ) from None


def is_away(answer: subprocess.CompletedProcess[str]) -> bool:
    """Say whether a command failed because the controller could not be reached."""
    return answer.returncode != 0 and _AWAY.search(answer.stderr) is not None


def limits() -> dict[str, str]:
    """Return the controller's configuration, such as MaxArraySize."""
    answer = ask(["scontrol", "show", "config"])
    if answer.returncode != 0:
        raise ResourceError(f"the Slurm controller does not answer: {answer.stderr.strip()}")
    pairs = (line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def partitions() -> dict[str, dict[str, str]]:
    """Return each partition's limits by scontrol's names."""
    answer = ask(["scontrol", "-o", "show", "partition"])
    rows = (dict(re.findall(r"(\w+)=(\S*)", line)) for line in answer.stdout.splitlines())
    return {row["PartitionName"]: row for row in rows if "PartitionName" in row}


def find_by_token(token: str) -> str | None:
    """Return the id of the job that carries a token as its comment."""
    answer = ask(["squeue", "--noheader", "--states=all", "--format=%F|%k"])
    if answer.returncode != 0:
        raise ResourceError(answer.stderr.strip())
    for line in answer.stdout.splitlines():
        job_id, _, comment = line.partition("|")
        if comment.strip() == token:
            return job_id.strip()
    return None


def job_states(job_ids: Iterable[str]) -> dict[str, JobState]:
    """Return what Slurm knows of jobs, in at most two calls; it forgets finished ones in time."""
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
    """Cancel jobs; ones that have ended are no error."""
    ids = sorted(job_ids)
    for start in range(0, len(ids), 200):
        answer = ask(["scancel", *ids[start : start + 200]])
        if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
            raise ResourceError(f"scancel refused: {answer.stderr.strip()}")


def submit_once(token: str, script: str, *, patience_s: float = PATIENCE_S) -> str:
    """Submit a script whose comment is `token` exactly once and return the job id.

    When the controller goes away in the middle, a job with the token is looked for before the next
    try.

    Raises:
        ResourceError: with sbatch's own words where it refuses.
    """
    deadline = time.monotonic() + patience_s
    asked = False
    while True:
        try:
            found = find_by_token(token) if asked else None
            if found is not None:
                return found
            asked = True
            answer = ask(["sbatch", "--parsable", script])
        except ResourceError as error:
            if not asked or time.monotonic() > deadline or "no Slurm" in str(error):
                raise
        else:
            if answer.returncode == 0:
                return answer.stdout.strip().split(";")[0]
            if not is_away(answer) or time.monotonic() > deadline:
                raise ResourceError(f"sbatch refused the job:\n{answer.stderr.strip()}")
        print("the Slurm controller does not answer; waiting", file=sys.stderr, flush=True)
        time.sleep(RETRY_S)
