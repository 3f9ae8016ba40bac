"""Templates such as `mined/{source}-{target}.tsv`: placeholders in braces, and nothing else.

`str.format` is not safe for input: `{x:>999999999}` fills a gigabyte with blanks, and
`{x.__class__}` reads attributes of objects.
"""

import re
from collections.abc import Mapping

from nllb.errors import ConfigError

_PART = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]")


def template_places(template: str) -> list[str]:
    """Return the names of a template's placeholders in order, each once.

    Raises:
        ConfigError: a brace is not part of a placeholder.
    """
    names = []
    for part in _PART.finditer(template):
        if part[0] in ("{", "}") or part[1] == "":
            raise ConfigError(
                f"{template[:200]!r}: the brace at character {part.start() + 1} is not part of a "
                "placeholder; a placeholder is a name in braces, such as {out}, without a format "
                "or an attribute; write {{ and }} for braces"
            )
        if part[1]:
            names.append(part[1])
    return list(dict.fromkeys(names))


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Return the template with values in place of its placeholders.

    Raises:
        ConfigError: a placeholder has no value, or a brace is not part of a placeholder.
    """
    if unknown := [name for name in template_places(template) if name not in values]:
        raise ConfigError(
            f"{template[:200]!r} contains {{{unknown[0]}}}, which has no value; known: "
            f"{', '.join(values) or 'none'}"
        )
    return _PART.sub(lambda part: values[part[1]] if part[1] else part[0][0], template)
