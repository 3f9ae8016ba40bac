"""The configuration of a data run, from raw corpora to token shards."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from nllb.config.corpus import CorpusSection
from nllb.config.schema import (
    FilePath,
    Fraction,
    FractionBelowOne,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RenamedKey,
    RunConfig,
    Section,
    Text,
    per_mille,
    repeated,
)
from nllb.config.templates import template_places
from nllb.errors import ConfigError, LanguageError
from nllb.io.manifest import DataOrigin
from nllb.io.paths import is_plain_name
from nllb.languages import Language, parse_language

from .filtering.presets import threshold_errors

Format = Literal["moses", "tsv", "tmx", "parquet", "layout", "lines", "jsonl"]
EvaluationLayout = Literal["flores", "text", "lines", "pairs", "keyed", "messages", "tables"]
MONOLINGUAL_FORMATS: Final = frozenset({"lines", "jsonl", "layout"})
PLACEHOLDERS: Final = frozenset({"source", "target", "language"})
_VALID_PLACEHOLDERS: Final = "{source}, {target}, {language}"


class CorpusConfig(CorpusSection):
    """One corpus of bitext or, under `monolingual`, of documents."""

    path: Text
    """Path under `data_dir`. {source}, {target} and {language} stand for language codes; in such a
    path, * matches any part of a name, as in `mined/{source}-{target}.*.parquet`."""
    format: Format
    """moses: two line-aligned files; layout: a folder in a layout of `nllb.io.corpora`. For
    monolingual text: lines (one document per line), jsonl (objects with `text`), or layout."""
    pivots: tuple[Language, ...] = ()
    """Read only pairs with one of these languages. A format that aligns many languages pairs each
    of them with every pivot; its default pivot is English."""
    languages: tuple[Language, ...] = ()
    """Read only these languages; empty reads all. A TMX corpus requires its two languages here if
    its path does not contain {source} and {target}."""
    columns: tuple[Text, ...] = ()
    """Columns of source and target: numbers from 0 (tsv: 0, 1) or names (parquet)."""
    header: bool = False
    """Whether the first line of a TSV is a header."""
    margin_column: Text | None = None
    """Column of an embedding margin (tsv: number; parquet: name), for the filter of that name."""
    origin: DataOrigin = "primary"
    """primary, mined, mmt_bt or smt_bt; determines the source-side tag in training."""
    copies: PositiveInt = 1
    """Number of times that each training pair of this corpus counts in sampling."""
    interface: bool = False
    """Interface messages: wiki markup is resolved, and messages with other markup are rejected."""
    unknown_languages: Literal["error", "skip"] = "error"
    """Whether a file with an unknown language code in its name stops the run, or is skipped and
    reported. With `languages`, such files are always skipped."""
    bad_rows: Literal["error", "quarantine"] = "error"
    """Whether an unreadable row stops the run, or is counted and stored in quarantine.jsonl."""
    max_rows: PositiveInt | None = None
    """Read only this many rows of each file; for small runs."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield errors that concern several fields."""
        places = set()
        try:
            places = set(template_places(self.path))
        except ConfigError as error:
            yield f"path: {error}"
        for name in sorted(places - PLACEHOLDERS):
            yield f"path: unknown placeholder {{{name}}}; valid: {_VALID_PLACEHOLDERS}"
        if not is_plain_name(self.name):
            yield (
                f"name: {self.name!r} becomes a folder: use letters, digits, '.', '_' and '-', "
                "and not '.' or '..' alone"
            )
        if self.format == "moses" and "language" not in places:
            yield "path: moses requires {language} for the two files, as in europarl.{language}"
        if self.format == "layout" and places:
            yield "path: a layout is a folder; {source}, {target} and {language} are not allowed"
        pair_named = {"source", "target"} <= places or len(self.languages) == 2
        if self.format in ("tsv", "tmx", "parquet", "moses") and not pair_named:
            yield "path: name the pair with {source} and {target}, or give two `languages`"
        if self.format == "tsv" and not all(column.isdigit() for column in self.columns):
            yield f"columns: tsv requires numbers from 0, got {', '.join(self.columns)}"
        if len(self.columns) not in (0, 2):
            yield f"columns: expected two, source and target; got {len(self.columns)}"
        if self.format in ("lines", "jsonl") and places != {"language"}:
            yield "path: documents require {language} in the path, and no other placeholder"
        if self.origin == "denoising":
            yield "origin: denoising text comes from `monolingual`, not from bitext"


class EvaluationConfig(Section):
    """One evaluation set whose sentences must not appear in any output."""

    renamed_keys: ClassVar = {"least_words": "min_words"}

    name: Text
    """Name in the report."""
    path: Text
    """Folder under `data_dir`."""
    layout: EvaluationLayout = "text"
    """Layout of its files; text reads every line, split at tabs, of every file in the folder."""
    split: Text = "devtest"
    """Split, for FLORES."""
    min_words: Annotated[int, Field(ge=4)] = 4
    """Minimum number of words of a sentence that is also searched for inside longer lines. Sets of
    everyday sentences should use a higher number, because many unrelated lines begin alike."""


class HeldOutSetConfig(Section):
    """An evaluation set taken from one corpus; its sentences are removed from all training text."""

    corpus: Text
    """Name of the corpus."""
    pivot: Language
    """Language that one side of every pair is in."""
    pairs: PositiveInt = 200
    """Number of pairs of each language with the pivot, chosen by hash."""
    min_words: PositiveInt = 4
    """Minimum number of words on the pivot side, so that short sentences such as "Thank you." stay
    in the training text."""


class CleanConfig(Section):
    """How text is normalised."""

    unicode: Literal["none", "NFC", "NFKC"] = "NFC"
    """Unicode form; NLLB's own pipeline uses NFKC for monolingual text only."""
    punctuation: bool = True
    """Normalise punctuation as Moses does, which NLLB's vocabulary expects."""
    entities: bool = True
    """Resolve HTML entities such as &amp;."""
    markup: bool = True
    """Remove tags and, in interface corpora, resolve links, bold text and templates."""


class LanguageFilterConfig(Section):
    """Language identification of both sides."""

    model: FilePath | None = None
    """fastText model; null uses the one shipped with the package."""
    threshold: Fraction = 0.5
    """Minimum probability of the expected language; 0.5 is NLLB's default."""
    thresholds: dict[str, Fraction] = Field(default_factory=dict)
    """Thresholds of individual languages, by code."""
    excluded_languages: tuple[Language, ...] = ()
    """Languages that are not checked."""
    excluded_corpora: tuple[Text, ...] = ()
    """Corpora that are not checked."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield thresholds of unknown languages."""
        for code in self.thresholds:
            try:
                parse_language(code)
            except LanguageError as error:
                yield f"thresholds: {error}"


class ToxicityConfig(Section):
    """Word lists in the format of Toxicity-200."""

    directory: FilePath
    """Folder of CODE_twl.zip or CODE_twl.txt."""
    missing: Literal["error", "unmeasured"] = "error"
    """Whether a language without a list stops the run, or is reported as unmeasured."""
    always: FilePath | None = None
    """An additional list for both sides of every pair, such as an English one."""


class SimilarityFilterConfig(Section):
    """Similarity of meaning between both sides: the cosine of their sentence vectors."""

    encoder: Text = "default"
    """default, pretrained, static, the folder of an encoder of your own, a LASER checkpoint, or
    hub:NAME."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number type that a LASER model computes in."""
    threshold: float | None = None
    """Minimum cosine; null uses the threshold calibrated for the encoder."""


class FilterConfig(Section):
    """Filters; a rejected line keeps the first reason and all scores computed until then."""

    renamed_keys: ClassVar = {"set": "preset"}

    preset: Literal["reference", "strict"] = "strict"
    """reference: NLLB's filters, decisions and order; strict: additional filters."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Thresholds that replace those of the preset; existing scores are reused."""
    length_factors: FilePath | None = None
    """Table of language and factor; null uses the shipped one."""
    language: LanguageFilterConfig | None = None
    """Language identification; null disables it."""
    toxicity: ToxicityConfig | None = None
    """Toxicity; null disables it, and the statistics report that it was not measured."""
    similarity: SimilarityFilterConfig | None = None
    """Similarity of meaning by a sentence encoder; null disables it."""
    navigation: bool = False
    """Whether to reject lines that look like the navigation of a web page."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield thresholds that no filter of the preset uses."""
        yield from threshold_errors(self.preset, self.thresholds)


class DedupPassConfig(Section):
    """One pass of deduplication over the lines that the previous pass kept."""

    renamed_keys: ClassVar = {"at_most": "max_copies"}

    by: Literal["pair", "source", "target"]
    """The text that must be equal for two lines to be duplicates."""
    max_copies: PositiveInt = 1
    """Number of equal lines to keep."""


class NearDuplicateConfig(Section):
    """Near-duplicates by MinHash: texts that share most of their character n-grams.

    Two texts are compared by `bands` hashes of `rows_per_band` MinHash values each; they count as
    near-duplicates if any of these hashes are equal. With 20 bands of 10 values, this happens for
    90 % of texts with a Jaccard similarity of 0.8, for 43 % at 0.7, and for 2 % at 0.5.
    """

    by: Literal["pair", "source", "target"] = "pair"
    """The text that must be similar for two lines to be near-duplicates."""
    ngram: Annotated[int, Field(ge=2, le=16)] = 5
    """Length of the character n-grams; only letters and digits count."""
    bands: Annotated[int, Field(ge=1, le=256)] = 20
    """Number of hashes; more bands find less similar texts."""
    rows_per_band: Annotated[int, Field(ge=1, le=64)] = 10
    """MinHash values per hash; with more values, texts must be more similar."""


class DedupConfig(Section):
    """Deduplication by XXH3 of the normalised text, within a language pair, over all corpora."""

    passes: tuple[DedupPassConfig, ...] = (DedupPassConfig(by="pair"),)
    """The passes, in order; NLLB's order is pair, target, source."""
    normalization: Literal["standard", "letters"] = "standard"
    """standard: NLLB's form; letters: letters and digits only, which also finds near-duplicates."""
    bits: Literal[64, 128] = 64
    """Length of the hash. Over a billion lines, 64 bits lose one line to a collision in 3 % of
    runs."""
    winner: Literal["first", "best_margin"] = "first"
    """Keep the first line in the order of corpora and lines, or the best margin (ties: first)."""
    near_duplicates: NearDuplicateConfig | None = None
    """A final pass that drops near-duplicates; null disables it."""
    max_repetitions: PositiveInt | None = None
    """Drop all copies of a side that occurs in more lines than this, such as navigation text, in a
    first pass; null disables it."""


class MonolingualConfig(Section):
    """Monolingual documents, which are split into sentences."""

    corpora: tuple[CorpusConfig, ...]
    """The corpora; their order decides which of two equal sentences is kept."""
    language: LanguageFilterConfig | None = None
    """Language identification; null disables it and leaves the probability empty."""
    min_characters: PositiveInt = 10
    """Minimum length of a sentence."""
    max_characters: PositiveInt = 500
    """Maximum length of a sentence."""
    min_script_share: Fraction = 0.5
    """Minimum share of letters in the language's script."""
    max_punctuation_share: Fraction = 0.2
    """Maximum share of punctuation and symbols."""
    max_digit_share: Fraction = 0.2
    """Maximum share of digits."""
    max_run: PositiveInt = 20
    """Maximum length of a run of one character."""
    denoising: bool = False
    """Whether to write denoising shards from the sentences."""
    near_duplicates: NearDuplicateConfig | None = None
    """Drop near-duplicates within a language (`by` is ignored); null disables this."""
    max_repetitions: PositiveInt | None = None
    """Drop all copies of a sentence that occurs more often than this in its language, such as
    navigation text; null keeps one copy."""
    navigation: bool = False
    """Whether to reject sentences that look like the navigation of a web page."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield contradictory lengths."""
        if self.max_characters < self.min_characters:
            yield (
                f"max_characters: must be at least min_characters ({self.min_characters}), "
                f"got {self.max_characters}"
            )


class VocabularyConfig(Section):
    """The SentencePiece vocabulary."""

    model: FilePath | None = None
    """An existing SentencePiece model; null trains one."""
    name: Text = "spm:own"
    """Name in reports."""
    size: PositiveInt = 32000
    """Number of pieces to train."""
    character_coverage: Annotated[float, Field(gt=0, le=1)] = 0.9999
    """Fraction of the characters that are covered by pieces."""
    byte_fallback: bool = False
    """Encode characters without a piece as bytes, so that no text is unknown."""
    model_type: Literal["unigram", "bpe"] = "unigram"
    """Kind of SentencePiece model."""
    sample_lines: PositiveInt = 2_000_000
    """Lines to train on, sampled per language by temperature."""
    temperature: PositiveFloat = 5.0
    """Sampling temperature of these lines."""
    languages: tuple[Language, ...] = ()
    """Languages that get a token; empty uses all languages with text, sorted."""


class PhaseConfig(Section):
    """One phase of the curriculum."""

    until_step: PositiveInt | None = None
    """Optimizer step at which the phase ends; null is the end of training."""
    min_pairs: NonNegativeInt = 0
    """Train only on directions with at least this many pairs."""


class PrepareConfig(Section):
    """Token shards and manifest."""

    renamed_keys: ClassVar = {"held_out_per_mille": RenamedKey("held_out_fraction", per_mille)}

    vocabulary: VocabularyConfig = VocabularyConfig()
    """The vocabulary."""
    temperature: PositiveFloat = 5.0
    """Sampling temperature over directions."""
    held_out_fraction: FractionBelowOne = 0.005
    """Fraction of the lines that are held out as the `valid` split, chosen by hash."""
    min_pairs: NonNegativeInt = 1
    """Language pairs with fewer training pairs are excluded and reported."""
    phases: tuple[PhaseConfig, ...] = (PhaseConfig(),)
    """The curriculum; every phase includes all directions of the previous one."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield phases that are not nested or not in order."""
        if not self.phases:
            yield "phases: expected at least one"
        for before, after in pairwise(self.phases):
            if after.min_pairs > before.min_pairs:
                yield (
                    f"phases: min_pairs grows from {before.min_pairs} to {after.min_pairs}, but "
                    "a later phase includes all directions of the previous one"
                )
            if before.until_step is None or (after.until_step or 1 << 62) <= before.until_step:
                yield "phases: until_step must grow, and only the last phase may omit it"


class DataConfig(RunConfig):
    """A data run."""

    renamed_keys: ClassVar = {"shield": "decontamination"}

    kind: Literal["data"]
    """The kind of run."""
    corpora: tuple[CorpusConfig, ...]
    """The bitext; the order determines which of several duplicates is kept."""
    data_dir: FilePath = Path(".")
    """Folder that the paths of the corpora are relative to."""
    block_lines: PositiveInt = 100_000
    """Lines per block, the unit of work, resumption and memory."""
    clean: CleanConfig = CleanConfig()
    """Cleaning."""
    filter: FilterConfig = FilterConfig()
    """Filtering."""
    dedup: DedupConfig = DedupConfig()
    """Deduplication."""
    decontamination: tuple[EvaluationConfig, ...]
    """Evaluation sets that must not appear in any output; write an empty list to use none."""
    held_out_set: HeldOutSetConfig | None = None
    """An evaluation set taken from one of the corpora and written under OUT/held_out_set/; null
    writes none."""
    monolingual: MonolingualConfig | None = None
    """Monolingual text, if any."""
    prepare: PrepareConfig = PrepareConfig()
    """Vocabulary and shards."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield duplicate names, and formats that do not match the kind of text."""
        names = [corpus.name for corpus in self.corpora]
        for corpus in self.corpora:
            if corpus.format in ("lines", "jsonl"):
                yield f"corpora: {corpus.name} is monolingual ({corpus.format}); see `monolingual`"
        if self.monolingual is not None:
            names += [corpus.name for corpus in self.monolingual.corpora]
            for corpus in self.monolingual.corpora:
                if corpus.format not in MONOLINGUAL_FORMATS:
                    valid = ", ".join(sorted(MONOLINGUAL_FORMATS))
                    yield f"monolingual: {corpus.name} has format {corpus.format}; valid: {valid}"
        if self.held_out_set is not None:
            if self.held_out_set.corpus not in [corpus.name for corpus in self.corpora]:
                yield f"held_out_set: {self.held_out_set.corpus!r} is not a corpus of this run"
            if self.monolingual is not None:
                yield "held_out_set: cannot be combined with `monolingual`, which is read first"
        for name in repeated(names):
            yield f"corpora: the name {name!r} is given twice"
