"""The set `reference` decides as NLLB's pipeline does, line by line, on 15,000 real pairs.

The reference here is written plainly from the description of the published pipeline: one line at a
time, nothing shared with the package but the form for hashing, the length factors and the detector.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars
import pytest
import regex
import xxhash

from data_pipeline.blocks import DecidedBlock, read_columns, write_decisions
from data_pipeline.data_config import (
    DataConfig,
    DedupConfig,
    DedupPassConfig,
    FilterConfig,
    LanguageFilterConfig,
    ToxicityConfig,
)
from data_pipeline.deduplication.external import deduplicate
from data_pipeline.filtering.filter_stage import FilterChain
from data_pipeline.filtering.filters import Pair
from data_pipeline.filtering.length_factors import FACTORS_PATH, read_length_factors
from data_pipeline.stages import Machine
from nllb.io.corpora import open_corpus
from nllb.languages.normalization import normalize_for_hashing

NUM_PAIRS = 15_000
THRESHOLD = 0.5
_SPLIT = regex.compile(r"(\p{P}|\p{S}|\p{Han})")


@pytest.fixture(scope="module")
def real_pairs(data_dir: Path) -> list[tuple[str, str]]:
    """English and French: everyday sentences and dirty interface messages, with duplicates."""
    pairs: list[tuple[str, str]] = []
    for name, count in (("mediawiki", 7000), ("tatoeba", 7000)):
        found = open_corpus(data_dir / name).pairs("eng_Latn", "fra_Latn")
        pairs += [
            (" ".join(pair.source.text.split("\n")), " ".join(pair.target.text.split("\n")))
            for _, pair in zip(range(count), found, strict=False)
        ]
    assert len(pairs) == 14_000
    # What the corpora lack: near copies, wrong language, empty, swapped and very uneven lines.
    for number, (source, target) in enumerate(pairs[:8000:8]):
        kinds = (
            (source.upper(), target),
            (target, source),
            (source, source),
            (source, "" if number % 2 else "!"),
            (source * 12, target),
        )
        pairs.append(kinds[number % 5])
    assert len(pairs) == NUM_PAIRS
    return pairs


@pytest.fixture(scope="module")
def lists(real_pairs: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-in lists of 400 neutral words a side, common enough to matter."""
    directory = tmp_path_factory.mktemp("lists")
    for side, code in enumerate(("eng_Latn", "fra_Latn")):
        counts = Counter(
            word for pair in real_pairs for word in regex.findall(r"\p{Ll}{4,}", pair[side].lower())
        )
        words = [word for word, _ in counts.most_common(460)[60:]]
        (directory / f"{code}_twl.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return directory


def spaced(text: str) -> str:
    return " " + " ".join(_SPLIT.sub(r" \1 ", text.strip()).split()) + " "


def toxicity(text: str, words: Sequence[str]) -> int:
    cased = spaced(text)
    lowered = cased.lower()
    return max(
        sum(f" {word} " in cased for word in words), sum(f" {word} " in lowered for word in words)
    )


def reference_decisions(
    pairs: Sequence[tuple[str, str]], lists: Path, detector: Any
) -> Iterator[str | None]:
    """Yield why each line is rejected, or None, one line after the other."""
    codes = ("eng_Latn", "fra_Latn")
    factors = read_length_factors(FACTORS_PATH)
    words = [(lists / f"{code}_twl.txt").read_text("utf-8").split() for code in codes]
    seen: set[int] = set()
    targets: Counter[int] = Counter()
    sources: Counter[int] = Counter()

    def decide(pair: tuple[str, str]) -> str | None:
        if not pair[0] or not pair[1]:
            return "empty"
        lengths = []
        for text, code in zip(pair, codes, strict=True):
            length = max(1, len(text) * factors[code])
            if length < 1:
                return "too_short"
            if length > 1050:
                return "too_long"
            lengths.append(length)
        if max(lengths) / min(lengths) > 9:
            return "length_ratio"
        for text, code, side in zip(pair, codes, ("source", "target"), strict=True):
            detection = detector.detect(text)
            probabilities = {detection.language: detection.probability}
            probabilities |= dict(detection.alternatives)
            if probabilities.get(code, 0.0) < THRESHOLD:
                return f"{side}_language"
        counts = [toxicity(text, listed) for text, listed in zip(pair, words, strict=True)]
        if abs(counts[0] - counts[1]) > 2:
            return "toxicity_imbalance"
        source, target = map(normalize_for_hashing, pair)
        digest = xxhash.xxh3_64_intdigest(f"{source}\t{target}".encode())
        if digest in seen:
            return "duplicate_pair"
        seen.add(digest)
        for text, counter, side in ((target, targets, "target"), (source, sources, "source")):
            digest = xxhash.xxh3_64_intdigest(text.encode())
            if counter[digest] >= 3:
                return f"duplicate_{side}"
            counter[digest] += 1
        return None

    yield from map(decide, pairs)


def test_decisions_are_the_reference_s_on_every_line(
    real_pairs: list[tuple[str, str]],
    lists: Path,
    word_detector: Any,
    make_block: Callable[..., Any],
    make_config: Callable[..., DataConfig],
    tmp_path: Path,
    machine: Machine,
) -> None:
    section = FilterConfig(
        preset="reference",
        language=LanguageFilterConfig(threshold=THRESHOLD),
        toxicity=ToxicityConfig(directory=lists),
    )
    chain = FilterChain(section, word_detector)
    scored = []
    for number, start in enumerate(range(0, NUM_PAIRS, 4000)):
        sources, targets = zip(*real_pairs[start : start + 4000], strict=True)
        block = make_block(sources, targets, name=f"real/eng_Latn-fra_Latn/{number:05d}")
        text = read_columns(block.path)
        before = text["reason"].cast(polars.String)
        pair = Pair(source="eng_Latn", target="fra_Latn", corpus="real")
        scores, reason = chain.run(text, pair, before)
        decisions = tmp_path / f"filtered{number}.parquet"
        write_decisions(decisions, text, before.is_null(), reason, scores=scores)
        scored.append(DecidedBlock(block=block, decisions=(block.path, decisions)))
    passes = (
        DedupPassConfig(by="pair"),
        DedupPassConfig(by="target", max_copies=3),
        DedupPassConfig(by="source", max_copies=3),
    )
    config = make_config(dedup=DedupConfig(passes=passes))
    deduplicated = deduplicate(config, scored, tmp_path / "out", machine)
    ours: list[str | None] = []
    for item, block in zip(scored, deduplicated, strict=True):
        columns = [
            read_columns(path, ["reason"])["reason"].cast(polars.String)
            for path in (item.decisions[1], block.path)
        ]
        ours += polars.select(polars.coalesce(columns)).to_series().to_list()

    reference = list(reference_decisions(real_pairs, lists, word_detector))
    differing = [
        (line, pair, want, got)
        for line, (pair, want, got) in enumerate(zip(real_pairs, reference, ours, strict=True))
        if want != got
    ]
    assert differing == []
    # Every rule that the reference has must have had something to decide.
    counts = Counter(reference)
    for reason in (
        None,
        "empty",
        "too_long",
        "length_ratio",
        "source_language",
        "target_language",
        "toxicity_imbalance",
        "duplicate_pair",
        "duplicate_target",
        "duplicate_source",
    ):
        assert counts[reason] > 0, (reason, counts)
