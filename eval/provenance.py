"""Provenance of results: versions, revision, time."""

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nllb import __version__

_PACKAGES = ("numpy", "sacrebleu", "sentencepiece")


def provenance() -> dict[str, str]:
    """Return the versions, the revision and the time that are needed to repeat a run."""
    found = {"nllb": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    revision = git_revision()
    if revision:
        found["git"] = revision
    return found | {"created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


@cache
def git_revision() -> str:
    """Return the git revision of the running checkout, with `+` if changed, or ''."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        revision, changes = (
            subprocess.run(
                ["git", "-C", str(root), *words],
                capture_output=True, text=True, check=True, timeout=10,
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return revision + ("+" if changes else "")
