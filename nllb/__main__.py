"""`python -m nllb` is `nllb`."""

import sys

from .cli import main

sys.exit(main())
