"""Glossaries: terms and how they are to be translated."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class GlossaryEntry:
    """A term of the source language and its translations."""

    source: str
    """The term as it occurs in source texts."""
    targets: tuple[str, ...]
    """Its surface forms in the target language, the preferred one first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Glossary:
    """Terms with their translations."""

    entries: tuple[GlossaryEntry, ...] = ()
