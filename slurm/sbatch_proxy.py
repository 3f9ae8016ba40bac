"""The program that submitit starts as `sbatch`: TOKEN SBATCH REFUSAL SCRIPT are its arguments.

It submits the script exactly once, waits for a controller that is restarting, and writes the
refusal of the real `sbatch` to the file REFUSAL.
"""

import sys
from pathlib import Path

from nllb.errors import ResourceError

from .controller import submit_once


def main(token: str, sbatch: str, refusal: str, script: str) -> int:
    """Submit the script and print the job id in the words that submitit expects."""
    try:
        print(f"Submitted batch job {submit_once(token, script, sbatch=sbatch)}")
    except ResourceError as error:
        Path(refusal).write_text(str(error), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
