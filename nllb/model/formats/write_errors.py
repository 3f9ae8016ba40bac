"""Converts write errors of torch and safetensors to errors of the operating system.

Both libraries report a full disk with their own exceptions, which would look like a bug of this
program. As an `OSError`, it is reported with the name of the output, like that of any other file.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from safetensors import SafetensorError

_NUMBER: Final = re.compile(r"os error (\d+)")
_TORCH: Final = ("PytorchStreamWriter", "file write failed", "unexpected pos")


@contextmanager
def library_write_errors() -> Iterator[None]:
    """Raise `OSError` where torch or safetensors could not write a file."""
    try:
        yield
    except SafetensorError as error:
        found = _NUMBER.search(str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from None
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _TORCH):
            raise
        raise OSError(errno.ENOSPC, "the disk is full, limited or broken") from None
