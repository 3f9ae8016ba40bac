"""Renames deprecated keys in a document, so that all further code uses the new names."""

import logging

import yaml

from .schema import RenamedKey, Section, section_of
from .yaml_tree import YamlTree, key_node, key_of, location, place_of, scalar_value

_log = logging.getLogger(__name__)


def rename_keys(tree: YamlTree, cls: type[Section]) -> None:
    """Rename all deprecated keys of a document, with one warning that lists them."""
    renamed: list[str] = []
    _rename(tree, tree.root, cls, (), renamed)
    if renamed:
        _log.warning(
            "%s: deprecated keys, which the next release will not accept:\n%s",
            tree.name,
            "\n".join(renamed),
        )


def _rename(
    tree: YamlTree,
    node: yaml.Node,
    cls: type[Section],
    path: tuple[str | int, ...],
    renamed: list[str],
) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    given = {key_of(key) for key, _ in node.value}
    entries = []
    for key, value in node.value:
        name = key_of(key)
        target = cls.renamed_keys.get(name) if name is not None else None
        if name is None or target is None:
            entries.append((key, value))
            continue
        new = cls.canonical_key(name)
        if new in given:
            old, present = location((*path, name)), location((*path, new))
            tree.error(
                key,
                f"{old} is the deprecated name of {present}, which is also given; "
                f"remove the deprecated key",
            )
            continue
        given.add(new)
        kept = _converted(value, target) if isinstance(target, RenamedKey) else value
        entries.append((key_node(new, key), kept))
        unit = ", in another unit" if isinstance(target, RenamedKey) else ""
        where = place_of(key)[0]
        renamed.append(f"  {where}: {location((*path, name))} is now called {new}{unit}")
    node.value = entries
    for key, value in entries:
        field = cls.model_fields.get(key_of(key) or "")
        inner = section_of(field.annotation) if field is not None else None
        if inner is not None:
            _rename_inside(tree, value, inner, (*path, str(key.value)), renamed)


def _rename_inside(
    tree: YamlTree,
    node: yaml.Node,
    cls: type[Section],
    path: tuple[str | int, ...],
    renamed: list[str],
) -> None:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _rename(tree, item, cls, (*path, index), renamed)
    else:
        _rename(tree, node, cls, path, renamed)


def _converted(node: yaml.Node, target: RenamedKey) -> yaml.Node:
    value = scalar_value(node) if isinstance(node, yaml.ScalarNode) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return node  # reported as a wrong type
    converted = repr(float(target.convert(float(value))))
    tag = "tag:yaml.org,2002:float"
    return yaml.ScalarNode(tag, converted, start_mark=node.start_mark, end_mark=node.end_mark)
