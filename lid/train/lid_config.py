"""The configuration of `nllb lid train`: text, labels, sampling, fastText, calibration, size."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nllb.config.corpus import CorpusSection
from nllb.config.schema import (
    ByteSize,
    FilePath,
    Fraction,
    FractionBelowOne,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RunConfig,
    Section,
    Text,
    repeated,
)
from nllb.io.corpora import KNOWN_LAYOUTS, Layout
from nllb.languages import Language

NgramLength = Annotated[int, Field(ge=1, le=20)]


class SourceConfig(CorpusSection):
    """One corpus of training text; its name is the domain that sampling balances."""

    renamed_keys: ClassVar = {
        "directory": "path",
        "most_lines": "max_lines",
        "fewest_letters": "min_letters",
        "without": "excluded_languages",
    }

    name: Text = ""
    """Name in reports and on the card; the folder's name where it is not given."""
    path: Text
    """Folder of the corpus, under `data_dir` unless it is absolute."""
    max_lines: PositiveInt = 20_000
    """Maximum number of lines of one label that are read from the corpus."""
    min_letters: NonNegativeInt = 8
    """Texts with fewer letters are skipped (a third of it where letters are ideographs or
    syllables)."""
    excluded_languages: tuple[Language, ...] = ()
    """Labels that are not read from the corpus: its text is in another language or dialect."""
    keys_as_domains: bool = False
    """Whether the key of a line names the domain of its text, up to a colon (layout `keyed`)."""
    excluded_keys: tuple[Text, ...] = ()
    """Domains, named by keys, that are not read."""
    message_keys: tuple[Text, ...] = ()
    """Domains, named by keys, that consist of interface messages."""

    @model_validator(mode="before")
    @classmethod
    def _name_by_folder(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("name") and values.get("path"):
            return {**values, "name": PurePath(str(values["path"])).name}
        return values

    @property
    def known_layout(self) -> Layout | None:
        """The layout that is given, or that of the folder's name."""
        return self.layout or KNOWN_LAYOUTS.get(PurePath(self.path).name)

    @property
    def is_messages(self) -> bool:
        """Whether its text consists of interface messages."""
        return self.known_layout == "messages"

    def cross_field_errors(self) -> Iterable[str]:
        """Yield what is wrong between fields."""
        if self.known_layout is None:
            folder = PurePath(self.path).name
            yield f"layout: unknown for the folder {folder!r}; set it"
        if self.keys_as_domains and self.known_layout not in (None, "keyed"):
            yield f"keys_as_domains: requires the layout 'keyed', got {self.known_layout!r}"
        if (self.excluded_keys or self.message_keys) and not self.keys_as_domains:
            yield "excluded_keys, message_keys: require keys_as_domains"

    def domain(self, key: str) -> str:
        """Return the domain of a text with a key."""
        return key.partition(":")[0] if self.keys_as_domains else self.name

    @property
    def message_domains(self) -> tuple[str, ...]:
        """The domains of interface messages."""
        return (self.name,) if self.is_messages else self.message_keys


class WordListConfig(Section):
    """Frequency lists of words, which teach the model short text."""

    path: Text
    """Folder of files `LIST.CODE.tsv` with a word and its frequency per line."""
    licence: Text = "not stated"
    """Licence of the lists; it is copied to the card."""
    max_words: PositiveInt = 5000
    """Number of the most frequent words that are read."""
    max_shared_rank: NonNegativeInt = 2000
    """A word is skipped if it is among this many most frequent words of English."""
    lines: PositiveInt = 400
    """Number of lines of one to three words that are composed for each language."""


class OutOfSetConfig(Section):
    """Text in languages outside the table: they get labels of their own, reported as `und`."""

    renamed_keys: ClassVar = {
        "lines_per_language": "max_lines",
        "fewest_lines": "min_lines",
        "calibration_part": "calibration_fraction",
    }

    sources: tuple[FilePath, ...] = ()
    """Folders of texts by out-of-set code (`keyed`), or with locales without a code
    (`messages`)."""
    max_lines: PositiveInt = 150
    """Maximum number of training lines of one out-of-set language."""
    min_lines: NonNegativeInt = 60
    """Out-of-set languages with fewer lines are skipped."""
    calibration_fraction: Fraction = 0.35
    """Fraction of the out-of-set languages with prose that is kept from training, to calibrate
    with."""


class SamplingConfig(Section):
    """How many lines of which text a label gets."""

    renamed_keys: ClassVar = {
        "most_lines": "max_lines",
        "most_repeats": "max_repeats",
        "most_of_keyword": "max_keyword_fraction",
    }

    lines: PositiveInt = 4000
    """Lines of a label that has exactly this many; the others move towards it by `exponent`."""
    exponent: NonNegativeFloat = 0.2
    """0 gives every label the same number of lines, 1 gives it all of its lines."""
    max_lines: PositiveInt = 4000
    """Maximum number of lines of one label."""
    max_repeats: PositiveFloat = 8.0
    """A label gets at most this many lines per line of its text; each repeat is another extract."""
    domain_exponent: NonNegativeFloat = 0.5
    """0 samples the same number of lines from each domain of a label, 1 in proportion to size."""
    message_weight: PositiveFloat = 1.0
    """Weight of a domain of interface messages, relative to other text of the label."""
    extract_rate: Fraction = 0.6
    """Fraction of the lines that is cut to 2 to 30 words; all lengths are equally likely."""
    join_rate: Fraction = 0.5
    """Fraction of the short lines that is joined with others of their domain."""
    joined_length: PositiveInt = 110
    """Approximate length of joined lines in characters."""
    max_keyword_fraction: Fraction = 0.02
    """Maximum fraction of a label's interface messages with one word that is rare in its other
    text."""


class FastTextConfig(Section):
    """fastText's own parameters."""

    renamed_keys: ClassVar = {"shortest_ngram": "min_ngram", "longest_ngram": "max_ngram"}

    dim: Annotated[int, Field(ge=2)] = 64
    """Length of the vectors."""
    epochs: PositiveInt = 5
    """Passes over the sampled lines."""
    learning_rate: PositiveFloat = 0.8
    """Initial learning rate; it falls to 0."""
    min_ngram: NgramLength = 2
    """Minimum length of an n-gram in characters."""
    max_ngram: NgramLength = 5
    """Maximum length of an n-gram in characters."""
    min_count: PositiveInt = 1_000_000_000
    """Words with a lower count have no row of their own, only n-grams. With the default no word
    has one: whole words distinguish topics, not languages."""
    buckets: PositiveInt = 1_000_000
    """Hash buckets of n-grams."""
    threads: PositiveInt = 1
    """Threads; with more than one, results are not reproducible."""
    kept_ngrams: PositiveInt = 140_000
    """Rows of n-grams and words that the quantised model keeps."""
    columns_per_code: PositiveInt = 2
    """Columns of a row that the quantised model stores in one byte."""
    quantised_epochs: NonNegativeInt = 2
    """Epochs in which the kept rows are trained further."""

    def cross_field_errors(self) -> Iterable[str]:
        """Yield an empty range of n-grams."""
        if self.min_ngram > self.max_ngram:
            yield f"min_ngram: must be at most max_ngram ({self.max_ngram}), got {self.min_ngram}"


class NgramConfig(Section):
    """The sets of each label's most frequent 5-grams."""

    renamed_keys: ClassVar = {"most": "max_ngrams"}

    max_ngrams: PositiveInt = 8000
    """Maximum number of n-grams of one label."""
    size_bytes: Annotated[ByteSize, Field(ge=64)] = 1_200_000
    """Size of the filter that stores all of them."""


class WordFrequencyConfig(Section):
    """The table of the most frequent words of each label, for texts of a few words."""

    max_words: PositiveInt = 1200
    """Maximum number of words of one label."""
    max_listed_words: PositiveInt = 2500
    """The same for a label with a word list."""


class CalibrationConfig(Section):
    """How scores become an answer or `und`."""

    renamed_keys: ClassVar = {
        "held_out": "held_out_fraction",
        "most_held_out": "max_held_out",
        "left_out": "held_out_sources",
        "fewest_left": "min_training_lines",
        "most_left_out": "max_source_lines",
        "kept": "target_recall",
        "kept_short": "target_recall_short",
        "precision": "target_precision",
        "foreign_odds": "out_of_set_odds",
        "most_rejected": "max_rejected_fraction",
    }

    held_out_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """Fraction of the lines of every domain that is held out, for the card."""
    max_held_out: PositiveInt = 60
    """Maximum number of held-out lines of one label."""
    held_out_sources: tuple[Text, ...] = ("udhr", "tico19")
    """Sources that are held out for calibration where a label has plenty of other text."""
    min_training_lines: NonNegativeInt = 1000
    """A label is trained on such a source if it would have fewer lines without it."""
    retrain: bool = True
    """Train the model again, on all text, after the calibration; false ships the model that was
    calibrated, in half of the time. Its metrics on held-out sources are its own."""
    max_source_lines: PositiveInt = 150
    """Maximum number of texts of one label and held-out source."""
    target_recall: Fraction = 0.98
    """Fraction of the held-out texts whose best label is right (or a sibling) that must be named.
    Of languages with little text, which have no held-out text, fewer will be."""
    target_recall_short: Fraction = 0.8
    """The same for texts of one or two short words."""
    target_precision: Fraction = 0.9
    """Fraction of a label's accepted texts that must be right, out-of-set languages included."""
    out_of_set_odds: NonNegativeFloat = 20.0
    """Out-of-set texts per text of a label when precision is estimated."""
    max_rejected_fraction: FractionBelowOne = 0.02
    """Maximum fraction of a label's own texts that may become `und` to reach its precision."""


class LidConfig(RunConfig):
    """A language identifier to train."""

    renamed_keys: ClassVar = {
        "data": "data_dir",
        "noise": "out_of_set",
        "grams": "ngrams",
        "experts": "group_classifiers",
    }

    kind: Literal["lid"]
    """The kind of run."""
    data_dir: FilePath
    """Folder that the sources' paths start from."""
    sources: tuple[SourceConfig, ...]
    """Corpora of training text."""
    words: WordListConfig | None = None
    """Lists of frequent words; null reads none."""
    evaluation: tuple[FilePath, ...] = ()
    """Folders whose lines must not be in the training text."""
    on_overlap: Literal["drop", "refuse"] = "drop"
    """Drop and count training lines that are in `evaluation`, or refuse to train."""
    languages: tuple[Language, ...] = ()
    """Labels to train; empty trains every language of the table that the sources have text of."""
    out_of_set: OutOfSetConfig = OutOfSetConfig()
    """Out-of-set languages."""
    sampling: SamplingConfig = SamplingConfig()
    """Balance of labels and domains."""
    fasttext: FastTextConfig = FastTextConfig()
    """The classifier."""
    ngrams: NgramConfig = NgramConfig()
    """Frequent 5-grams."""
    word_frequencies: WordFrequencyConfig = WordFrequencyConfig()
    """Frequent words."""
    calibration: CalibrationConfig = CalibrationConfig()
    """Thresholds."""
    group_classifiers: bool = True
    """Train a second stage for the groups of `groups.tsv` whose members share domains."""
    licence: Text = "not stated"
    """Licence of the model, which follows from its text."""
    seed: NonNegativeInt = 1
    """Seed of sampling and training."""

    def cross_field_errors(self) -> Iterable[str]:
        """Yield what is wrong between fields."""
        if not self.sources:
            yield "sources: expected at least one corpus"
        for name in repeated(source.name for source in self.sources):
            yield f"sources: the name {name!r} is given twice"
        if len(self.languages) == 1:
            yield "languages: a single label; name two or more, or leave the list empty for all"
