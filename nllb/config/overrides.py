"""Overrides from the command line: `key.sub=value` replaces a value of a document."""

import yaml

from nllb.errors import ConfigError

from .schema import Section, section_of
from .yaml_tree import COMMAND_LINE, YamlTree, compose, key_node, key_of


def apply_override(tree: YamlTree, cls: type[Section], text: str) -> None:
    """Replace or add the value of a dotted key; record an error if it cannot be read."""
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        tree.error(None, f"{text!r} is not of the form key=value, such as schedule.steps=100")
        return
    try:
        new = compose(value or "null", COMMAND_LINE)
    except (yaml.YAMLError, ConfigError):
        new = None
    if new is None:
        tree.error(None, f"{dotted}: {value!r} is not a YAML value")
        return
    node, section = tree.root, cls
    *parents, last = dotted.split(".")
    for name in parents:
        child = _child(node, section, name)
        if not isinstance(child, yaml.MappingNode):
            child = yaml.MappingNode("tag:yaml.org,2002:map", [])
            _set(node, section, name, child)
        node = child
        section = _section_under(section, name)
    _set(node, section, last, new)


def _section_under(cls: type[Section], name: str) -> type[Section]:
    """Return the class of the section under a key; `Section` if it has none."""
    field = cls.model_fields.get(cls.canonical_key(name))
    return (section_of(field.annotation) if field is not None else None) or Section


def _child(node: yaml.MappingNode, cls: type[Section], name: str) -> yaml.Node | None:
    return next((value for key, value in node.value if _same(cls, key, name)), None)


def _set(node: yaml.MappingNode, cls: type[Section], name: str, value: yaml.Node) -> None:
    kept = [(key, old) for key, old in node.value if not _same(cls, key, name)]
    node.value = [*kept, (key_node(name), value)]


def _same(cls: type[Section], key: yaml.Node, name: str) -> bool:
    """Return whether a key of the document is that of an override, by any of its names."""
    return cls.canonical_key(key_of(key) or "") == cls.canonical_key(name)
