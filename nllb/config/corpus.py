"""The description of a corpus that all configurations share: name, path and licence."""

from nllb.io.corpora import Layout
from nllb.languages import Language

from .schema import Section, Text


class CorpusSection(Section):
    """One corpus of text; data, mining and language identification add their own fields."""

    name: Text
    """Name in every table, report and card."""
    path: Text
    """Path under `data_dir`."""
    layout: Layout | None = None
    """Layout of the folder; null recognises the documented corpora."""
    licence: Text = "not stated"
    """Licence of the text; it is copied to manifests and cards."""
    languages: tuple[Language, ...] = ()
    """Read only these languages; empty reads all."""
