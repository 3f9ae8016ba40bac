"""What the tests of document formats share."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from nllb.documents.registry import open_document
from nllb.documents.units import FormatOptions
from nllb.languages import parse_language

Change = Callable[[str], str]


@pytest.fixture
def rendered() -> Callable[..., SimpleNamespace]:
    """Return a function that parses a file, changes the text of its units and renders it."""

    def render(
        source: str | bytes,
        name: str,
        change: Change = str.upper,
        *,
        language: str | None = "eng_Latn",
        target: str = "deu_Latn",
        **options: Any,
    ) -> SimpleNamespace:
        data = source.encode() if isinstance(source, str) else source
        found, document = open_document(data, name, FormatOptions(**options))
        into = parse_language(target)
        units = document.plan_units(into)
        translations = {
            unit.key: [change(part) if isinstance(part, str) else part for part in unit.fragments]
            for unit in units
        }
        result = document.render(
            translations,
            source=None if language is None else parse_language(language),
            target=into,
        )
        return SimpleNamespace(
            format=found.name,
            units=units,
            texts=[unit.text for unit in units],
            data=result,
            text=result.decode("utf-8", "replace"),
            warnings=list(document.warnings),
        )

    return render
