"""The filter stage, which measures scores, rejects lines, and stores scores and reasons."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Final

import polars

from data_pipeline.blocks import read_columns, read_facts, write_decisions
from data_pipeline.data_config import DataConfig, FilterConfig
from data_pipeline.stages import Block, BlockTask, Machine, run_tasks
from nllb.config.fingerprints import file_fingerprint, fingerprint
from nllb.languages.detection import Detector

from . import filters
from .detectors import detector_key
from .filters import Filter, Pair
from .languages import LanguageFilter
from .length_factors import FACTORS_PATH, read_length_factors
from .presets import FILTER_PRESETS
from .toxicity import ToxicityFilter, list_files

VERSION = 2
STAGE = "filter"
OPTIONAL_FILTERS: Final = ("toxicity", "navigation", "language", "similarity")
"""Filters that run only if they are configured."""
MAX_SWAPPED_SHARE: Final = 0.2
"""Above this share of swapped lines, a whole file is probably swapped."""
_LOG: Final = logging.getLogger("nllb.data")


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterTask(BlockTask):
    """Filter one block.

    Attributes:
        text: the cleaned text.
        config: the filters.
        interface: whether the corpus consists of interface messages.
        scores_key: hash of everything that the scores depend on, so not of the thresholds.
    """

    text: Block
    config: FilterConfig
    interface: bool
    scores_key: str


class FilterChain:
    """The filters of a configuration, in order."""

    def __init__(self, config: FilterConfig, detector: Detector | None = None) -> None:
        """Build the filters; `detector` replaces the configured model."""
        chosen = FILTER_PRESETS[config.preset]
        self.thresholds: Mapping[str, float] = {**chosen.thresholds, **config.thresholds}
        factors = read_length_factors(config.length_factors or FACTORS_PATH)
        made: dict[str, Filter] = {
            "empty": filters.empty_filter(),
            "length": filters.length_filter(factors),
            "copy": filters.copy_filter(),
            "script": filters.script_filter(),
            "placeholders": filters.placeholder_filter(),
            "urls": filters.url_filter(),
            "numbers": filters.number_filter(),
            "repetition": filters.RepetitionFilter(),
            "margin": filters.margin_filter(),
        }
        if config.toxicity is not None:
            made["toxicity"] = ToxicityFilter(config.toxicity)
        if config.navigation:
            made["navigation"] = filters.navigation_filter()
        if config.language is not None:
            made["language"] = LanguageFilter(
                config.language, detector, name_swapped=chosen.name_swapped
            )
        if config.similarity is not None:
            made["similarity"] = _similarity().SimilarityFilter(config.similarity)
        assert {*chosen.order} <= {*made, *OPTIONAL_FILTERS}, "a preset names an unknown filter"
        self.filters: list[tuple[str, Filter]] = [
            (name, made[name]) for name in chosen.order if name in made
        ]

    def run(
        self,
        rows: polars.DataFrame,
        pair: Pair,
        before: polars.Series,
        known: polars.DataFrame | None = None,
    ) -> tuple[polars.DataFrame, polars.Series]:
        """Filter rows; return the scores and the new reasons.

        Args:
            rows: columns source, target and margin.
            pair: languages and corpus of the rows.
            before: reasons of earlier stages; rows that have one are not measured.
            known: scores of an earlier run of the same filters; only missing scores are measured.
        """
        reason = before
        columns: list[polars.Series] = []
        for name, one in self.filters:
            flag = f"measured_{name}"
            measured = polars.repeat(False, len(rows), dtype=polars.Boolean, eager=True)
            scores = polars.DataFrame(
                {
                    column: polars.Series([None], dtype=kind).new_from_index(0, len(rows))
                    for column, kind in one.columns.items()
                }
            )
            if known is not None and flag in known.columns:
                measured, scores = known[flag], known.select(list(one.columns))
            missing = reason.is_null() & ~measured
            if missing.all():
                scores = one.measure(rows, pair)
            elif missing.any():
                scores = _filled(scores, one.measure(rows.filter(missing), pair), missing)
            columns += [*scores.get_columns(), (measured | missing).alias(flag)]
            for text, rejects in one.judge(self.thresholds, pair):
                hit = scores.select(rejects.fill_null(False).alias("hit"))["hit"]
                if hit.any():
                    reason = (
                        polars.DataFrame({"reason": reason, "hit": hit})
                        .select(
                            polars.when(polars.col("reason").is_null() & polars.col("hit"))
                            .then(polars.lit(text))
                            .otherwise(polars.col("reason"))
                            .alias("reason")
                        )
                        .to_series()
                    )
        new = polars.DataFrame({"before": before, "reason": reason}).select(
            polars.when(polars.col("before").is_null()).then(polars.col("reason")).alias("reason")
        )
        return polars.DataFrame(columns), new.to_series()


def _similarity() -> ModuleType:
    """Import the similarity filter only where it is used, because it imports torch."""
    """Return the corpora and pairs with many swapped lines, and the fraction of these lines."""
    from . import similarity

    return similarity


def _filled(
    scores: polars.DataFrame, new: polars.DataFrame, missing: polars.Series
) -> polars.DataFrame:
    """Insert the scores of newly measured rows."""
    places = missing.arg_true()
    return scores.select(scores[column].scatter(places, new[column]) for column in scores.columns)


def filter_tasks(config: DataConfig, cleaned: Sequence[Block], out: Path) -> list[FilterTask]:
    """Return the tasks of the stage."""
    section = config.filter
    factors = file_fingerprint(section.length_factors or FACTORS_PATH)
    model = "" if section.language is None else detector_key(section.language.model)
    if section.similarity is not None:
        model += _similarity().similarity_key(section.similarity)
    interface = {corpus.name for corpus in config.corpora if corpus.interface}
    tasks = []
    for text in cleaned:
        lists: list[str] = []
        if section.toxicity is not None:
            files = list_files(section.toxicity, (text.source, text.target))
            lists = [_file_hash(path) for path in files]
        scores_key = fingerprint(text.key, VERSION, factors, model, lists, _excluded(section))
        optional = [section.similarity, section.navigation]
        key = fingerprint(
            scores_key, section.preset, section.thresholds, section.language, optional
        )
        path = out / STAGE / f"{text.name}.{scores_key}.{key}.parquet"
        tasks.append(
            FilterTask(
                text=text,
                block=dataclasses.replace(text, key=key, path=path),
                config=section,
                interface=text.corpus in interface,
                scores_key=scores_key,
            )
        )
    return tasks


def filter_bitext(
    config: DataConfig, cleaned: Sequence[Block], out: Path, machine: Machine
) -> list[Block]:
    """Filter all blocks and return the blocks of decisions."""
    tasks = filter_tasks(config, cleaned, out)
    run_tasks("filter", tasks, filter_block, machine)
    blocks = [task.block for task in tasks]
    for pair, share in swapped_pairs(blocks).items():
        _LOG.warning(
            "%s: %.0f %% of the lines have swapped sides; swap the languages in the file's name, "
            "or the two columns",
            pair,
            100 * share,
        )
    return blocks


def swapped_pairs(blocks: Sequence[Block]) -> dict[str, float]:
    """Return the corpora and pairs of which many lines have swapped sides, and the share."""
    counts: dict[str, list[int]] = {}
    for block in blocks:
        if block.path.exists():
            facts = read_facts(block.path)
            total = counts.setdefault(f"{block.corpus}/{block.source}-{block.target}", [0, 0])
            total[0] += facts["reasons"].get(filters.SWAPPED_SIDES, 0)
            total[1] += facts["rows_in"]
    return {
        name: swapped / rows
        for name, (swapped, rows) in counts.items()
        if rows and swapped / rows > MAX_SWAPPED_SHARE
    }


def filtered_blocks(config: DataConfig, cleaned: Sequence[Block], out: Path) -> list[Block]:
    """Return the blocks of decisions, finished or not."""
    return [task.block for task in filter_tasks(config, cleaned, out)]


def filter_block(task: FilterTask) -> None:
    """Filter one block."""
    chain = _chain(task.config)
    text = read_columns(task.text.path, ["source", "target", "line", "margin", "reason"])
    before = text["reason"].cast(polars.String)
    pair = Pair(
        source=task.text.source,
        target=task.text.target,
        corpus=task.text.corpus,
        interface=task.interface,
    )
    scores, reason = chain.run(text, pair, before, _earlier_scores(task))
    unmeasured = {
        name: int((before.is_null() & scores[name].is_null()).sum())
        for name in ("source_toxicity", "target_toxicity")
        if name in scores.columns
    }
    write_decisions(
        task.output,
        text,
        before.is_null(),
        reason,
        scores=scores,
        more={"toxicity_lists": _lists_of(task), "null_scores": unmeasured},
    )


def _lists_of(task: FilterTask) -> dict[str, bool]:
    if task.config.toxicity is None:
        return {}
    languages = (task.text.source, task.text.target)
    return {code: bool(list_files(task.config.toxicity, (code,))) for code in languages}


def _earlier_scores(task: FilterTask) -> polars.DataFrame | None:
    """Return the scores of an earlier run that differed only in its thresholds, if there is one."""
    stem = task.output.name.split(".", 1)[0]
    for path in sorted(task.output.parent.glob(f"{stem}.{task.scores_key}.*.parquet")):
        return read_columns(path).drop("reason")
    return None


_CHAINS: dict[str, FilterChain] = {}


def _chain(config: FilterConfig) -> FilterChain:
    """Build the filters once per process, because they load models and word lists."""
    key = fingerprint(config)
    if key not in _CHAINS:
        _CHAINS[key] = FilterChain(config)
    return _CHAINS[key]


@lru_cache(maxsize=1024)
def _file_hash(path: Path) -> str:
    return file_fingerprint(path)


def _excluded(section: FilterConfig) -> list[str]:
    if section.language is None:
        return []
    languages = [language.code for language in section.language.excluded_languages]
    return [*languages, "|", *section.language.excluded_corpora]
