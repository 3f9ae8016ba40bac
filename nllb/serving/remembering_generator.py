"""A generator whose repeated segments cost nothing, within one request."""

from collections.abc import Sequence
from typing import Any

from nllb.inference.generator import Generator, Hypothesis, SearchOptions, Terms
from nllb.languages import Language


class RememberingGenerator:
    """Wraps a generator and remembers what it generated."""

    def __init__(self, generator: Generator) -> None:
        """Wrap a generator."""
        self._generator = generator
        self._known: dict[tuple[Any, ...], list[Hypothesis]] = {}

    def __getattr__(self, name: str) -> object:
        """Return what the generator has."""
        return getattr(self._generator, name)

    def fits(self, segment: str, *, source: Language) -> bool:
        """Return whether the segment does not exceed the model's maximum length."""
        return self._generator.fits(segment, source=source)

    def supports(self, language: Language) -> bool:
        """Return whether the model has a token for the language."""
        return self._generator.supports(language)

    def has_shortlist(self, target: Language) -> bool:
        """Return whether the model has a shortlist for this target language."""
        return self._generator.has_shortlist(target)

    def generate(
        self,
        segments: Sequence[str],
        *,
        source: Language,
        target: Language,
        search: SearchOptions,
        prefixes: Sequence[str] | None = None,
        terms: Sequence[Terms] | None = None,
    ) -> list[list[Hypothesis]]:
        """Return the hypotheses of each segment, best first."""
        forced = [""] * len(segments) if prefixes is None else prefixes
        wanted = [()] * len(segments) if terms is None else terms
        keys = [
            (source.code, target.code, search, *each)
            for each in zip(segments, forced, wanted, strict=True)
        ]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        if new:
            further: dict[str, Any] = {}
            if prefixes is not None:
                further["prefixes"] = [key[4] for key in new]
            if terms is not None:
                further["terms"] = [key[5] for key in new]
            answers = self._generator.generate(
                [key[3] for key in new], source=source, target=target, search=search, **further
            )
            self._known |= dict(zip(new, answers, strict=True))
        return [self._known[key] for key in keys]
