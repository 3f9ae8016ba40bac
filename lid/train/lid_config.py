"""What one `nllb lid train` run reads: text, labels, sampling, fastText, calibration, size."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nllb.config import repeated
from nllb.io.corpora import KNOWN_LAYOUTS, Layout
from nllb.languages import Language


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """One corpus of training text; its name is the domain that sampling balances."""

    directory: Path
    """Folder of the corpus; a path that is not absolute counts from `data`."""
    layout: Layout | None = None
    """lines, pairs, keyed, messages or tables; null: known from the folder's name."""
    licence: str = "not stated"
    """Licence of the text, for the model card."""
    most_lines: int = 20_000
    """Most lines of one label that are taken from the corpus."""
    fewest_letters: int = 8
    """Texts with fewer letters are left out (a third of it where letters are ideographs or
    syllables)."""
    without: tuple[Language, ...] = ()
    """Labels that are not taken from the corpus: its text is in another language or dialect."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.directory.name

    @property
    def is_messages(self) -> bool:
        """Whether its text is an interface's messages."""
        return (self.layout or KNOWN_LAYOUTS.get(self.directory.name)) == "messages"

    def faults(self) -> Iterable[str]:
        """Yield what is wrong across fields."""
        if self.layout is None and self.directory.name not in KNOWN_LAYOUTS:
            yield f"layout: not known for {self.directory.name!r}; name it"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseConfig:
    """Text in languages that are not in the table: labels of their own, reported as `und`."""

    sources: tuple[Path, ...] = ()
    """Folders of texts by foreign code (`keyed`), or with locales without a code (`messages`)."""
    lines_per_language: int = 150
    """Most training lines of one foreign language."""
    fewest_lines: int = 60
    """Foreign languages with fewer lines are left out."""
    calibration_part: float = 0.35
    """Part of the foreign languages with prose that are not trained on, to calibrate with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How many lines of which text a label gets."""

    lines: int = 4000
    """Lines of a label with just as many; the others move towards it by `exponent`."""
    exponent: float = 0.2
    """0 gives every label the same number of lines, 1 as many as there are."""
    most_lines: int = 4000
    """Cap on the lines of one label."""
    most_repeats: float = 8.0
    """A label gets at most this many lines per line of its text: each repeat is another extract."""
    domain_exponent: float = 0.5
    """0 draws as many lines from each domain of a label, 1 in proportion to their sizes."""
    extract_rate: float = 0.6
    """Part of the lines that are cut to a run of 2 to 30 words, short runs as likely as long."""
    join_rate: float = 0.5
    """Part of the short lines that are joined with others of their domain."""
    joined_length: int = 110
    """Characters that joined lines reach, more or less."""
    most_of_keyword: float = 0.02
    """Part of a label's interface messages that may hold one word its other text hardly has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FastTextConfig:
    """fastText's own parameters."""

    dim: int = 64
    """Length of the vectors."""
    epochs: int = 5
    """Passes over the sampled lines."""
    learning_rate: float = 0.8
    """Step size at the start; falls to 0."""
    shortest_ngram: int = 2
    """Characters of the shortest n-gram."""
    longest_ngram: int = 5
    """Characters of the longest n-gram."""
    min_count: int = 1_000_000_000
    """Words seen less often have no row of their own, only n-grams. The default gives none a row:
    whole words tell topics apart, not languages."""
    buckets: int = 1_000_000
    """Hash buckets of n-grams."""
    threads: int = 1
    """Threads; with more than one, runs differ."""
    kept_ngrams: int = 140_000
    """Rows of n-grams and words that the quantised model keeps."""
    columns_per_code: int = 2
    """Columns of a row that the quantised model writes in one byte."""
    quantised_epochs: int = 2
    """Passes that train the kept rows further."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GramConfig:
    """The sets of each label's most frequent 5-grams."""

    most: int = 8000
    """Grams of one label."""
    size_bytes: int = 1_200_000
    """Size of the filter that holds them all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationConfig:
    """From scores to `und`."""

    held_out: float = 0.02
    """Part of the lines of every domain that are kept from training, for the card."""
    most_held_out: int = 60
    """Most held-out lines of one label."""
    left_out: tuple[str, ...] = ("udhr", "tico19")
    """Sources that are not trained on where a label has plenty of others, to calibrate with."""
    fewest_left: int = 1000
    """A label is trained on a source if it would have fewer lines without."""
    most_left_out: int = 150
    """Texts of one label and source to calibrate with."""
    kept: float = 0.98
    """Part of the left-out texts whose best label is right (or a sibling) that is to be named. Of
    languages with little text, which have no left-out text, fewer will be."""
    kept_short: float = 0.8
    """The same for texts of one or two short words."""
    precision: float = 0.9
    """What a label's accepted texts should be right in, foreign languages among them."""
    foreign_odds: float = 20.0
    """Texts in foreign languages for one text of a label, when precision is judged."""
    most_rejected: float = 0.02
    """Part of a label's own texts that may become `und` for the sake of its precision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LidConfig:
    """A language identifier to train."""

    kind: Literal["lid"]
    """Sort of run."""
    data: Path
    """Folder that the sources' paths count from."""
    sources: tuple[SourceConfig, ...]
    """Corpora of training text."""
    evaluation: tuple[Path, ...] = ()
    """Folders whose lines must not be in the training text."""
    on_overlap: Literal["drop", "refuse"] = "drop"
    """Drop and count training lines that stand in `evaluation`, or refuse to train."""
    languages: tuple[Language, ...] = ()
    """Labels to train; empty: every language of the table that the sources have text of."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """Foreign languages."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Balance of labels and domains."""
    fasttext: FastTextConfig = field(default_factory=FastTextConfig)
    """The classifier."""
    grams: GramConfig = field(default_factory=GramConfig)
    """Frequent 5-grams."""
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    """Thresholds."""
    experts: bool = True
    """Train a second stage for the groups of `groups.tsv` whose members share domains."""
    licence: str = "not stated"
    """Licence of the model, which follows from its text."""
    seed: int = 1
    """Seed of sampling and training."""

    def faults(self) -> Iterable[str]:
        """Yield what is wrong across fields."""
        if not self.sources:
            yield "sources: none; name at least one corpus"
        names = [source.name for source in self.sources]
        for name in repeated(names):
            yield f"sources: {name} stands twice"
        if len(self.languages) == 1:
            yield "languages: one label only; name two or more, or none for all"
        for limit in ("lines", "most_lines"):
            if getattr(self.sampling, limit) < 1:
                yield f"sampling.{limit}: must be 1 or more, got {getattr(self.sampling, limit)}"
        if not 1 <= self.fasttext.shortest_ngram <= self.fasttext.longest_ngram:
            yield (
                "fasttext: shortest_ngram must be between 1 and longest_ngram, got "
                f"{self.fasttext.shortest_ngram} and {self.fasttext.longest_ngram}"
            )
        if self.grams.most < 1 or self.grams.size_bytes < 64:
            yield "grams: most must be 1 or more, size_bytes 64 or more"
        if not 0 < self.calibration.held_out < 0.5:
            yield f"calibration.held_out: must be in (0, 0.5), got {self.calibration.held_out}"
