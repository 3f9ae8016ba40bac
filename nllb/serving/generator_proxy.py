"""A generator that forwards calls to another one; subclasses change how it generates."""

from nllb.inference.generator import Generator
from nllb.languages import Language


class GeneratorProxy:
    """Forwards all calls except `generate` to the wrapped generator."""

    def __init__(self, generator: Generator) -> None:
        """Wrap a generator."""
        self._generator = generator

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the wrapped generator."""
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
