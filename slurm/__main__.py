"""`python -m slurm RUN_DIR KEY`: run one recorded task of a run directory."""

import sys
from pathlib import Path

from .job import CommandFailed, CommandJob
from .tasks import RunDirectory


def main(run_dir: str, key: str) -> int:
    """Run the task; its output and the text of a failure go to the output of this process."""
    run = RunDirectory(Path(run_dir))
    task = next(task for task in run.tasks() if task.key == key)
    try:
        return CommandJob(run.path, task)()
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
