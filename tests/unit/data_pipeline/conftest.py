"""Blocks, configurations and a stand-in detector for the tests of the data pipeline."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import polars
import pytest

from data_pipeline.blocks import text_table, write_table
from data_pipeline.data_config import CorpusConfig, DataConfig
from data_pipeline.stages import Block, Machine
from nllb.languages.detection import Detection

MakeBlock = Callable[..., Block]


class WordDetector:
    """Tells English from French by their smallest words; deterministic and a little uncertain."""

    words: ClassVar = {
        "eng_Latn": frozenset(
            "the of and to in is was he for it with as his on be at by i you".split()
        ),
        "fra_Latn": frozenset("le la les de des et à il en un une est que je ne pas du ce".split()),
    }

    def __init__(self) -> None:
        self.asked: list[str] = []

    def detect(self, text: str) -> Detection:
        """Weigh the words of both languages."""
        found = text.lower().split()
        votes = {code: sum(word in words for word in found) for code, words in self.words.items()}
        total = sum(votes.values())
        shares = {code: (vote + 0.1) / (total + 0.2) for code, vote in votes.items()}
        best = max(shares, key=lambda code: shares[code])
        return Detection(
            language=best,
            probability=shares[best],
            alternatives=tuple((code, share) for code, share in shares.items() if code != best),
        )

    def detect_batch(self, texts: Sequence[str]) -> list[Detection]:
        """Detect each text."""
        self.asked += texts
        return [self.detect(text) for text in texts]


@pytest.fixture
def word_detector() -> WordDetector:
    return WordDetector()


@pytest.fixture
def machine() -> Machine:
    return Machine(quiet=True)


@pytest.fixture
def make_block(tmp_path: Path) -> MakeBlock:
    """Return a function that writes a block of cleaned text."""

    def make(
        sources: Sequence[str],
        targets: Sequence[str],
        *,
        name: str = "corpus/eng_Latn-fra_Latn/00000",
        margins: Sequence[float | None] | None = None,
        reasons: Sequence[str | None] | None = None,
        folder: Path | None = None,
    ) -> Block:
        corpus, pair, _ = name.split("/")
        source, _, target = pair.partition("-")
        block = Block(
            name=name,
            key=name.replace("/", "."),
            path=(folder or tmp_path) / "text" / f"{name}.parquet",
            corpus=corpus,
            source=source,
            target=target,
            origin="primary",
            num_rows=len(sources),
        )
        table = text_table(block, sources, targets, range(1, len(sources) + 1), margins)
        column = polars.Series("reason", reasons or [None] * len(sources), dtype=polars.String)
        table = table.append_column("reason", column.cast(polars.Categorical).to_arrow())
        write_table(block.path, table, {})
        return block

    return make


@pytest.fixture
def make_config() -> Callable[..., DataConfig]:
    """Return a function that makes a configuration around the sections that matter to a test."""

    def make(**sections: Any) -> DataConfig:
        corpus = CorpusConfig(name="corpus", format="tsv", path="{source}-{target}.tsv")
        return DataConfig(
            **{"kind": "data", "corpora": (corpus,), "decontamination": (), **sections}
        )

    return make
