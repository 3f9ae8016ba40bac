"""Vocabulary, shards and manifest: the layout of the field, every pair once, nothing leaked."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from data_pipeline.blocks import DecidedBlock
from data_pipeline.data_config import (
    CorpusConfig,
    DataConfig,
    MonolingualConfig,
    PhaseConfig,
    PrepareConfig,
    VocabularyConfig,
)
from data_pipeline.preparation.prepare_shards import is_held_out, prepare
from data_pipeline.preparation.vocabulary import (
    Vocabulary,
    sample_by_hash,
    sample_quotas,
    train_vocabulary,
)
from data_pipeline.stages import Machine
from nllb.errors import DataError
from nllb.io.manifest import Manifest, read_manifest
from nllb.model.tokenizer import Tokenizer

MakeBlock = Callable[..., Any]
WORDS = (
    "the a small old red house tree river sings walks sees under over near it she he and".split()
)
FRENCH = "la un petit vieux rouge maison arbre rivière chante voit sous sur près il elle et".split()


def sentences(words: list[str], count: int, seed: int) -> list[str]:
    generator = numpy.random.default_rng(seed)
    return [" ".join(generator.choice(words, 6)) + f" {n}" for n in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spm") / "sentencepiece.bpe.model"
    texts = sentences(WORDS, 400, 1) + sentences(FRENCH, 400, 2)
    train_vocabulary(texts, path, VocabularyConfig(size=80, byte_fallback=False))
    return path


def test_ids_are_those_of_the_tokenizer(model: Path) -> None:
    languages = ("eng_Latn", "fra_Latn")
    vocabulary = Vocabulary(model, name="spm:standin", languages=languages)
    record = vocabulary.record(model.parent)
    tokenizer = Tokenizer.build(model, languages)
    texts = ["the small house", "la rivière chante 12", "日本 unknown é", ""]
    assert vocabulary.encode(texts) == [tokenizer.encode(text) for text in texts]
    assert [record.language_id(code) for code in languages] == [
        tokenizer.language_id(code) for code in languages
    ]
    tags = ("<MINED_DATA>", "<MMT_BT_DATA>", "<SMT_BT_DATA>")
    assert record.tags == tags
    for tag, origin in zip(tags, ("mined", "mmt_bt", "smt_bt"), strict=True):
        assert record.tag_id(origin) == tokenizer.data_tag_id(tag)  # type: ignore[arg-type]
    assert record.mask_id == record.size - 1 == tokenizer.layout.size
    assert record.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert vocabulary.decode(vocabulary.encode(["the small house"])[0]) == "the small house"


def test_a_model_of_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a SentencePiece model"):
        Vocabulary(tmp_path / "x.model", name="x", languages=())


def test_too_little_text_says_what_to_lower(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prepare\.vocabulary\.size"):
        train_vocabulary(["a b"], tmp_path / "m", VocabularyConfig(size=5000))
    assert list(tmp_path.iterdir()) == []


def test_the_draw_follows_the_temperature_and_takes_no_text_twice() -> None:
    counts = {"eng_Latn": 8000, "fra_Latn": 500}
    flat = sample_quotas(counts, 1000, 5.0)
    assert flat["fra_Latn"] / flat["eng_Latn"] == pytest.approx((500 / 8000) ** 0.2, rel=0.01)
    assert sample_quotas(counts, 10**9, 1.0) == counts
    texts = [("eng_Latn", f"line {n}") for n in range(8000)] + [("fra_Latn", "same")] * 500
    drawn = list(sample_by_hash(texts, counts, flat))
    assert len(set(drawn)) == len(drawn)
    assert sum(text.startswith("line") for text in drawn) == pytest.approx(
        flat["eng_Latn"], rel=0.15
    )
    assert drawn == list(sample_by_hash(texts, counts, flat))


def test_a_sentence_is_held_out_wherever_it_stands() -> None:
    texts = [f"sentence {n}" for n in range(20_000)]
    alone = {text for text in texts if is_held_out((text, "x"), 0.02)}
    assert len(alone) == pytest.approx(200, rel=0.3)
    assert all(is_held_out(("y", text), 0.02) for text in alone)
    assert not any(is_held_out((text, "y"), 0) for text in texts)


def run(
    tmp_path: Path,
    make_block: MakeBlock,
    make_config: Callable[..., DataConfig],
    section: PrepareConfig,
    machine: Machine,
) -> Manifest:
    english, french = sentences(WORDS, 300, 1), sentences(FRENCH, 300, 2)
    blocks = [
        make_block(english[:200], french[:200], name="a/eng_Latn-fra_Latn/00000"),
        make_block(
            english[200:],
            french[200:],
            name="a/eng_Latn-fra_Latn/00001",
            reasons=["x"] * 10 + [None] * 90,
        ),
        make_block(french[:50], english[50:100], name="bt/fra_Latn-eng_Latn/00000"),
        make_block(english[:7], french[:7], name="few/eng_Latn-deu_Latn/00000"),
    ]
    import dataclasses

    blocks[2] = dataclasses.replace(blocks[2], origin="mmt_bt")
    corpora = tuple(
        CorpusConfig(
            name=name, format="tsv", path="{source}-{target}", origin=origin, licence="CC0"
        )
        for name, origin in (("a", "primary"), ("bt", "mmt_bt"), ("few", "primary"))
    )
    config = make_config(corpora=corpora, prepare=section)
    ready = [DecidedBlock(block=block, decisions=(block.path,)) for block in blocks]
    path = prepare(config, ready, [], tmp_path / "out", machine)
    assert path is not None
    return read_manifest(path)


def test_every_pair_that_stayed_is_in_the_shards_once(
    tmp_path: Path,
    make_block: MakeBlock,
    make_config: Callable[..., DataConfig],
    machine: Machine,
) -> None:
    section = PrepareConfig(
        vocabulary=VocabularyConfig(size=80, name="spm:standin"),
        held_out_fraction=0.1,
        min_pairs=20,
        phases=(PhaseConfig(until_step=10, min_pairs=200), PhaseConfig()),
    )
    manifest = run(tmp_path, make_block, make_config, section, machine)
    manifest.verify()
    vocabulary = Vocabulary(
        manifest.directory / manifest.vocabulary.file,
        name="spm:standin",
        languages=manifest.vocabulary.languages,
    )
    assert vocabulary.languages == ("deu_Latn", "eng_Latn", "fra_Latn")
    found: Counter[tuple[str, str]] = Counter()
    sides: dict[str, set[str]] = {"train": set(), "valid": set()}
    for part in manifest.parts:
        if part.origin == "primary":
            for file in part.files:
                shard = manifest.open(file)
                for index in range(len(shard)):
                    pair = (
                        vocabulary.decode(shard.source(index).tolist()),
                        vocabulary.decode(shard.target(index).tolist()),
                    )
                    found[pair] += 1
                    sides[part.split].update(pair)
    english, french = sentences(WORDS, 300, 1), sentences(FRENCH, 300, 2)
    wanted = Counter(zip(english[:200] + english[210:], french[:200] + french[210:], strict=True))
    assert found == wanted
    assert 5 < len(sides["valid"]) / 2 < 80
    assert not sides["train"] & sides["valid"]

    directions = manifest.by_name
    assert set(directions) == {"eng_Latn-fra_Latn", "fra_Latn-eng_Latn"}
    both, back = directions["eng_Latn-fra_Latn"], directions["fra_Latn-eng_Latn"]
    assert back.num_pairs > both.num_pairs > 200, "back-translation serves its own direction only"
    assert sum(entry.weight for entry in manifest.directions) == pytest.approx(1)
    assert back.weight / both.weight == pytest.approx((back.num_pairs / both.num_pairs) ** 0.2)
    assert manifest.made_by["excluded_directions"].startswith("deu_Latn-eng_Latn (")
    assert [len(phase.directions) for phase in manifest.phases] == [2, 2]
    assert [(record.name, record.licence) for record in manifest.corpora] == [
        ("a", "CC0"),
        ("bt", "CC0"),
        ("few", "CC0"),
    ]


def test_a_second_start_writes_nothing_and_gives_the_same(
    tmp_path: Path,
    make_block: MakeBlock,
    make_config: Callable[..., DataConfig],
    machine: Machine,
    model: Path,
) -> None:
    section = PrepareConfig(vocabulary=VocabularyConfig(model=model))
    first = run(tmp_path, make_block, make_config, section, machine)
    stamps = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "out").rglob("*")
        if path.suffix in (".tokens", ".model")
    }
    assert run(tmp_path, make_block, make_config, section, machine) == first
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_denoising_text_becomes_a_direction_onto_itself(
    tmp_path: Path,
    make_block: MakeBlock,
    make_config: Callable[..., DataConfig],
    machine: Machine,
    model: Path,
) -> None:
    import polars

    from data_pipeline.blocks import write_table
    from data_pipeline.stages import Block

    path = tmp_path / "eng.parquet"
    write_table(path, polars.DataFrame({"text": sentences(WORDS, 40, 5)}).to_arrow(), {})
    block = Block(
        name="eng_Latn/docs.00000",
        key="k",
        path=path,
        corpus="docs",
        source="eng_Latn",
        target="",
        origin="denoising",
        num_rows=40,
    )
    docs = CorpusConfig(name="docs", format="lines", path="{language}")
    config = make_config(
        prepare=PrepareConfig(vocabulary=VocabularyConfig(model=model), held_out_fraction=0),
        monolingual=MonolingualConfig(corpora=(docs,), denoising=True),
    )
    written = prepare(
        config, [], [DecidedBlock(block=block, decisions=())], tmp_path / "out", machine
    )
    assert written is not None
    manifest = read_manifest(written)
    (part,) = manifest.parts
    assert (part.source, part.target, part.origin, part.num_pairs) == (
        "eng_Latn",
        "eng_Latn",
        "denoising",
        40,
    )
    shard = manifest.open(part.files[0])
    assert shard.target_offsets is None and len(shard) == 40
    assert [entry.name for entry in manifest.directions] == ["eng_Latn-eng_Latn"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (PrepareConfig(min_pairs=10**6), "min_pairs"),
        (
            PrepareConfig(vocabulary=VocabularyConfig(model=Path("gone.model"))),
            "the file gone.model does not exist",
        ),
        (PrepareConfig(phases=(PhaseConfig(min_pairs=10**6),)), "no direction has"),
    ],
)
def test_impossible_preparations_are_errors(
    tmp_path: Path,
    make_block: MakeBlock,
    make_config: Callable[..., DataConfig],
    machine: Machine,
    section: PrepareConfig,
    message: str,
    model: Path,
) -> None:

    if section.vocabulary.model is None:
        section = section.replace(vocabulary=VocabularyConfig(model=model))
    with pytest.raises(DataError, match=message):
        run(tmp_path, make_block, make_config, section, machine)
