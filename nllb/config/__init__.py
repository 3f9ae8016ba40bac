"""Configuration: one YAML file describes one run.

`schema` has the base types of configuration classes, `loading` reads a file into them and reports
every error with its line, `dumping` writes them back as commented YAML, `shipped` finds the files
that come with the package, and `fingerprints` decides whether two runs do the same work. Names are
imported on first use, so that sizes and paths do not import pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dumping import dump_config, write_config
    from .fingerprints import claim_directory, fingerprint
    from .loading import load_config
    from .schema import RunConfig, Section
    from .shipped import config_kind, configs_dir, find_config
    from .sizes import format_size, parse_size

_MODULES = {
    "RunConfig": "schema",
    "Section": "schema",
    "claim_directory": "fingerprints",
    "config_kind": "shipped",
    "configs_dir": "shipped",
    "dump_config": "dumping",
    "find_config": "shipped",
    "fingerprint": "fingerprints",
    "format_size": "sizes",
    "load_config": "loading",
    "parse_size": "sizes",
    "write_config": "dumping",
}

__all__ = [
    "RunConfig",
    "Section",
    "claim_directory",
    "config_kind",
    "configs_dir",
    "dump_config",
    "find_config",
    "fingerprint",
    "format_size",
    "load_config",
    "parse_size",
    "write_config",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
