"""Templates such as `mined/{source}-{target}.tsv`: places in braces, and nothing else.

`str.format` would do more than is meant: `{x:>999999999}` fills a gigabyte with blanks, and
`{x.__class__}` looks into objects.
"""

import re
from collections.abc import Mapping

from nllb.errors import ConfigError

_PART = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]")


def template_places(template: str) -> list[str]:
    """Return the names of a template's places, each once, in their order.

    Raises:
        ConfigError: a brace does not belong to a place.
    """
    names = []
    for part in _PART.finditer(template):
        if part[0] in ("{", "}") or part[1] == "":
            raise ConfigError(
                f"{template[:200]!r}: the brace at character {part.start() + 1} begins no place; a "
                "place is a name in braces, such as {out}, without a format or an attribute; "
                "{{ and }} stand for braces"
            )
        if part[1]:
            names.append(part[1])
    return list(dict.fromkeys(names))


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Return the template with its places filled in.

    Raises:
        ConfigError: a place has no value, or a brace does not belong to a place.
    """
    if unknown := [name for name in template_places(template) if name not in values]:
        raise ConfigError(
            f"{template[:200]!r} names {{{unknown[0]}}}, which has no value here; known: "
            f"{', '.join(values) or 'none'}"
        )
    return _PART.sub(lambda part: values[part[1]] if part[1] else part[0][0], template)
