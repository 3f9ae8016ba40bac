"""The same ratings from every form of file, and cells as people type them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.xsts.cells import ScoreCell, is_personal, parse_flag, parse_score
from eval.xsts.evaluation import evaluate
from eval.xsts.ingestion import parse_columns, read_ratings
from eval.xsts.row_checks import parse_rows
from eval.xsts.validation import ScoreSettings
from nllb.errors import ConfigError, DataError
from nllb.io.atomic import atomic_text

Rows = list[dict[str, Any]]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (4, ScoreCell(score=4)), (" 5 ", ScoreCell(score=5)), (4.0, ScoreCell(score=4)),
        ("4.0", ScoreCell(score=4)), ("٤", ScoreCell(score=4)), ("४", ScoreCell(score=4)),
        ("\u200f3", ScoreCell(score=3)), ("５", ScoreCell(score=5)),
        ("4 incoherent", ScoreCell(score=4, source_incoherent=True, target_incoherent=True)),
        ("1 s1 incoherent", ScoreCell(score=1, source_incoherent=True)),
        ("1, s2 incoherent", ScoreCell(score=1, target_incoherent=True)),
        ("2 (sentence 2 incoherent)", ScoreCell(score=2, target_incoherent=True)),
        ("5: s1 and s2 incoherent",
         ScoreCell(score=5, source_incoherent=True, target_incoherent=True)),
    ],
)  # fmt: skip
def test_score_cells(cell: object, expected: ScoreCell) -> None:
    assert parse_score(cell) == expected


@pytest.mark.parametrize(
    "cell", [0, 6, 4.5, "4,5", float("nan"), None, "", "five", "4 s1", True, "-3", "45"]
)
def test_cells_that_are_no_score(cell: object) -> None:
    with pytest.raises(ValueError, match=r"score|1 to 5|flag"):
        parse_score(cell)


def test_flags() -> None:
    assert [parse_flag(cell) for cell in ("y", "Yes", 1, "x", True, 1.0)] == [True] * 6
    assert [parse_flag(cell) for cell in ("n", "", None, 0, False, "0")] == [False] * 6
    with pytest.raises(ValueError, match="neither yes nor no"):
        parse_flag("maybe")


@pytest.mark.parametrize(
    ("rater", "personal"),
    [("r1", False), ("A-17", False), ("rater A", False), ("annotator_3", False), ("QX", False),
     ("MARIA SILVA", True),     ("张伟", True), ("J. Li", True), ("01512345678", True),
     ("anna@example.org", True), ("Anna Meyer", True), ("meyer, anna", True), ("Anna", True),
     ("+49 170 1234567", True), ("0123456789", False)],
)  # fmt: skip
def test_personal_ids(rater: str, personal: bool) -> None:
    assert is_personal(rater) is personal


def as_tsv(rows: Rows, folder: Path) -> Path:
    path = folder / "r.tsv.gz"
    with atomic_text(path) as stream:
        stream.write("\t".join(rows[0]) + "\n")
        stream.writelines("\t".join(map(str, row.values())) + "\n" for row in rows)
    return path


def as_jsonl(rows: Rows, folder: Path) -> Path:
    path = folder / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def as_spreadsheet(rows: Rows, folder: Path) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    book.save(folder / "r.xlsx")
    return folder / "r.xlsx"


def as_parquet(rows: Rows, folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "r.parquet")
    return folder / "r.parquet"


@pytest.mark.parametrize("write", [as_tsv, as_jsonl, as_spreadsheet, as_parquet])
def test_every_form_gives_the_same_ratings(
    study: Rows, save: Callable[..., Path], tmp_path: Path, write: Callable[[Rows, Path], Path]
) -> None:
    def ratings(path: Path) -> list[tuple[object, ...]]:
        found = parse_rows(read_ratings(path).rows)
        assert not found.findings
        return [
            (one.item, one.set, one.system, one.source, one.target, one.source_text,
             one.target_text, one.rater, one.score, one.stratum, one.protocol)
            for one in found.ratings
        ]  # fmt: skip

    assert ratings(write(study, tmp_path)) == ratings(save(study))


def test_semicolons_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(
        "item_id;src_lang;tgt_lang;rater_id;score;src_text\n1;eng_Latn;fra_Latn;r1;4;Yes, two.\n",
        encoding="utf-8",
    )
    [rating] = parse_rows(read_ratings(path).rows).ratings
    assert (rating.score, rating.source_text) == (4, "Yes, two.")


def test_columns_may_have_any_name_and_order(study: Rows, save: Callable[..., Path]) -> None:
    renamed = [
        {"Points": row["score"], "Who": row["rater_id"], "to": row["tgt_lang"],
         "id": row["item_id"], "kind": row["set"], "system": row["system"]}
        for row in study
    ]  # fmt: skip
    path = save(renamed)
    with pytest.raises(DataError, match=r"X01 ratings\.csv:1: no preset fits.*--columns"):
        read_ratings(path)
    columns = parse_columns(
        ["score=points", "rater=Who", "target=to", "item=id", "set=kind", "source==eng_Latn"]
    )
    parsed = parse_rows(read_ratings(path, columns=columns).rows)
    assert [one.score for one in parsed.ratings] == [row["score"] for row in study]
    assert {one.source for one in parsed.ratings} == {"eng_Latn"}
    assert read_ratings(path, columns=columns).unused == ("system",)
    with pytest.raises(DataError, match=r"no column 'Pionts' for score; did you mean Points"):
        read_ratings(path, columns=columns | {"score": "Pionts"})


def test_bad_column_options() -> None:
    with pytest.raises(ConfigError, match=r"did you mean rater\?"):
        parse_columns(["ratr=Who"])
    with pytest.raises(ConfigError, match="not FIELD=COLUMN"):
        parse_columns(["score"])


def test_wide_files_lose_the_raters_and_say_so(study: Rows, save: Callable[..., Path]) -> None:
    wide: dict[tuple[str, str], dict[str, Any]] = {}
    for row in study:
        key = (row["system"], row["item_id"])
        entry = wide.setdefault(
            key, {k: v for k, v in row.items() if k not in ("rater_id", "score")}
        )
        entry[f"score_{1 + sum(name.startswith('score_') for name in entry)}"] = row["score"]
    result = evaluate([read_ratings(save(list(wide.values())))], ScoreSettings(resamples=20))
    whole = evaluate([read_ratings(save(study))], ScoreSettings(resamples=20))
    assert {one.system: one.score.value for one in result.directions} == {
        one.system: one.score.value for one in whole.directions
    }
    assert result.raters == ()
    assert any("does not identify the raters" in note for note in result.notes)
    assert all("rater" not in one.calibrated for one in result.directions)


def test_the_published_training_set(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["Reviewed Score", "Score Explanation", "sentence1", "sentence2"])
    for cell in (5, "4 incoherent", "1, s2 incoherent"):
        book.active.append([cell, "because", "One sentence.", "Another."])
    book.save(tmp_path / "training.xlsx")
    file = read_ratings(tmp_path / "training.xlsx")
    ratings = parse_rows(file.rows).ratings
    assert (file.preset, [one.score for one in ratings]) == ("training", [5, 4, 1])
    assert [one.source_incoherent for one in ratings] == [False, True, False]
    assert {one.set for one in ratings} == {"training"}


def test_a_cell_may_hold_line_breaks_and_lines_stay_right(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(
        "item_id,src_lang,tgt_lang,rater_id,score,src_text\n"
        '1,eng_Latn,fra_Latn,r1,3,"two\nlines"\n'
        "2,eng_Latn,fra_Latn,r1,9,one\n",
        encoding="utf-8",
    )
    parsed = parse_rows(read_ratings(path).rows)
    assert parsed.ratings[0].source_text == "two\nlines"
    assert [(one.code, one.line) for one in parsed.findings if one.severity == "quarantine"] == [
        ("X02", 4)
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("r.txt", b"x", "ends in .csv"), ("r.xlsx", b"no zip", "no readable spreadsheet"),
     ("r.parquet", b"no", "not a readable Parquet"), ("r.jsonl", b"[1]\n", "one object per line")],
)  # fmt: skip
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_ratings(tmp_path / name)
    with pytest.raises(DataError, match="no file"):
        read_ratings(tmp_path / "nowhere.csv")
