"""Corpora that would take all memory, or lead out of their folder, are refused with their place."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest
import zstandard

from data_pipeline.data_config import CorpusConfig, DataConfig
from data_pipeline.readers.ingestion import ingest
from data_pipeline.readers.source_reader import MAX_LINE_BYTES
from data_pipeline.readers.tmx import BadUnit, read_tmx
from data_pipeline.stages import Machine
from nllb.config import load_config
from nllb.errors import ConfigError, DataError

UNIT = '<tu><tuv xml:lang="en"><seg>{0}</seg></tuv><tuv xml:lang="fr"><seg>{0}</seg></tuv></tu>'


def tmx(*units: str, head: str = "", notes: str = "") -> str:
    return f"<?xml version='1.0'?>{head}<tmx><header/>{notes}<body>{''.join(units)}</body></tmx>"


def pairs(path: Path) -> list[Any]:
    return list(read_tmx(path, "eng_Latn", "fra_Latn"))


@pytest.mark.parametrize("kind", ["tsv", "lines", "jsonl"])
def test_a_line_without_end_is_named(
    tmp_path: Path, make_config: Callable[..., DataConfig], machine: Machine, kind: str
) -> None:
    first = {"tsv": "a\tb\n", "lines": "a\n", "jsonl": '{"text": "a"}\n'}[kind]
    name = "eng_Latn-fra_Latn.zst" if kind == "tsv" else "eng_Latn.zst"
    data = first.encode() + b"x" * (MAX_LINE_BYTES + 1)
    (tmp_path / name).write_bytes(zstandard.compress(data))
    path = "{source}-{target}.zst" if kind == "tsv" else "{language}.zst"
    corpus = CorpusConfig(name="a", format=kind, path=path, bad_rows="quarantine")
    section: dict[str, Any] = {"corpora": (corpus,)}
    if kind != "tsv":
        good = CorpusConfig(name="b", format="tsv", path="{source}-{target}.tsv")
        (tmp_path / "eng_Latn-fra_Latn.tsv").write_text("a\tb\n")
        section = {"corpora": (good,), "monolingual": {"corpora": (corpus,)}}
    with pytest.raises(DataError, match=rf"{re.escape(name)}:2: the line is longer than 16 MiB"):
        ingest(make_config(data_dir=tmp_path, **section), tmp_path / "out", machine)


def test_parquet_that_unfolds_is_refused_or_kept_once(
    tmp_path: Path, make_config: Callable[..., DataConfig], machine: Machine
) -> None:
    path = tmp_path / "eng_Latn-fra_Latn.parquet"
    corpus = CorpusConfig(name="a", format="parquet", path="{source}-{target}.parquet")
    config = make_config(corpora=(corpus,), data_dir=tmp_path)
    long = "x" * (MAX_LINE_BYTES + 1)
    polars.DataFrame({"source": [long], "target": ["y"]}).write_parquet(path)
    with pytest.raises(DataError, match="longer than 16 Mi characters"):
        ingest(config, tmp_path / "out", machine)
    polars.DataFrame({"source": ["x" * (400 << 20)], "target": ["y"]}).write_parquet(path)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match="column source would decompress to"):
        ingest(config, tmp_path / "out", machine)


def test_units_after_units_are_read_however_many(tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    path.write_text(tmx(*[UNIT.format("one two")] * 3000, notes="<note>x</note>" * 3000))
    assert pairs(path) == [("one two", "one two")] * 3000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<tmx>" * 20_000, "nested more than 100 deep"),
        (tmx(UNIT.format("&a;"), head='<!DOCTYPE t [<!ENTITY a "x">]>'), "declares the entity 'a'"),
        (tmx(head="<!--" + "x" * (17 << 20) + "-->"), "a tag or comment is longer than 16 MiB"),
        (tmx(f"<tu x='{'x' * (17 << 20)}'></tu>"), "a tag or comment is longer than 16 MiB"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_memories_that_take_memory_are_refused(
    tmp_path: Path, content: str, message: str, encoding: str
) -> None:
    path = tmp_path / "a.tmx.zst"
    path.write_bytes(zstandard.compress(content.encode(encoding)))
    with pytest.raises(DataError, match=rf"a\.tmx\.zst.*{message}"):
        pairs(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<hi>" * 20_000 + "x" + "</hi>" * 20_000, "nested more than 100 deep"),
        ("x" * (17 << 20), "more than 1,048,576 characters"),
    ],
)
def test_a_unit_that_takes_memory_is_reported_among_the_others(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "a.tmx.zst"
    content = tmx(UNIT.format("a"), UNIT.format(text), UNIT.format("b"))
    path.write_bytes(zstandard.compress(content.encode()))
    first, bad, *others = pairs(path)
    assert first == ("a", "a") and ("b", "b") in others
    assert isinstance(bad, BadUnit) and message in bad.error


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "..", "becomes a folder"),
        ("name", ".", "becomes a folder"),
        ("name", "a/b", "becomes a folder"),
        ("path", "{source:>999999999}-{target}.tsv", "the brace at character 1"),
        ("path", "{source.__class__}-{target}", "the brace at character 1"),
        ("path", "{source}-{target}-{x}", "unknown placeholder {x}"),
    ],
)
def test_names_and_templates_of_corpora(
    tmp_path: Path, field: str, value: str, message: str
) -> None:
    fields = {"name": "a", "format": "tsv", "path": "{source}-{target}.tsv"} | {field: value}
    listed = ", ".join(f"{key}: '{text}'" for key, text in fields.items())
    path = tmp_path / "config.yaml"
    path.write_text(f"kind: data\ncorpora: [{{{listed}}}]\ndecontamination: []\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(DataConfig, path)
    if field == "path":
        path.write_text("kind: data\ncorpora: " + "[" * 50_000)
        with pytest.raises(ConfigError, match="levels deep"):
            load_config(DataConfig, path)
