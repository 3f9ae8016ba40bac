"""YAML as it is read everywhere here: plain values only, and never nested without a limit."""

from typing import Any

import yaml

from nllb.errors import ConfigError

MAX_DEPTH = 40
"""Lists and mappings inside each other; PyYAML would use up Python's stack."""
MAX_BYTES = 8 << 20
"""Longest file of YAML that is read."""


def compose_yaml(text: str, where: str) -> yaml.Node | None:
    """Return the tree of a document, with the lines that its parts come from.

    Raises:
        ConfigError: with the line, where it is not YAML or nests too deeply.
    """
    try:
        _check_depth(text, where)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {error}") from None


def load_yaml(text: str, where: str) -> Any:
    """Return the value of a document.

    Raises:
        ConfigError: with the line, where it is not YAML, nests too deeply, or holds a value that
            Python has no place for.
    """
    try:
        _check_depth(text, where)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # such as a date of 31 February
        raise ConfigError(f"{where}: not YAML: {error}") from None


def _check_depth(text: str, where: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(
                    f"{where}:{event.start_mark.line + 1}: more than {MAX_DEPTH} lists or mappings "
                    "inside each other; no configuration has so many"
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
