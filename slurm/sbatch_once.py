"""`python -m slurm.sbatch_once TOKEN SCRIPT`: what submitit calls in the place of `sbatch`."""

import sys

from nllb.errors import ResourceError
from slurm.controller import submit_once

if __name__ == "__main__":
    try:
        print(f"Submitted batch job {submit_once(sys.argv[1], sys.argv[2])}")
    except ResourceError as refusal:
        sys.exit(str(refusal))
