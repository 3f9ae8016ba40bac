"""Load the compiled module `lid._kernel` and check its version."""

import importlib
from typing import Any, Final

from nllb.errors import ResourceError

VERSION: Final = 1
"""Version of the compiled classes; it must equal VERSION in `kernel.c`."""


def load_kernel() -> Any:
    """Return the compiled module, or None if it was not built.

    Raises:
        ResourceError: The module has another version than this code requires.
    """
    try:
        module = importlib.import_module("lid._kernel")
    except ImportError:
        return None
    version = getattr(module, "VERSION", 0)
    if version != VERSION:
        raise ResourceError(
            f"the compiled detector kernel {module.__file__} has version {version}, but this nllb "
            f"requires version {VERSION}: reinstall nllb to rebuild the kernel "
            f"(pip install --force-reinstall --no-deps)"
        )
    return module
