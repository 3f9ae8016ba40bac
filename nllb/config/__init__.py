"""Configuration: one YAML file describes one run."""

from nllb.config.loading import (
    config_kind,
    configs_dir,
    dump_config,
    field_help,
    find_config,
    format_size,
    load_config,
    parse_size,
    range_faults,
    repeated,
    write_config,
)

__all__ = [
    "config_kind",
    "configs_dir",
    "dump_config",
    "field_help",
    "find_config",
    "format_size",
    "load_config",
    "parse_size",
    "range_faults",
    "repeated",
    "write_config",
]
