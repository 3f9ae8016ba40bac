"""Every format is read without changes; damage is an error that names file and line."""

import gzip
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest
import zstandard

from data_pipeline.blocks import TEXT_SCHEMA, read_columns
from data_pipeline.data_config import CorpusConfig, DataConfig, MonolingualConfig
from data_pipeline.readers.ingestion import ingest, ingested_blocks
from data_pipeline.readers.sources import find_sources
from data_pipeline.stages import Machine
from nllb.errors import DataError, LanguageError
from nllb.io.corpora import Layout

Ingest = Callable[..., polars.DataFrame]
ROWS = [("Hello.", "Bonjour."), ("Two\u2028lines?", "Deux\u0085lignes ?"), ("", "vide"), ("d", "ð")]
TSV = "".join(f"{source}\t{target}\n" for source, target in ROWS)


@pytest.fixture
def read(tmp_path: Path, make_config: Callable[..., DataConfig], machine: Machine) -> Ingest:
    """Return a function that ingests one corpus and gives its rows."""

    def run(corpus: CorpusConfig, **sections: Any) -> polars.DataFrame:
        config = make_config(corpora=(corpus,), data_dir=tmp_path, **sections)
        ingest(config, tmp_path / "out", machine)
        blocks = ingested_blocks(config, tmp_path / "out")
        return polars.concat([read_columns(block.path) for block in blocks])

    return run


def rows_of(frame: polars.DataFrame) -> list[tuple[str, str]]:
    return list(frame.select("source", "target").iter_rows())


COMPRESS = {
    "": lambda raw: raw,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_tsv_plain_and_compressed(tmp_path: Path, read: Ingest, suffix: str) -> None:
    path = tmp_path / f"eng_Latn-fra_Latn.tsv{suffix}"
    path.write_bytes(COMPRESS[suffix](TSV.encode()))
    corpus = CorpusConfig(
        name="own", format="tsv", path=f"{{source}}-{{target}}.tsv{suffix}", origin="mined"
    )
    frame = read(corpus, block_lines=3)
    assert rows_of(frame) == ROWS
    assert frame["line"].to_list() == [1, 2, 3, 4]
    assert frame.columns == TEXT_SCHEMA.names
    first = frame.row(0, named=True)
    assert (first["corpus"], first["origin"]) == ("own", "mined")
    assert (first["source_language"], first["target_language"]) == ("eng_Latn", "fra_Latn")


def test_part_of_a_name_may_be_anything(tmp_path: Path, read: Ingest) -> None:
    """As in the files of `data mine`, whose names end with a hash."""
    (tmp_path / "mined").mkdir()
    (tmp_path / "mined" / "eng_Latn-fra_Latn.0f3a.tsv").write_text(TSV)
    (tmp_path / "mined" / "README.tsv").write_text("no pair\n")
    corpus = CorpusConfig(name="own", format="tsv", path="mined/{source}-{target}.*.tsv")
    assert rows_of(read(corpus)) == ROWS


def test_tsv_with_header_columns_and_margin(tmp_path: Path, read: Ingest) -> None:
    text = "score\ttext\tother\ttranslation\n1.25\tHello\tx\tBonjour\n0.9\tBye\ty\tSalut\textra\n"
    (tmp_path / "en-fr.tsv").write_text(text)
    frame = read(
        CorpusConfig(
            name="own",
            format="tsv",
            path="{source}-{target}.tsv",
            header=True,
            columns=("1", "3"),
            margin_column="0",
        )
    )
    assert rows_of(frame) == [("Hello", "Bonjour"), ("Bye", "Salut")]
    assert frame["line"].to_list() == [2, 3]
    assert frame["margin"].to_list() == pytest.approx([1.25, 0.9])


def test_moses(tmp_path: Path, read: Ingest) -> None:
    for code, side in (("en", 0), ("fr", 1)):
        text = "".join(row[side] + "\r\n" for row in ROWS)
        (tmp_path / f"news.en-fr.{code}").write_text(text, encoding="utf-8", newline="")
    frame = read(
        CorpusConfig(name="news", format="moses", path="news.{source}-{target}.{language}")
    )
    assert rows_of(frame) == ROWS


@pytest.mark.parametrize("short", ["en", "fr"])
def test_unequal_line_counts_stop_with_both_counts(
    tmp_path: Path, read: Ingest, short: str
) -> None:
    for code in ("en", "fr"):
        (tmp_path / f"en-fr.{code}").write_text("x\n" * (7 if code == short else 10))
    corpus = CorpusConfig(name="news", format="moses", path="{source}-{target}.{language}")
    with pytest.raises(DataError, match=rf"en-fr\.{short} has 7 lines and .* has 10"):
        read(corpus, block_lines=2)
    assert not list((tmp_path / "out").rglob("eng_Latn-fra_Latn.*.json"))


def test_parquet(tmp_path: Path, read: Ingest) -> None:
    frame = polars.DataFrame(
        {"a": ["Hello", None, "Bye"], "b": ["Bonjour", "x", "Salut"], "m": [1, 2, 3]}
    )
    frame.write_parquet(tmp_path / "eng_Latn-fra_Latn.parquet")
    corpus = CorpusConfig(
        name="own",
        format="parquet",
        path="{source}-{target}.parquet",
        columns=("a", "b"),
        margin_column="m",
        bad_rows="quarantine",
    )
    read_frame = read(corpus)
    assert rows_of(read_frame) == [("Hello", "Bonjour"), ("Bye", "Salut")]
    assert read_frame["line"].to_list() == [1, 3]
    (tmp_path / "eng_Latn-fra_Latn.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"eng_Latn-fra_Latn\.parquet"):
        read(corpus)


TMX = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en"/><body>
<tu><tuv xml:lang="en-GB"><seg>A <ph>&lt;b&gt;</ph>bold<ept i="1"/> word &amp; more</seg></tuv>
<tuv xml:lang="FR"><seg>Un mot <hi>gras</hi></seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>Nur deutsch</seg></tuv></tu>
<tu><tuv xml:lang="fr"><seg>Salut</seg></tuv><tuv xml:lang="en"><seg>Bye</seg></tuv></tu>
</body></tmx>
"""


def test_tmx(tmp_path: Path, read: Ingest) -> None:
    (tmp_path / "memory.tmx").write_text(TMX, encoding="utf-8")
    from nllb.languages import parse_language

    corpus = CorpusConfig(
        name="memory",
        format="tmx",
        path="memory.tmx",
        languages=(parse_language("en"), parse_language("fr")),
        bad_rows="quarantine",
    )
    frame = read(corpus)
    assert rows_of(frame) == [("A bold word & more", "Un mot gras"), ("Bye", "Salut")]
    assert frame["line"].to_list() == [1, 3]
    (quarantine,) = (tmp_path / "out").rglob("*.quarantine.jsonl")
    assert "no segment of eng_Latn or fra_Latn" in quarantine.read_text()
    (tmp_path / "memory.tmx").write_text(TMX[:-60], encoding="utf-8")
    with pytest.raises(DataError, match=r"memory\.tmx:\d+: not TMX, or truncated"):
        read(corpus)


def test_layouts_pair_every_language_with_the_pivots(tmp_path: Path, read: Ingest) -> None:
    folder = tmp_path / "seedlike"
    folder.mkdir()
    for code, word in (("eng_Latn", "one"), ("fur_Latn", "un"), ("lij_Latn", "uno")):
        (folder / code).write_text(f"{word}\n\n{word} {word}\n")
    frame = read(CorpusConfig(name="own", format="layout", path="seedlike", layout="lines"))
    assert rows_of(frame) == [
        ("one", "un"),
        ("one one", "un un"),
        ("one", "uno"),
        ("one one", "uno uno"),
    ]
    assert frame["line"].to_list() == [1, 3, 1, 3]


@pytest.mark.parametrize(
    ("layout", "files", "rows", "faults"),
    [
        (
            "lines",
            {"eng_Latn": b"one\nb\xffd\nthree\n", "fur_Latn": b"un\ndoi\ntre\n"},
            [("one", "un"), ("three", "tre")],
            [("eng_Latn", 2, "byte 2 is not UTF-8 (0xff)")],
        ),
        (
            "keyed",
            {"eng_Latn.tsv": b"a\tone\nno key\nc\tthree\n", "fur_Latn.tsv": b"c\ttre\na\tun\n"},
            [("one", "un"), ("three", "tre")],
            [("eng_Latn.tsv", 2, "1 columns, but 'keyed' has 2")],
        ),
        (
            "pairs",
            {"eng_Latn-fur_Latn.tsv": b"one\tun\ntwo\nthree\ttre\nlast\tof\tall\n"},
            [("one", "un"), ("three", "tre")],
            [
                ("eng_Latn-fur_Latn.tsv", 2, "1 columns, but 'pairs' has 2"),
                ("eng_Latn-fur_Latn.tsv", 4, "3 columns, but 'pairs' has 2"),
            ],
        ),
        (
            "tables",
            {"eng_Latn-fur_Latn/dev.tsv": b"en\tfur\n#one\tun\n\ntwo\tdoi\tof\nthree\ttre\n"},
            [("#one", "un"), ("three", "tre")],
            [("dev.tsv", 4, "3 columns, but 'tables' has 2")],
        ),
    ],
)
def test_bad_rows_of_a_layout_stop_or_are_put_aside(
    tmp_path: Path,
    read: Ingest,
    layout: Layout,
    files: dict[str, bytes],
    rows: list[tuple[str, str]],
    faults: list[tuple[str, int, str]],
) -> None:
    for name, raw in files.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    corpus = CorpusConfig(name="own", format="layout", path="folder", layout=layout)
    name, line, fault = faults[0]
    with pytest.raises(DataError, match=re.escape(f"{name}:{line}: {fault}")):
        read(corpus)
    frame = read(corpus.replace(bad_rows="quarantine"))
    assert rows_of(frame) == rows
    (quarantine,) = (tmp_path / "out").rglob("*.quarantine.jsonl")
    found = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [(row["file"], row["line"], row["error"]) for row in found] == faults
    (receipt,) = (tmp_path / "out").rglob("ingest/own/*.json")
    counts = json.loads(receipt.read_text())
    assert counts["rows_read"] == len(rows) + len(faults) == counts["quarantined"] + len(rows)


def test_documents(
    tmp_path: Path, make_config: Callable[..., DataConfig], machine: Machine
) -> None:
    (tmp_path / "docs.fra_Latn.jsonl").write_text('{"text": "Un. Deux."}\n{"id": 3}\n')
    (tmp_path / "plain.en.gz").write_bytes(gzip.compress(b"One. Two.\nThree.\n"))
    corpora = (
        CorpusConfig(
            name="json", format="jsonl", path="docs.{language}.jsonl", bad_rows="quarantine"
        ),
        CorpusConfig(name="plain", format="lines", path="plain.{language}.gz"),
    )
    (tmp_path / "eng_Latn-fra_Latn.tsv").write_text(TSV)
    config = make_config(data_dir=tmp_path, monolingual=MonolingualConfig(corpora=corpora))
    counts = ingest(config, tmp_path / "out", machine)
    assert (counts["rows_read"], counts["rows_out"], counts["quarantined"]) == (8, 7, 1)
    blocks = ingested_blocks(config, tmp_path / "out", monolingual=True)
    assert [(block.source, block.target, block.origin) for block in blocks] == [
        ("fra_Latn", "", "denoising"),
        ("eng_Latn", "", "denoising"),
    ]
    assert read_columns(blocks[1].path)["source"].to_list() == ["One. Two.", "Three."]


BAD = b"fine\tbien\nno tab\nbad \xff byte\tmal\ntoo\tmany\ttabs\nlast\tfin\n"


def test_a_bad_row_stops_with_file_and_line(tmp_path: Path, read: Ingest) -> None:
    (tmp_path / "eng_Latn-fra_Latn.tsv").write_bytes(BAD)
    corpus = CorpusConfig(name="own", format="tsv", path="{source}-{target}.tsv")
    with pytest.raises(DataError, match=r"fra_Latn\.tsv:2: expected 2 columns, got 1"):
        read(corpus)
    (tmp_path / "eng_Latn-fra_Latn.tsv").write_bytes(BAD.replace(b"no tab", b"a\tb"))
    with pytest.raises(DataError, match=r"fra_Latn\.tsv:3: byte 5 is not UTF-8 \(0xff\)"):
        read(corpus)


def test_or_it_is_put_aside_and_counted(
    tmp_path: Path, make_config: Callable[..., DataConfig], machine: Machine
) -> None:
    (tmp_path / "eng_Latn-fra_Latn.tsv").write_bytes(BAD)
    corpus = CorpusConfig(
        name="own", format="tsv", path="{source}-{target}.tsv", bad_rows="quarantine"
    )
    config = make_config(corpora=(corpus,), data_dir=tmp_path, block_lines=2)
    counts = ingest(config, tmp_path / "out", machine)
    assert (counts["rows_read"], counts["rows_out"], counts["quarantined"]) == (5, 2, 3)
    blocks = ingested_blocks(config, tmp_path / "out")
    frame = polars.concat([read_columns(block.path) for block in blocks])
    assert list(frame.select("source", "target", "line").iter_rows()) == [
        ("fine", "bien", 1),
        ("last", "fin", 5),
    ]
    (quarantine,) = (tmp_path / "out").rglob("*.quarantine.jsonl")
    rows = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [row["line"] for row in rows] == [2, 3, 4]
    assert rows[1]["row"] == "bad \\xff byte\tmal"


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".xz"])
def test_a_truncated_file_is_named_and_leaves_no_receipt(
    tmp_path: Path, read: Ingest, suffix: str
) -> None:
    raw = COMPRESS[suffix]("".join(f"line {n}\tligne {n * n}\n" for n in range(20_000)).encode())
    path = tmp_path / f"eng_Latn-fra_Latn.tsv{suffix}"
    path.write_bytes(raw[: len(raw) // 2])
    corpus = CorpusConfig(name="own", format="tsv", path=f"{{source}}-{{target}}.tsv{suffix}")
    with pytest.raises(DataError, match=rf"fra_Latn\.tsv\{suffix}"):
        read(corpus, block_lines=500)
    assert not list((tmp_path / "out").rglob("eng_Latn-fra_Latn.*.json"))
    path.write_bytes(raw)
    assert len(read(corpus, block_lines=500)) == 20_000


def test_unknown_languages_stop_or_are_named(
    tmp_path: Path, make_config: Callable[..., DataConfig], machine: Machine
) -> None:
    for pair in ("eng_Latn-fra_Latn", "eng_Latn-qqq_Latn"):
        (tmp_path / f"{pair}.tsv").write_text(TSV)
    corpus = CorpusConfig(name="own", format="tsv", path="{source}-{target}.tsv")
    with pytest.raises(LanguageError, match=r"qqq_Latn.*unknown_languages: skip"):
        find_sources(make_config(corpora=(corpus,), data_dir=tmp_path))
    skipping = CorpusConfig(
        name="own", format="tsv", path="{source}-{target}.tsv", unknown_languages="skip"
    )
    sources, skipped = find_sources(make_config(corpora=(skipping,), data_dir=tmp_path))
    assert [source.name for source in sources] == ["own/eng_Latn-fra_Latn"]
    assert skipped == {"own": ["eng_Latn-qqq_Latn"]}


def test_a_corpus_without_files_and_two_files_of_one_pair_are_refused(
    tmp_path: Path, make_config: Callable[..., DataConfig]
) -> None:
    corpus = CorpusConfig(name="own", format="tsv", path="{source}-{target}.tsv")
    with pytest.raises(DataError, match="no files match"):
        find_sources(make_config(corpora=(corpus,), data_dir=tmp_path))
    for pair in ("eng_Latn-fra_Latn", "en-fr"):
        (tmp_path / f"{pair}.tsv").write_text(TSV)
    with pytest.raises(DataError, match="are both own/eng_Latn-fra_Latn"):
        find_sources(make_config(corpora=(corpus,), data_dir=tmp_path))


def test_finished_blocks_are_not_written_again(
    tmp_path: Path,
    make_config: Callable[..., DataConfig],
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import data_pipeline.readers.ingestion as writing

    (tmp_path / "eng_Latn-fra_Latn.tsv").write_text(TSV + "bad row\n" + TSV)
    corpus = CorpusConfig(
        name="own", format="tsv", path="{source}-{target}.tsv", bad_rows="quarantine"
    )
    config = make_config(corpora=(corpus,), data_dir=tmp_path, block_lines=2)
    write_block = writing._write_block
    written: list[int] = []

    def stopping(task: Any, number: int, rows: Any) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        written.append(number)
        return write_block(task, number, rows)

    monkeypatch.setattr(writing, "_write_block", stopping)
    with pytest.raises(KeyboardInterrupt):
        ingest(config, tmp_path / "out", machine)
    with pytest.raises(DataError, match="nllb data ingest"):
        ingested_blocks(config, tmp_path / "out")

    def counting(task: Any, number: int, rows: Any) -> Any:
        written.append(number)
        return write_block(task, number, rows)

    monkeypatch.setattr(writing, "_write_block", counting)
    counts = ingest(config, tmp_path / "out", machine)
    assert written == [0, 1, 2, 3, 4]
    assert (counts["rows_read"], counts["rows_out"], counts["quarantined"]) == (9, 8, 1)
    frames = [read_columns(block.path) for block in ingested_blocks(config, tmp_path / "out")]
    assert polars.concat(frames)["line"].to_list() == [1, 2, 3, 4, 6, 7, 8, 9]
    ingest(config, tmp_path / "out", machine)
    assert len(written) == 5


def test_changed_content_is_read_again(tmp_path: Path, read: Ingest) -> None:
    path = tmp_path / "eng_Latn-fra_Latn.tsv"
    path.write_text("a\tb\n")
    corpus = CorpusConfig(name="own", format="tsv", path="{source}-{target}.tsv")
    assert rows_of(read(corpus)) == [("a", "b")]
    path.write_text("a\tc\n")
    assert rows_of(read(corpus)) == [("a", "c")]


def test_max_rows(tmp_path: Path, read: Ingest) -> None:
    (tmp_path / "eng_Latn-fra_Latn.tsv").write_text(TSV)
    corpus = CorpusConfig(name="own", format="tsv", path="{source}-{target}.tsv", max_rows=2)
    assert rows_of(read(corpus)) == ROWS[:2]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"text": null}', "`text` must be a string, got null"),
        ('{"text": ["Hello"]}', "got a list"),
        ('{"text": {"en": "Hello"}}', "got an object"),
        ('{"text": 5}', "got a number"),
        ('{"text": true}', "got a boolean"),
        ('{"other": "x"}', "`text` is missing"),
        ('["text"]', "expected an object with `text`, got a list"),
        ('{"text": ', "not JSON"),
        ("[" * 100_000, "not"),
        ('{"text": "\\ud800"}', "lone surrogate"),
    ],
)
def test_jsonl_accepts_only_text(
    tmp_path: Path,
    make_config: Callable[..., DataConfig],
    machine: Machine,
    line: str,
    fault: str,
) -> None:
    (tmp_path / "docs.eng_Latn.jsonl").write_text(f'{{"text": "Good."}}\n{line}\n')

    def run(bad_rows: Any) -> dict[str, Any]:
        corpus = CorpusConfig(
            name="docs", format="jsonl", path="docs.{language}.jsonl", bad_rows=bad_rows
        )
        config = make_config(
            corpora=(), monolingual=MonolingualConfig(corpora=(corpus,)), data_dir=tmp_path
        )
        result = ingest(config, tmp_path / "out", machine)
        (block,) = ingested_blocks(config, tmp_path / "out", monolingual=True)
        assert read_columns(block.path)["source"].to_list() == ["Good."]
        return result

    with pytest.raises(DataError, match=r"docs\.eng_Latn\.jsonl:2"):
        run("error")
    assert run("quarantine")["quarantined"] == 1
    (quarantine,) = (tmp_path / "out").rglob("*.quarantine.jsonl")
    assert fault in json.loads(quarantine.read_text())["error"]


def test_moses_files_are_found_by_other_codes_of_the_language(tmp_path: Path, read: Ingest) -> None:
    from nllb.languages import parse_language

    languages = (parse_language("en"), parse_language("fr"))
    corpus = CorpusConfig(name="news", format="moses", path="train.{language}", languages=languages)
    (tmp_path / "train.en").write_text("Hello\n")
    with pytest.raises(DataError, match=r"no file of fra_Latn.*train\.fra_Latn"):
        read(corpus)
    (tmp_path / "train.fr").write_text("Bonjour\n")
    (tmp_path / "train.notes").write_text("x\n")
    assert rows_of(read(corpus)) == [("Hello", "Bonjour")]
    (tmp_path / "train.fra").write_text("Bonjour\n")
    with pytest.raises(DataError, match="several files of fra_Latn"):
        read(corpus)
    (tmp_path / "train.fra_Latn").write_text("Salut\n")
    assert rows_of(read(corpus)) == [("Hello", "Salut")]
