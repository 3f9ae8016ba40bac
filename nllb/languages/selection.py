"""The rows of the language table that match a query, a script, a resource level and a model."""

from collections.abc import Collection

from nllb.errors import LanguageError

from .names import find_languages, parse_language
from .table import Language, languages

_MAX_NAMED = 9


def select_languages(
    query: str | None = None,
    *,
    script: str | None = None,
    level: str | None = None,
    covered: Collection[str] | None = None,
) -> tuple[Language, ...]:
    """Return the languages that fit every given condition.

    Args:
        query: a code, a tag, or a part of a name.
        script: ISO 15924 code of the script, in any case.
        level: resource level, as `Language.level` gives it.
        covered: codes of the languages of a model.

    Raises:
        LanguageError: no language fits; the message names similar ones, or the valid scripts.
    """
    _require_script(script)
    matching = _matching(query)
    fitting = tuple(
        language
        for language in matching
        if script is None or language.script == script.capitalize()
        if level is None or language.level == level
    )
    if not fitting:
        shown = ", ".join(f"{one.code} ({one.level})" for one in matching[:_MAX_NAMED])
        dots = ", ..." if len(matching) > _MAX_NAMED else ""
        raise LanguageError(f"no language has this script and level; without them: {shown}{dots}")
    chosen = tuple(one for one in fitting if covered is None or one.code in covered)
    if not chosen:
        raise LanguageError(
            f"the model covers none of the languages that match; it covers {len(covered or ())}. "
            f"Run 'nllb models' to see other models"
        )
    return chosen


def _matching(query: str | None) -> tuple[Language, ...]:
    if query is None:
        return languages()
    return find_languages(query) or (parse_language(query),)  # an error with the nearest names


def _require_script(script: str | None) -> None:
    scripts = sorted({language.script for language in languages()})
    if script is not None and script.capitalize() not in scripts:
        raise LanguageError(
            f"no language is written in the script {script!r}; valid are {', '.join(scripts)}"
        )
