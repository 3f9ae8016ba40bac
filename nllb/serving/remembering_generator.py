"""A generator that caches repeated segments within one request."""

from collections.abc import Sequence
from typing import Any

from nllb.inference.generator import Generator, Hypothesis, SearchOptions, Terms
from nllb.languages import Language

from .generator_proxy import GeneratorProxy


class RememberingGenerator(GeneratorProxy):
    """Wraps a generator and caches its results."""

    def __init__(self, generator: Generator) -> None:
        """Wrap a generator."""
        super().__init__(generator)
        self._known: dict[tuple[Any, ...], list[Hypothesis]] = {}

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
