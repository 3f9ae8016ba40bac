"""Messy spreadsheets and exports of annotation tools: read in full, or refused with the reason."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.xsts.ingestion import RatingsFile, parse_columns, read_ratings
from eval.xsts.other_scales import as_markdown, score_other_scale
from eval.xsts.readers import spreadsheets
from eval.xsts.row_checks import parse_rows
from eval.xsts.validation import ScoreSettings, validate
from nllb.errors import ConfigError, DataError

Rows = list[dict[str, Any]]
Edit = Callable[[Any, Any], None]
HEADER = ["item_id", "src_lang", "tgt_lang", "rater_id", "score"]


def rating_rows(items: int = 6, raters: tuple[str, ...] = ("a", "b")) -> list[list[Any]]:
    return [
        [f"i{item}", "eng_Latn", "fra_Latn", rater, 1 + (item + len(rater)) % 5]
        for item in range(items) for rater in raters
    ]  # fmt: skip


@pytest.fixture
def workbook(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a workbook of ratings and lets a test spoil it."""
    openpyxl = pytest.importorskip("openpyxl")

    def write(edit: Edit | None = None, name: str = "study.xlsx") -> Path:
        book = openpyxl.Workbook()
        sheet = book.active
        sheet.title = "ratings"
        for row in [HEADER, *rating_rows()]:
            sheet.append(row)
        if edit:
            edit(book, sheet)
        book.save(tmp_path / name)
        return tmp_path / name

    return write


def told(file: RatingsFile) -> str:
    return " | ".join(one.message for one in file.findings)


def usable(file: RatingsFile) -> int:
    return len(parse_rows(file.rows, keep_rater_ids=True).ratings)


def second_sheet(book: Any, title: str = "later", hidden: bool = False) -> Any:
    sheet = book.create_sheet(title)
    for row in [HEADER, *rating_rows(raters=("c",))]:
        sheet.append(row)
    sheet.sheet_state = "hidden" if hidden else "visible"
    return sheet


def test_every_visible_sheet_with_ratings_is_read(workbook: Callable[..., Path]) -> None:
    def edit(book: Any, _: Any) -> None:
        second_sheet(book)
        book.create_sheet("cover", 0).append(["Please rate every row"])

    file = read_ratings(workbook(edit))
    assert usable(file) == 18
    assert {row.file for row in file.rows} == {"study.xlsx[ratings]", "study.xlsx[later]"}
    assert told(file) == "sheets not read: 'cover' (no columns of ratings, 1 rows)"


def test_hidden_sheets_are_named_and_read_on_request(workbook: Callable[..., Path]) -> None:
    path = workbook(lambda book, _: second_sheet(book, "old", hidden=True))
    file = read_ratings(path)
    assert usable(file) == 12 and "'old' (hidden, 7 rows)" in told(file)
    assert {row.cells["rater"] for row in read_ratings(path, sheet="old").rows} == {"c"}
    with pytest.raises(ConfigError, match=r"--sheet 'olf'; did you mean old\?"):
        read_ratings(path, sheet="olf")


def test_merged_cells_have_the_value_of_their_first_cell(workbook: Callable[..., Path]) -> None:
    def edit(_: Any, sheet: Any) -> None:
        for row in range(2, 14, 2):
            sheet.merge_cells(start_row=row, end_row=row + 1, start_column=1, end_column=1)
        sheet.merge_cells("B2:B13")

    file = read_ratings(workbook(edit))
    assert usable(file) == 12 and not file.findings
    assert [row.cells["item"] for row in file.rows][:4] == ["i0", "i0", "i1", "i1"]


def test_hidden_and_struck_rows_are_counted(workbook: Callable[..., Path]) -> None:
    from openpyxl.styles import Font

    def edit(_: Any, sheet: Any) -> None:
        for row in (3, 4, 5):
            sheet.row_dimensions[row].hidden = True
        sheet["E7"].font = Font(strike=True)

    file = read_ratings(workbook(edit))
    assert usable(file) == 12
    assert "3 rows hidden; they were read (rows 3-5)" in told(file)
    assert "1 row with struck-through cells; they were read (row 7)" in told(file)


def test_formulas_without_a_value_are_named(workbook: Callable[..., Path]) -> None:
    def edit(_: Any, sheet: Any) -> None:
        sheet["E3"] = "=1+2"

    file = read_ratings(workbook(edit))
    assert (
        "1 row with formulas without a stored value; their cells were read as empty (row 3)"
        in told(file)
    )
    assert usable(file) == 11


def test_title_above_totals_below_and_notes_beside(workbook: Callable[..., Path]) -> None:
    def edit(_: Any, sheet: Any) -> None:
        sheet.insert_rows(1, 2)
        sheet["A1"] = "Study of May"
        sheet.append(["mean", None, None, None, 3.1])
        sheet.append([None, None, None, None, 3.1])
        sheet.cell(6, 9).value = "see note"

    file = read_ratings(workbook(edit))
    assert usable(file) == 12 and file.set_aside == 2
    assert "the header is in row 3; above it 1 row were not read" in told(file)
    assert "1 row set aside: no rater, no source language, no target language (row 16)" in told(
        file
    )
    assert "cells in columns without a name were not read (row 6)" in told(file)


def test_scores_that_became_dates_are_named(workbook: Callable[..., Path]) -> None:
    from datetime import datetime

    def edit(_: Any, sheet: Any) -> None:
        sheet["E2"] = datetime(2024, 1, 4)
        sheet["A3"] = datetime(2024, 1, 2)

    parsed = parse_rows(read_ratings(workbook(edit)).rows)
    messages = " ".join(one.message for one in parsed.findings)
    assert "is a date, not a score" in messages
    assert "1 row with a date as item id (row 3)" in messages


@pytest.mark.parametrize(
    ("name", "head", "reason"),
    [("locked.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "password-protected"),
     ("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"old Excel workbook \(\.xls"),
     ("text.xlsx", b"item_id,score\n", "no readable spreadsheet")],
)  # fmt: skip
def test_workbooks_that_cannot_be_read_say_what_they_are(
    tmp_path: Path, name: str, head: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(head + b"\0" * 600)
    with pytest.raises(DataError, match=f"X01 {name}: .*{reason}"):
        read_ratings(tmp_path / name)


def rewritten(path: Path, change: Callable[[str, bytes], bytes], **extra: bytes) -> Path:
    """Write a workbook again with changed files in it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**parts, **extra}.items():
            archive.writestr(name, content)
    return path


def test_bombs_are_refused_before_they_unpack(
    workbook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def same(_: str, content: bytes) -> bytes:
        return content

    path = rewritten(workbook(), same, **{"xl/media/a.bin": b"\0" * (1 << 22)})
    with pytest.raises(DataError, match=r"xl/media/a\.bin is compressed [\d,]+ times; the limit"):
        read_ratings(path)
    monkeypatch.setattr(spreadsheets, "MAX_UNPACKED_BYTES", 1 << 21)
    with pytest.raises(DataError, match="unpacks to 4 MiB; the limit is 2 MiB"):
        read_ratings(path)
    monkeypatch.setattr(spreadsheets, "MAX_MEMBERS", 3)
    with pytest.raises(DataError, match="files in the archive, more than the 3"):
        read_ratings(path)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'<mergeCell ref="A2:A3"', b'<mergeCell ref="A2:XFD1048576"'),
     (b'r="E13"', b'r="XFD1048576"')],
)  # fmt: skip
def test_far_corners_are_refused(
    workbook: Callable[..., Path], before: bytes, after: bytes
) -> None:
    path = workbook(lambda _, sheet: sheet.merge_cells("A2:A3"))
    rewritten(path, lambda _, content: content.replace(before, after))
    with pytest.raises(DataError, match="cells between the outermost ones, the limit is 2,000,000"):
        read_ratings(path)


def test_too_many_cells_are_refused(
    workbook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreadsheets, "MAX_CELLS", 60)
    with pytest.raises(DataError, match="65 cells, the limit is 60"):
        read_ratings(workbook())


def test_open_document_sheets(tmp_path: Path) -> None:
    pytest.importorskip("odf")
    from odf.opendocument import OpenDocumentSpreadsheet
    from odf.table import Table, TableCell, TableRow
    from odf.text import P

    document = OpenDocumentSpreadsheet()
    table = Table(name="ratings")
    for cells in [HEADER, *rating_rows()]:
        row = TableRow()
        for value in cells:
            if isinstance(value, int):
                cell = TableCell(valuetype="float", value=value)
            else:
                cell = TableCell(valuetype="string")
            cell.addElement(P(text=str(value)))
            row.addElement(cell)
        table.addElement(row)
    table.addElement(TableRow(numberrowsrepeated=1_048_000))
    document.spreadsheet.addElement(table)
    document.save(str(tmp_path / "study.ods"))
    file = read_ratings(tmp_path / "study.ods")
    assert usable(file) == 12 and not file.findings
    assert [row.line for row in file.rows][-1] == 13


def as_csv(rows: list[list[Any]], delimiter: str = ",") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize(
    "text",
    ["sep=;\n" + as_csv([HEADER, *rating_rows()], ";"),
     as_csv([[*HEADER, "", ""], *[[*row, "", ""] for row in rating_rows()]]),
     as_csv([HEADER, *rating_rows(), *[[""] * 5] * 3]),
     as_csv([["Study of May", "", "", "", ""], HEADER, *rating_rows()]),
     "Study, in May\n" + as_csv([HEADER, *rating_rows()], ";"),
     as_csv([HEADER, *rating_rows()], "\t"),
     json.dumps([dict(zip(HEADER, row, strict=True)) for row in rating_rows()]),
     json.dumps({"rows": [dict(zip(HEADER, row, strict=True)) for row in rating_rows()]})],
    ids=["sep", "empty columns", "empty rows", "title", "comma in the title", "tabs",
         "JSON array", "JSON object"],
)  # fmt: skip
def test_text_files_as_programs_write_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.csv").write_text(text, encoding="utf-8")
    file = read_ratings(tmp_path / "r.csv")
    assert usable(file) == 12 and file.set_aside == 0


def label_studio_tasks() -> list[dict[str, Any]]:
    data = {"src_lang": "eng_Latn", "tgt_lang": "fra_Latn", "src_text": "Hello.", "system": "s"}

    def annotation(rater: Any, result: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {"completed_by": rater, "lead_time": 4.5, "result": result, **more}

    def rating(value: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"from_name": "xsts", "type": "rating", "value": value}]

    return [
        {"id": number, "data": {**data, "item_id": f"i{number}", "tgt_text": f"Bonjour {number}."},
         "annotations": [
             annotation(1, rating({"rating": 4})),
             annotation({"id": 2, "email": "x@example.org"}, rating({"choices": ["3"]})),
             annotation(3, rating({"number": 5}), was_cancelled=number == 0),
             annotation(4, []),
         ]}
        for number in range(3)
    ]  # fmt: skip


def test_label_studio_json(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(label_studio_tasks()))
    file = read_ratings(path)
    parsed = parse_rows(file.rows)
    assert [one.score for one in parsed.ratings] == [4, 3, 4, 3, 5, 4, 3, 5]
    assert parsed.blank == 3, "an annotation without a result is not yet rated"
    assert (file.set_aside, told(file)) == (1, "1 cancelled annotations are set aside (row 1)")
    assert {one.item for one in parsed.ratings} == {"i0", "i1", "i2"}
    assert parsed.ratings[0].duration_s == 4.5 and "example.org" not in repr(parsed)


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_label_studio_min_and_csv(tmp_path: Path, form: str) -> None:
    rows: Rows = [
        {"id": n // 2, "annotation_id": n, "annotator": n % 2, "item_id": f"i{n // 2}",
         "src_lang": "eng_Latn", "tgt_lang": "fra_Latn", "lead_time": 3.0,
         "xsts": {"rating": 1 + n % 5} if n != 5 else None}
        for n in range(8)
    ]  # fmt: skip
    path = tmp_path / f"export.{form}"
    if form == "json":
        path.write_text(json.dumps(rows))
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        for row in rows:
            row["xsts"] = json.dumps([row["xsts"]]) if row["xsts"] else ""
        path.write_text(as_csv([list(rows[0]), *[list(row.values()) for row in rows]]))
    parsed = parse_rows(read_ratings(path).rows)
    assert [one.score for one in parsed.ratings] == [1, 2, 3, 4, 5, 2, 3]
    assert parsed.blank == 1


def appraise_rows(systems: dict[str, float]) -> list[list[Any]]:
    return [
        [f"engfra0a0{rater}", system, item, "BAD" if item % 10 == 9 else "TGT", "eng", "fra",
         worth + (item * 7 + rater) % 11, f"doc{item // 5}", "False", 1.7e9 + item,
         1.7e9 + item + 5]
        for system, worth in systems.items() for item in range(40) for rater in (1, 2)
    ]  # fmt: skip


@pytest.mark.parametrize("header", [False, True])
def test_appraise_is_scored_on_its_own_scale(tmp_path: Path, header: bool) -> None:
    rows = appraise_rows({"base": 60, "big": 70})
    names = ["user", "system", "seg", "type", "src_lang", "tgt_lang", "score", "doc", "done",
             "start", "end"]  # fmt: skip
    path = tmp_path / "export.csv"
    path.write_text(as_csv([names, *rows] if header else rows))
    file = read_ratings(path)
    assert (file.scale, len(file.rows)) == ("esa", 160) and "16 quality-control items" in told(file)
    settings = ScoreSettings(resamples=100)
    validated = validate([file], settings)
    assert not validated.refused
    result = score_other_scale([file], validated, settings)
    assert [(one.system, one.segments, one.ratings) for one in result.systems] == [
        ("big", 36, 72), ("base", 36, 72),
    ]  # fmt: skip
    assert result.attention == 16
    [one] = result.differences
    assert one.difference.value == pytest.approx(10) and one.p_value < 0.001
    assert "ESA, 0 to 100" in as_markdown(result)


def test_wmt_esa_table(tmp_path: Path) -> None:
    spans = json.dumps([{"start_i": 0, "end_i": 3, "severity": "minor"}])
    rows = [["a1", f"en-fr_#_doc_#_{n}", "sys", n, "TGT", "eng", "fra", 3 * n, "d", "False", spans,
             1] for n in range(20)]  # fmt: skip
    (tmp_path / "wmt.csv").write_text(as_csv(rows))
    file = read_ratings(tmp_path / "wmt.csv")
    assert file.scale == "esa" and file.rows[3].cells["item"] == "en-fr_#_doc_#_3"
    assert file.rows[3].cells["score"] == "9" and file.rows[3].cells["rater"] == "a1"


def test_mqm_becomes_penalty_points(tmp_path: Path) -> None:
    columns = ["system", "doc", "doc_id", "seg_id", "rater", "source", "target", "category",
               "severity"]  # fmt: skip
    errors = [("1", "Accuracy/Mistranslation", "Major"), ("1", "Fluency/Punctuation", "Minor"),
              ("1", "Style/Awkward", "Minor"), ("2", "No-error", "No-error"),
              ("3", "Non-translation!", "Major"), ("4", "Style", "Odd")]  # fmt: skip
    rows = [["s", "d", "1", seg, "r1", "Hello <v>you</v>", "Bonjour", kind, severity]
            for seg, kind, severity in errors]  # fmt: skip
    (tmp_path / "mqm.tsv").write_text(as_csv([columns, *rows], "\t"))
    advice = r"a table of MQM annotations.*no source language, no target language.*"
    advice += r"--columns source==eng_Latn --columns target==fra_Latn"
    with pytest.raises(DataError, match=advice):
        read_ratings(tmp_path / "mqm.tsv")
    file = read_ratings(
        tmp_path / "mqm.tsv", columns=parse_columns(["source==en", "target==French"])
    )
    parsed = parse_rows(file.rows, scale=file.scale)
    assert {one.item: one.score for one in parsed.ratings} == {
        "d#1": pytest.approx(6.1), "d#2": 0.0, "d#3": 25.0,
    }  # fmt: skip
    assert parsed.ratings[0].source_text == "Hello you" and "severity" in told(file)
    assert "read as a table of MQM annotations, one error per row; 6 rows" in told(file)
    assert "columns not read" not in told(file)


def test_pearmut_lines(tmp_path: Path) -> None:
    lines = [
        {"user_id": user, "item": [{"item_id": f"en-fr-{n}", "src": "Hello",
                                    "tgt": {"a": "Bonjour", "b": "Salut"}}],
         "annotation": [{"a": {"score": 4, "error_spans": []}, "b": {"score": None}}], "time": 9}
        for n in range(4) for user in ("u1", "u2")
    ]  # fmt: skip
    path = tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = read_ratings(path)
    parsed = parse_rows(file.rows, scale=file.scale)
    assert (file.scale, len(parsed.ratings), parsed.blank) == ("xsts", 8, 8)
    one = parsed.ratings[0]
    assert (one.source, one.target, one.system, one.target_text) == (
        "eng_Latn", "fra_Latn", "a", "Bonjour",
    )  # fmt: skip
    lines[0]["annotation"][0]["a"]["error_spans"] = [{"start_i": 0}]  # type: ignore[index]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_ratings(path).scale == "esa"


def test_formats_can_be_forced_and_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "ratings.data"
    path.write_text(as_csv([HEADER, *rating_rows()]))
    assert usable(read_ratings(path, format_name="csv")) == 12
    with pytest.raises(DataError, match="give --format for others"):
        read_ratings(path)
    with pytest.raises(ConfigError, match=r"unknown format 'apraise'; did you mean appraise\?"):
        read_ratings(path, format_name="apraise")
    with pytest.raises(DataError, match="not an Appraise export"):
        read_ratings(path, format_name="appraise")


def test_scales_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "esa.csv").write_text(as_csv(appraise_rows({"base": 60})))
    (tmp_path / "xsts.csv").write_text(as_csv([HEADER, *rating_rows()]))
    files = [read_ratings(tmp_path / name) for name in ("esa.csv", "xsts.csv")]
    with pytest.raises(DataError, match=r"esa\.csv is esa, xsts\.csv is xsts"):
        validate(files, ScoreSettings())


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_unicode_encodings_are_read_without_a_word(tmp_path, encoding, separator) -> None:
    rows = [[*HEADER, "tgt_text"], *([*row, "très “bien” 很好"] for row in rating_rows())]
    path = tmp_path / "study.csv"
    path.write_bytes(
        "".join(separator.join(map(str, row)) + "\r\n" for row in rows).encode(encoding)
    )
    file = read_ratings(path)
    assert usable(file) == len(rating_rows())
    assert {row.cells["target_text"] for row in file.rows} == {"très “bien” 很好"}
    assert "UTF-8" not in told(file)


@pytest.mark.parametrize(
    ("encoding", "comment"),
    [
        ("cp1252", "très “bien” – Zoë"),
        ("cp1251", "хороший перевод, спасибо"),
        ("cp1253", "καλή μετάφραση, ευχαριστώ"),
        ("shift_jis", "良い翻訳です、ありがとう"),
        ("gb18030", "翻译得很好，谢谢大家"),
    ],
)
def test_code_pages_are_guessed_and_reported(tmp_path, encoding, comment) -> None:
    rows = [[*HEADER, "tgt_text"], *([*row, comment] for row in rating_rows())]
    path = tmp_path / "study.csv"
    path.write_bytes("".join(";".join(map(str, row)) + "\r\n" for row in rows).encode(encoding))
    file = read_ratings(path)
    assert usable(file) == len(rating_rows())
    assert {row.cells["target_text"] for row in file.rows} == {comment}
    assert f"read as {encoding}, which is a guess" in told(file)
