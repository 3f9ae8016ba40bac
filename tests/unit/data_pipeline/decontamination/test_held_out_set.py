"""The held-out set: chosen by hash, written line-aligned, and in no training text afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest

from data_pipeline.blocks import DecidedBlock, reasons
from data_pipeline.data_config import CorpusConfig, DataConfig, HeldOutSetConfig
from data_pipeline.decontamination.decontaminate import decontaminate_bitext, decontaminated_blocks
from data_pipeline.decontamination.held_out_set import write_held_out_set
from data_pipeline.stages import Machine
from nllb.config.loading import config_of
from nllb.errors import ConfigError, DataError
from nllb.languages import parse_language

SECTION = HeldOutSetConfig(corpus="corpus", pivot=parse_language("eng_Latn"), pairs=5, min_words=4)
ENGLISH = [f"the old man number {n} walks home" for n in range(30)] + ["Thank you."] * 3
FRENCH = [f"le vieil homme {n} rentre chez lui" for n in range(30)] + ["Merci.", "Merci !", "Ok."]


@pytest.fixture
def blocks(make_block: Callable[..., Any]) -> list[DecidedBlock]:
    made = [
        make_block(ENGLISH, FRENCH),
        # The same English sentences in other pairs, and with English as the target.
        make_block(
            ENGLISH[:9], [f"alte {n}" for n in range(9)], name="docs/eng_Latn-deu_Latn/00000"
        ),
        make_block(["un"] * 9, ENGLISH[:9], name="corpus/cat_Latn-eng_Latn/00000"),
    ]
    return [DecidedBlock(block=block, decisions=(block.path,)) for block in made]


def files(folder: Path) -> dict[str, list[str]]:
    found = sorted(folder.glob("held_out_set/*/*.txt"))
    return {f"{p.parent.name}/{p.stem}": p.read_text().splitlines() for p in found}


def test_pairs_of_every_language_are_written_line_by_line(
    blocks: list[DecidedBlock], tmp_path: Path
) -> None:
    write_held_out_set(SECTION, blocks, tmp_path)
    found = files(tmp_path)
    assert set(found) == {
        *("fra_Latn/eng_Latn", "fra_Latn/fra_Latn", "cat_Latn/cat_Latn", "cat_Latn/eng_Latn")
    }
    pairs = list(zip(found["fra_Latn/eng_Latn"], found["fra_Latn/fra_Latn"], strict=True))
    assert len(set(pairs)) == 5 and set(pairs) <= set(zip(ENGLISH, FRENCH, strict=True))
    assert not any(pair[0] == "Thank you." for pair in pairs)
    assert found["cat_Latn/cat_Latn"] == ["un"]  # a sentence is in one pair only
    again = tmp_path / "again"
    write_held_out_set(SECTION, blocks[::-1], again)
    assert files(again) == found


def test_its_sentences_are_in_no_training_text(
    blocks: list[DecidedBlock],
    make_config: Callable[..., DataConfig],
    tmp_path: Path,
    machine: Machine,
) -> None:
    config = make_config(held_out_set=SECTION)
    made = decontaminate_bitext(config, blocks, tmp_path, machine)
    assert made == decontaminated_blocks(config, blocks, tmp_path)
    held_out = {line for lines in files(tmp_path).values() for line in lines}
    for decided, block in zip(blocks, made, strict=True):
        rows = polars.read_parquet(decided.block.path, columns=["source", "target"])
        kept = rows.filter(reasons([block.path]).is_null())
        assert len(kept) < len(rows) or decided.block.corpus == "docs"
        assert not held_out & {*kept["source"], *kept["target"]}
    first = polars.read_parquet(blocks[0].block.path, columns=["source"])
    assert len(first) - reasons([made[0].path]).is_null().sum() >= 5


def test_a_corpus_without_long_pairs_is_an_error(
    make_block: Callable[..., Any], tmp_path: Path
) -> None:
    short = DecidedBlock(block=make_block(["Hi."], ["Salut."]), decisions=())
    with pytest.raises(DataError, match="4 words"):
        write_held_out_set(SECTION, [short], tmp_path)


def test_an_unknown_corpus_is_refused(tmp_path: Path) -> None:
    corpus = CorpusConfig(name="other", format="tsv", path="{source}-{target}.tsv")
    section = {"corpus": "corpus", "pivot": "eng_Latn"}
    with pytest.raises(ConfigError, match="'corpus' is not a corpus of this run"):
        config_of(
            DataConfig,
            {
                "kind": "data",
                "corpora": [corpus.model_dump(mode="json")],
                "decontamination": [],
                "held_out_set": section,
            },
        )
