"""Write a configuration as YAML, every field with its help text as a comment."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

from nllb.io.atomic import atomic_text

from .loading import one_line, plain
from .schema import Section
from .yaml_tree import set_scalar_rules


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper; it quotes text that the loader would take for another type."""


set_scalar_rules(_Dumper)


def dump_config(config: Section) -> str:
    """Return a configuration as YAML with the help text of every field as a comment."""
    return "\n".join(_dump(config, 0)) + "\n"


def write_config(config: Section, path: Path) -> None:
    """Write the resolved configuration beside a run's output."""
    with atomic_text(path) as stream:
        stream.write(dump_config(config))


def _dump(section: Section, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if field.description:
            width = max(40, 98 - len(indent))
            lines = textwrap.wrap(one_line(field.description), width, break_on_hyphens=False)
            yield from (f"{indent}# {line}" for line in lines)
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from _dump(value, depth + 1)
            continue
        text = yaml.dump({name: plain(value)}, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
        yield textwrap.indent(text.rstrip("\n"), indent)
