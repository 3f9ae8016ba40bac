"""The monolingual stage, which turns documents into clean sentences of each language.

Documents are split into sentences. The sentences are cleaned, filtered by rules and by language
identification, decontaminated, and deduplicated within their language. Mining, back-translation,
denoising and the training of language identification read the resulting Parquet files under
`sentences/LANGUAGE/`. Their columns are text, language, probability, document (line of the corpus
file) and line (number of the sentence in its block).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars
import pyarrow
from polars import Expr, col

from nllb.config.fingerprints import fingerprint
from nllb.languages import parse_language
from nllb.languages.segmentation import split_sentences

from .blocks import (
    DecidedBlock,
    decision_facts,
    read_columns,
    read_facts,
    reasons,
    write_table,
)
from .cleaning.clean_text import clean_columns
from .data_config import (
    CleanConfig,
    DataConfig,
    DedupConfig,
    DedupPassConfig,
    MonolingualConfig,
)
from .decontamination.decontaminate import STAGE as DECONTAMINATION_STAGE
from .decontamination.evaluation_sets import (
    evaluation_key,
    index_sets,
    open_evaluation_index,
)
from .deduplication.external import PHASES as DEDUP_PHASES
from .deduplication.external import deduplicate, deduplicated_blocks
from .filtering.detectors import detector_key
from .filtering.filters import (
    Pair,
    letters_in,
    longest_runs,
    looks_like_navigation,
)
from .filtering.languages import LanguageFilter
from .readers.ingestion import ingested_blocks
from .stages import (
    Block,
    BlockTask,
    Machine,
    Phase,
    require,
    require_phase,
    run_tasks,
)

VERSION = 1
STAGE = "monolingual"
PHASES: Final[tuple[Phase, ...]] = ("split", *DEDUP_PHASES)
SENTENCE_SCHEMA = pyarrow.schema(
    [
        ("text", pyarrow.large_string()),
        ("language", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("probability", pyarrow.float32()),
        ("document", pyarrow.int64()),
        ("line", pyarrow.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitTask(BlockTask):
    """Split one block of documents into sentences and filter them.

    Attributes:
        raw: the documents.
        config: rules for the sentences.
        clean: the cleaning options.
        index: the index of the evaluation sets.
    """

    raw: Block
    config: MonolingualConfig
    clean: CleanConfig
    index: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceTask(BlockTask):
    """Write the sentences of one block that are kept.

    Attributes:
        filtered: the sentences and the reasons of the rejected ones.
        decisions: the decisions of deduplication.
    """

    filtered: Block
    decisions: Path


def make_sentences(
    config: DataConfig, out: Path, machine: Machine, phase: Phase | None = None
) -> list[Block]:
    """Run all phases, or the given one, and return the blocks that it writes.

    Raises:
        ConfigError: if one shard of several is asked to run all phases.
    """
    require_phase(STAGE, PHASES, phase, machine)
    if phase in (None, "split"):
        index_sets(config.decontamination, config.data_dir, out / DECONTAMINATION_STAGE)
        splits = _split_tasks(config, out)
        run_tasks("monolingual split", splits, split_block, machine)
        if phase == "split":
            return [task.block for task in splits]
    filtered = [task.block for task in _split_tasks(config, out)]
    require(filtered, f"{STAGE} --phase split")
    deduplicate(*_dedup_arguments(config, filtered, out), machine, phase)
    tasks = _sentence_tasks(config, filtered, out)
    if phase in (None, "apply"):
        run_tasks("monolingual sentences", tasks, write_sentences, machine)
    return [task.block for task in tasks]


def sentence_blocks(config: DataConfig, out: Path) -> list[Block]:
    """Return the blocks of sentences, finished or not."""
    filtered = [task.block for task in _split_tasks(config, out)]
    require(filtered, STAGE)
    return [task.block for task in _sentence_tasks(config, filtered, out)]


def blocks_and_decisions(config: DataConfig, out: Path) -> list[tuple[Block, Block]]:
    """Return the blocks of filtered sentences, each with its block of deduplication decisions."""
    filtered = [task.block for task in _split_tasks(config, out)]
    return [(task.filtered, task.block) for task in _sentence_tasks(config, filtered, out)]


def _split_tasks(config: DataConfig, out: Path) -> list[SplitTask]:
    section = config.monolingual
    if section is None:
        return []
    rules = section.replace(corpora=(), denoising=False, near_duplicates=None, max_repetitions=None)
    model = "" if section.language is None else detector_key(section.language.model)
    sets = evaluation_key(config.decontamination, config.data_dir)
    what = [VERSION, fingerprint(rules, config.clean), model, sets]
    tasks = []
    for raw in ingested_blocks(config, out, monolingual=True):
        block = raw.derive(out / STAGE / "judged", STAGE, *what)
        if block.path.exists():
            block = dataclasses.replace(block, num_rows=int(read_facts(block.path)["rows_in"]))
        tasks.append(
            SplitTask(
                raw=raw,
                block=block,
                config=section,
                clean=config.clean,
                index=out / DECONTAMINATION_STAGE / f"index.{sets}",
            )
        )
    return tasks


def _dedup_arguments(
    config: DataConfig, filtered: Sequence[Block], out: Path
) -> tuple[DataConfig, list[DecidedBlock], Path]:
    section = config.monolingual
    near = None if section is None else section.near_duplicates
    dedup = DedupConfig(
        passes=(DedupPassConfig(by="source"),),
        normalization=config.dedup.normalization,
        bits=config.dedup.bits,
        near_duplicates=None if near is None else near.replace(by="source"),
        max_repetitions=None if section is None else section.max_repetitions,
    )
    decided = [DecidedBlock(block=block, decisions=(block.path,)) for block in filtered]
    return config.replace(dedup=dedup), decided, out / STAGE


def _sentence_tasks(config: DataConfig, filtered: Sequence[Block], out: Path) -> list[SentenceTask]:
    decisions = deduplicated_blocks(*_dedup_arguments(config, filtered, out))
    tasks = []
    for block, decided in zip(filtered, decisions, strict=True):
        key = fingerprint(decided.key, VERSION)
        name = f"{block.source}/{block.name.replace('/', '.')}"
        path = out / STAGE / "sentences" / f"{name}.{key}.parquet"
        kept = dataclasses.replace(block, name=name, key=key, path=path)
        tasks.append(SentenceTask(filtered=block, decisions=decided.path, block=kept))
    return tasks


def split_block(task: SplitTask) -> None:
    """Split, clean and filter one block of documents."""
    language = parse_language(task.raw.source)
    texts: list[str] = []
    documents: list[int] = []
    for text, line in read_columns(task.raw.path, ["source", "line"]).iter_rows():
        for sentence in split_sentences(text, language):
            if sentence.strip():
                texts.append(sentence.strip())
                documents.append(line)
    rows = polars.DataFrame(
        {"source": texts, "document": documents},
        schema={"source": polars.String, "document": polars.Int64},
    )
    rows = clean_columns(rows, ["source"], task.clean, interface=False)
    rows = rows.with_columns(
        line=polars.int_range(1, len(rows) + 1),
        target=polars.lit(""),
        run=longest_runs(rows["source"]),
    )
    reason = rows.select(_rule(task.config, language.script).alias("reason")).to_series()
    probability = polars.Series("probability", [None] * len(rows), dtype=polars.Float32)
    if task.config.language is not None:
        reason, probability = _identify(task, rows, reason)
    reason = _decontaminate(task, rows, reason)
    alive = polars.repeat(True, len(rows), dtype=polars.Boolean, eager=True)
    table = (
        rows.select("source", "target", "line", "document")
        .with_columns(probability, reason.cast(polars.Categorical).alias("reason"))
        .to_arrow()
    )
    write_table(task.output, table, decision_facts(rows, alive, reason))


def _rule(config: MonolingualConfig, script: str) -> Expr:
    text = col("source")
    length = text.str.len_chars()
    dense = polars.max_horizontal(1, text.str.count_matches(r"\S"))
    letters = polars.max_horizontal(1, text.str.count_matches(r"\p{L}"))
    in_script = text.str.count_matches(letters_in(script))
    rules = [
        ("too_short", length < config.min_characters),
        ("too_long", length > config.max_characters),
        ("script", in_script / letters < config.min_script_share),
        (
            "punctuation",
            text.str.count_matches(r"[\p{P}\p{S}]") / dense > config.max_punctuation_share,
        ),
        ("digits", text.str.count_matches(r"\p{N}") / dense > config.max_digit_share),
        ("repetition", col("run") > config.max_run),
    ]
    if config.navigation:
        rules.append(("navigation", looks_like_navigation(text)))
    found = polars.lit(None, dtype=polars.String)
    for name, rejects in reversed(rules):
        found = polars.when(rejects).then(polars.lit(name)).otherwise(found)
    return found


def _identify(
    task: SplitTask, rows: polars.DataFrame, reason: polars.Series
) -> tuple[polars.Series, polars.Series]:
    assert task.config.language is not None
    detector = LanguageFilter(task.config.language)
    alive = reason.is_null()
    pair = Pair(source=task.raw.source, target=task.raw.source, corpus=task.raw.corpus)
    scores = detector.measure_side(rows.filter(alive)["source"], pair.source, pair)
    probability = polars.Series("probability", [None] * len(rows), dtype=polars.Float32)
    probability = probability.scatter(alive.arg_true(), scores[1])
    low = (probability < detector.threshold(task.raw.source)).fill_null(False)
    joined = polars.DataFrame({"reason": reason, "low": low}).select(
        polars.when("low").then(polars.lit("language")).otherwise("reason").alias("reason")
    )
    return joined.to_series(), probability.alias("probability")


def _decontaminate(task: SplitTask, rows: polars.DataFrame, reason: polars.Series) -> polars.Series:
    evaluation = open_evaluation_index(task.index)
    alive = reason.is_null().arg_true().to_list()
    reasons = reason.to_list()
    for row, match in zip(alive, evaluation.find(rows["source"].gather(alive)), strict=True):
        if match is not None:
            reasons[row] = f"evaluation_{match.kind}"
    return polars.Series("reason", reasons, dtype=polars.String)


def _short_reasons(counts: dict[str, int]) -> dict[str, int]:
    """Return the reasons without the name of the side, because a sentence has only one side."""
    return {reason.removesuffix("_source"): count for reason, count in counts.items()}


def write_sentences(task: SentenceTask) -> None:
    """Write the sentences of one block that are kept."""
    rows = read_columns(task.filtered.path, ["source", "probability", "document", "line"])
    kept = rows.filter(reasons([task.filtered.path, task.decisions]).is_null())
    count = len(kept)
    language = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * count, pyarrow.int32()), pyarrow.array([task.filtered.source])
    )
    table = pyarrow.table(
        [
            kept["source"].to_arrow().cast(pyarrow.large_string()),
            language,
            kept["probability"].to_arrow(),
            kept["document"].to_arrow(),
            kept["line"].to_arrow(),
        ],
        schema=SENTENCE_SCHEMA,
    )
    filtered = int(reasons([task.filtered.path]).is_null().sum())
    facts = {
        "rows_in": filtered,
        "rows_out": count,
        "reasons": _short_reasons(read_facts(task.decisions)["reasons"]),
    }
    write_table(task.output, table, facts)
