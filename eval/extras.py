"""Packages of the `eval` extra, imported on first use: the base install works without them."""

from importlib import import_module
from typing import Any

from nllb.errors import ResourceError


def scipy_module(name: str, *, purpose: str) -> Any:
    """Return a module of scipy, such as `stats`.

    Raises:
        ResourceError: if scipy is not installed; the message names the purpose and the extra.
    """
    try:
        return import_module(f"scipy.{name}")
    except ImportError:
        raise ResourceError(f"{purpose} need scipy; run: pip install 'nllb[eval]'") from None
