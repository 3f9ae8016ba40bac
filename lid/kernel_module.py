"""The compiled `lid._kernel`: whether it is there, and whether it is the version known here."""

import importlib
from typing import Any, Final

from nllb.errors import ResourceError

VERSION: Final = 1
"""Version of the compiled classes; it changes together with VERSION in `kernel.c`."""


def load_kernel() -> Any:
    """Return the compiled module; None where it was not built.

    Raises:
        ResourceError: it is of another version than this code.
    """
    try:
        module = importlib.import_module("lid._kernel")
    except ImportError:
        return None
    version = getattr(module, "VERSION", 0)
    if version != VERSION:
        raise ResourceError(
            f"the compiled detector kernel {module.__file__} is of version {version}, and this "
            f"nllb needs version {VERSION}: install nllb again so that the kernel is built anew "
            f"(pip install --force-reinstall --no-deps)"
        )
    return module
