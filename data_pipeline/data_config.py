"""The configuration of a data run: one YAML, from raw corpora to token shards."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from data_pipeline.filtering.presets import threshold_faults
from nllb.config import range_faults, repeated
from nllb.io.corpora import Layout
from nllb.io.shards import Origin
from nllb.languages import Language, parse_language

Format = Literal["moses", "tsv", "tmx", "parquet", "layout", "lines", "jsonl"]
MONOLINGUAL_FORMATS: Final = frozenset({"lines", "jsonl", "layout"})
PLACES: Final = frozenset({"source", "target", "language"})


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusConfig:
    """One corpus: bitext, or under `monolingual` documents."""

    name: str
    """Name in every table and report."""
    format: Format
    """moses: two line-aligned files; layout: a folder in a layout of `nllb.io.corpora`;
    monolingual: lines (a document a line), jsonl (objects with `text`) or layout."""
    path: str
    """Path under `data_dir`; {source}, {target}, {language} stand for codes, and where these do, *
    for any part of a name, as in `mined/{source}-{target}.*.parquet`."""
    layout: Layout | None = None
    """Layout of the folder, where its name does not tell."""
    pivots: tuple[Language, ...] = ()
    """Only pairs with one of these; a format that aligns many languages pairs each with these, and
    with English where none is given."""
    languages: tuple[Language, ...] = ()
    """Only these languages; all by default. A TMX without places in its path names its two."""
    columns: tuple[str, ...] = ()
    """Columns of source and target: numbers from 0 (tsv: 0, 1) or names (parquet)."""
    header: bool = False
    """Whether the first line of a TSV is a header."""
    margin_column: str | None = None
    """Column of an embedding margin (tsv: number; parquet: name), for the filter of that name."""
    origin: Origin = "primary"
    """primary, mined, mmt_bt or smt_bt: decides the tag on the source side in training."""
    licence: str = ""
    """Licence of the text; travels to the manifest and to model cards."""
    interface: bool = False
    """Interface messages: wiki markup is resolved and what cannot be resolved is rejected."""
    unknown_languages: Literal["error", "skip"] = "error"
    """A file whose name holds no known code stops the run, or is skipped and named in the result;
    where `languages` are given it is skipped."""
    bad_rows: Literal["error", "quarantine"] = "error"
    """A row that cannot be read stops the run, or is counted and kept in quarantine.jsonl."""
    max_rows: int | None = None
    """Read only so many rows of each file; for small runs."""

    def faults(self) -> Iterator[str]:
        """Yield what is wrong between fields."""
        places = set(re.findall(r"{(\w*)}", self.path))
        for place in sorted(places - PLACES):
            yield f"path: unknown place {{{place}}}; valid: {{source}}, {{target}}, {{language}}"
        if not re.fullmatch(r"[\w.-]+", self.name):
            yield f"name: {self.name!r} becomes a folder: letters, digits, '.', '_' and '-' only"
        if self.format == "moses" and "language" not in places:
            yield "path: moses needs {language} for the two files, as in europarl.{language}"
        if self.format == "layout" and places:
            yield "path: a layout is a folder, without places"
        pair_named = {"source", "target"} <= places or len(self.languages) == 2
        if self.format in ("tsv", "tmx", "parquet", "moses") and not pair_named:
            yield "path: name the pair by {source} and {target}, or give two `languages`"
        if self.format == "tsv" and not all(column.isdigit() for column in self.columns):
            yield f"columns: numbers from 0 for tsv, got {', '.join(self.columns)}"
        if len(self.columns) not in (0, 2):
            yield f"columns: two of them, source and target; got {len(self.columns)}"
        if self.format in ("lines", "jsonl") and places != {"language"}:
            yield "path: documents need {language} in the path, and no other place"
        if self.origin == "denoising":
            yield "origin: denoising text comes from `monolingual`, not from bitext"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """One evaluation set to keep out of everything."""

    name: str
    """Name in the report."""
    path: str
    """Folder under `data_dir`."""
    layout: Literal["flores", "text"] | Layout = "text"
    """How its files are arranged; text takes every line, cut at tabs, of every file below."""
    split: str = "devtest"
    """Split, for FLORES."""
    least_words: int = 4
    """Words that a sentence needs to be looked for inside longer lines, at least 4; everyday
    sentences want more, or they take many lines that merely begin alike."""

    def faults(self) -> Iterator[str]:
        """Yield numbers out of range."""
        yield from range_faults(self, "least_words", least=4)


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanConfig:
    """How text is brought to one form."""

    unicode: Literal["none", "NFC", "NFKC"] = "NFC"
    """Unicode form; NLLB's own pipeline uses NFKC for monolingual text only."""
    punctuation: bool = True
    """Moses punctuation, as NLLB's vocabulary needs it."""
    entities: bool = True
    """Resolve HTML entities such as &amp;."""
    markup: bool = True
    """Drop tags, and in interface corpora resolve links, bold and templates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageFilterConfig:
    """Language identification of both sides."""

    model: Path | None = None
    """fastText model; null takes the one that ships with the package."""
    threshold: float = 0.5
    """Least probability of the expected language; NLLB's default."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Thresholds of single languages, by code."""
    excluded_languages: tuple[Language, ...] = ()
    """Languages that are not checked."""
    excluded_corpora: tuple[str, ...] = ()
    """Corpora that are not checked."""

    def faults(self) -> Iterator[str]:
        """Yield numbers out of range."""
        yield from range_faults(self, "threshold", least=0, most=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToxicityConfig:
    """Word lists in the format of Toxicity-200."""

    directory: Path
    """Folder of CODE_twl.zip or CODE_twl.txt."""
    missing: Literal["error", "unmeasured"] = "error"
    """A language without a list: stop, or leave it unmeasured, which the statistics say."""
    always: Path | None = None
    """One more list for both sides of every pair, such as an English one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig:
    """What is filtered out; a line keeps the first reason and all scores taken until then."""

    set: Literal["reference", "strict"] = "strict"
    """reference: NLLB's filters, decisions and order; strict: ours."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Other thresholds than the set's; scores taken before are used again."""
    length_factors: Path | None = None
    """Table language, factor; null takes the shipped one."""
    language: LanguageFilterConfig | None = None
    """Language identification; null leaves it out."""
    toxicity: ToxicityConfig | None = None
    """Toxicity; null leaves it out, and the statistics say that it was not measured."""

    def faults(self) -> Iterator[str]:
        """Yield thresholds that no filter has."""
        yield from threshold_faults(self.set, self.thresholds)


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupPassConfig:
    """One pass over what the pass before has left."""

    by: Literal["pair", "source", "target"]
    """What must be equal for two lines to be duplicates."""
    at_most: int = 1
    """How many of the equal lines stay."""

    def faults(self) -> Iterator[str]:
        """Yield numbers out of range."""
        yield from range_faults(self, "at_most", least=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupConfig:
    """Deduplication by XXH3 of the normalised text, within a language pair, over all corpora."""

    passes: tuple[DedupPassConfig, ...] = (DedupPassConfig(by="pair"),)
    """The passes, in order; NLLB's order is pair, target, source."""
    normalization: Literal["standard", "letters"] = "standard"
    """standard: NLLB's form; letters: letters and digits alone, for near-duplicates."""
    bits: Literal[64, 128] = 64
    """Length of the hash; with 64, 1 G lines lose one line to chance in 3 of 100 runs."""
    winner: Literal["first", "best_margin"] = "first"
    """first by corpus and line, or the best margin (ties: the first)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MonolingualConfig:
    """Documents in, sentences out."""

    corpora: tuple[CorpusConfig, ...]
    """The corpora; their order decides which of two equal sentences stays."""
    language: LanguageFilterConfig | None = None
    """Language identification; null leaves it out and the probability empty."""
    min_characters: int = 10
    """Shortest sentence."""
    max_characters: int = 500
    """Longest sentence."""
    min_script_share: float = 0.5
    """Least share of letters in the language's script."""
    max_punctuation_share: float = 0.2
    """Largest share of punctuation and symbols."""
    max_digit_share: float = 0.2
    """Largest share of digits."""
    max_run: int = 20
    """Longest run of one character."""
    denoising: bool = False
    """Whether the sentences become denoising shards."""

    def faults(self) -> Iterator[str]:
        """Yield numbers out of range."""
        shares = ("min_script_share", "max_punctuation_share", "max_digit_share")
        yield from range_faults(self, *shares, least=0, most=1)
        yield from range_faults(self, "min_characters", "max_run", least=1)
        yield from range_faults(self, "max_characters", least=self.min_characters)


@dataclass(frozen=True, kw_only=True, slots=True)
class VocabularyConfig:
    """The SentencePiece vocabulary."""

    model: Path | None = None
    """An existing SentencePiece model; null trains one."""
    name: str = "spm:own"
    """Name in reports."""
    size: int = 32000
    """Pieces to train."""
    character_coverage: float = 0.9999
    """Share of characters that get a piece of their own."""
    byte_fallback: bool = False
    """Spell what has no piece in bytes, so that nothing is unknown."""
    model_type: Literal["unigram", "bpe"] = "unigram"
    """Kind of SentencePiece model."""
    sample_lines: int = 2_000_000
    """Lines to train on, drawn per language by temperature."""
    temperature: float = 5.0
    """Temperature of the draw."""
    languages: tuple[Language, ...] = ()
    """Language tokens; none takes the languages that have text, sorted."""

    def faults(self) -> Iterator[str]:
        """Yield numbers out of range."""
        yield from range_faults(self, "size", "sample_lines", least=1)
        yield from range_faults(self, "character_coverage", above=0, most=1)
        yield from range_faults(self, "temperature", above=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseConfig:
    """One phase of the curriculum."""

    until_step: int | None = None
    """Optimizer step at which it ends; null is the end of training."""
    min_pairs: int = 0
    """Only directions with at least so many pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareConfig:
    """Token shards and manifest."""

    vocabulary: VocabularyConfig = VocabularyConfig()
    """The vocabulary."""
    temperature: float = 5.0
    """Temperature of the sampling over directions."""
    held_out_per_mille: float = 5.0
    """Lines held out as the `valid` split, per thousand, chosen by hash."""
    min_pairs: int = 1
    """Language pairs with fewer training pairs are left out, and said."""
    phases: tuple[PhaseConfig, ...] = (PhaseConfig(),)
    """The curriculum; every phase holds all directions of the one before."""

    def faults(self) -> Iterator[str]:
        """Yield numbers out of range, and phases that are not nested or not in order."""
        yield from range_faults(self, "temperature", above=0)
        yield from range_faults(self, "held_out_per_mille", least=0, below=1000)
        if not self.phases:
            yield "phases: at least one"
        for before, after in pairwise(self.phases):
            if after.min_pairs > before.min_pairs:
                yield (
                    f"phases: min_pairs grows from {before.min_pairs} to {after.min_pairs}; "
                    "a later phase holds all directions of the one before"
                )
            if before.until_step is None or (after.until_step or 1 << 62) <= before.until_step:
                yield "phases: until_step must grow, and only the last phase may lack it"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """A data run."""

    kind: Literal["data"]
    """The sort of run."""
    corpora: tuple[CorpusConfig, ...]
    """The bitext; the order decides which of two duplicates stays."""
    data_dir: Path = Path(".")
    """Folder that the corpora's paths start from."""
    block_lines: int = 100_000
    """Lines in one block, the unit of work, of resuming and of memory."""
    clean: CleanConfig = CleanConfig()
    """Cleaning."""
    filter: FilterConfig = FilterConfig()
    """Filtering."""
    dedup: DedupConfig = DedupConfig()
    """Deduplication."""
    shield: tuple[EvaluationConfig, ...]
    """Evaluation sets that are kept out of everything; an empty list must be written out."""
    monolingual: MonolingualConfig | None = None
    """Monolingual text, if any."""
    prepare: PrepareConfig = PrepareConfig()
    """Vocabulary and shards."""

    def faults(self) -> Iterator[str]:
        """Yield names that stand twice and thresholds of unknown languages."""
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
        for name in repeated(names):
            yield f"corpora: the name {name!r} stands twice"
        yield from range_faults(self, "block_lines", least=1)
        sections = [self.filter.language]
        if self.monolingual is not None:
            sections.append(self.monolingual.language)
        for section in sections:
            for code in section.thresholds if section is not None else ():
                parse_language(code)
