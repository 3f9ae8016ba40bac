"""Sheets: balanced, blind, safe to open, and readable again."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eval.xsts.guidelines import PROTOCOL, guidelines_page
from eval.xsts.sheet import SheetSettings, assign, read_items, write_sheets
from nllb.errors import ConfigError, DataError
from nllb.io.text import read_json_lines

RATERS = ("r01", "r02", "r03", "r04", "r05")


def items(number: int = 40, systems: tuple[str, ...] = ("base", "big")) -> list[dict[str, Any]]:
    return [
        {"study": "", "item": f"s{index}", "system": system, "stratum": "", "source": "eng_Latn",
         "target": "fra_Latn", "source_text": f"Sentence {index}.",
         "target_text": f"=Phrase {index}, {system}."}
        for index in range(number) for system in systems
    ]  # fmt: skip


def anchors(number: int = 10) -> list[dict[str, Any]]:
    return [
        {"study": "", "item": f"c{index}", "system": "", "stratum": str(1 + index % 5),
         "source": "eng_Latn", "target": "eng_Latn", "source_text": f"Anchor {index}.",
         "target_text": f"Anchored {index}."}
        for index in range(number)
    ]  # fmt: skip


def settings(**changes: Any) -> SheetSettings:
    return SheetSettings(**{"raters": RATERS, **changes})


def test_assignment_is_balanced_and_keeps_systems_together() -> None:
    assigned = assign(items(41), settings())
    loads = [len(rows) for rows in assigned.values()]
    assert sum(loads) == 41 * 2 * 3 and max(loads) - min(loads) <= 2
    teams = Counter()
    for index in range(41):
        both = [
            frozenset(
                rater for rater, rows in assigned.items()
                if (f"s{index}", system) in {(row["item"], row["system"]) for row in rows}
            )
            for system in ("base", "big")
        ]  # fmt: skip
        assert both[0] == both[1] and len(both[0]) == 3
        teams[both[0]] += 1
    assert len(teams) >= 8, "the same raters always meet"


def test_sheets_are_blind_complete_and_mixed(tmp_path: Path) -> None:
    write_sheets(items(), anchors(), tmp_path, settings=settings(repeat=0.1))
    key = {row["row"]: row for row in read_json_lines(tmp_path / "key.jsonl")}
    seen: Counter[tuple[str, str]] = Counter()
    for rater in RATERS:
        with (tmp_path / f"{rater}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["rater"] for row in rows} == {rater}
        assert all(row["score"] == "" for row in rows)
        assert "system" not in rows[0] and not any("eval" in row["row"] for row in rows)
        roles = [key[row["row"]]["set"] for row in rows]
        assert roles.count("calibration") == 10
        assert roles.count("attention") == round(0.1 * roles.count("eval"))
        halves = (roles[: len(roles) // 2], roles[len(roles) // 2 :])
        assert all(3 <= half.count("calibration") <= 7 for half in halves)
        for row in rows:
            meaning = key[row["row"]]
            assert row["sentence 2"].removeprefix("'") == meaning["target_text"]
            if meaning["set"] == "eval":
                seen[meaning["item"], meaning["system"]] += 1
    assert set(seen.values()) == {3} and len(seen) == 80
    assert {row["protocol"] for row in key.values()} == {PROTOCOL}


def test_a_sentence_is_never_a_formula(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    write_sheets(items(2), [], tmp_path, settings=settings(per_item=5))
    with (tmp_path / "r01.csv").open(newline="") as file:
        assert all(row["sentence 2"].startswith("'=") for row in csv.DictReader(file))
    sheet = openpyxl.load_workbook(tmp_path / "r01.xlsx").active
    cells = [row[5] for row in sheet.iter_rows(min_row=2)]
    assert all(cell.data_type == "s" and cell.value.startswith("=Phrase") for cell in cells)
    rules = {str(rule.sqref): rule.formula1 for rule in sheet.data_validations.dataValidation}
    assert rules["I2:I5"] == '"1,2,3,4,5"'


def test_sampling_takes_the_same_items_of_all_systems(tmp_path: Path) -> None:
    write_sheets(items(), [], tmp_path, settings=settings(num_items=7))
    told = json.loads((tmp_path / "assignment.json").read_text())
    assert (told["items"], told["pairs"]) == (7, 14)
    with pytest.raises(DataError, match="has 40 items, 50 were requested"):
        write_sheets(items(), [], tmp_path / "more", settings=settings(num_items=50))


def test_sheets_are_reproducible_and_never_overwritten(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_sheets(items(), anchors(), tmp_path / name, settings=settings(seed=3))
    assert (tmp_path / "one" / "r02.csv").read_bytes() == (
        tmp_path / "two" / "r02.csv"
    ).read_bytes()
    with pytest.raises(DataError, match="already contains sheets"):
        write_sheets(items(), anchors(), tmp_path / "one", settings=settings())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"raters": ("anna@example.org", "r2", "r3")}, "X16"),
     ({"raters": ("a1", "a1", "a2")}, "twice"),
     ({"per_item": 9}, "9 raters per item, of 5"), ({"repeat": 2.0}, "not a share"),
     ({"raters": ("../r1", "r2", "r3")}, "name files")],
)  # fmt: skip
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


def test_items_are_checked(tmp_path: Path) -> None:
    def write(*rows: str) -> Path:
        path = tmp_path / "items.csv"
        path.write_text("item_id,system,src_lang,tgt_lang,src_text,tgt_text\n" + "\n".join(rows))
        return path

    good = "1,base,eng_Latn,fra_Latn,Hello.,Bonjour."
    assert read_items(write(good))[0]["target_text"] == "Bonjour."
    with pytest.raises(
        DataError, match=r"X04 items\.csv:3: item '1' of system 'base' occurs twice"
    ):
        read_items(write(good, good))
    with pytest.raises(DataError, match=r"(?s)X09.*'xyz'.*X11.*X04 items\.csv:5.*and 6 more"):
        read_items(write(good, "2,base,eng_Latn,xyz,Hello.,", *[good] * 14))
    with pytest.raises(DataError, match=r"X11 items\.csv:2: no target text"):
        read_items(write("1,base,eng_Latn,fra_Latn,Hello.,"))
    named = read_items(write("1,base,English,fr,Hello.,Bonjour."))[0]
    assert (named["source"], named["target"]) == ("eng_Latn", "fra_Latn")
    with pytest.raises(DataError, match=r"X01 items\.csv:2: no item id"):
        read_items(write(" ,base,eng_Latn,fra_Latn,Hello.,Bonjour."))


def test_guidelines_have_the_scale_and_no_network() -> None:
    html = guidelines_page().render()
    assert PROTOCOL in html and html.count("<th") >= 7
    assert "http://" not in html.replace("http://www.w3.org", "") and "https://" not in html
    assert all(name in html for name in ("Not equivalent", "Near-equivalent", "incoherent"))


@pytest.mark.parametrize(
    "text",
    ["=1+1", " =1+1", "\u00a0\u3000=1+1", "\u200b=1+1", "＝1+1", "＋1", "＠sum", "\n=1+1",
     "Hello;=1+1", "Hello; =1+1", "Hello\r=1+1", "Hello\t@sum", "Hello\u2028-1"],
)  # fmt: skip
def test_no_spreadsheet_program_sees_a_formula(tmp_path: Path, text: str) -> None:
    write_sheets([{**items(1)[0], "target_text": text}], [], tmp_path, settings=settings())
    rater = next(path for path in sorted(tmp_path.glob("r*.csv")) if "row" in path.read_text())
    signs = set("=+-@＝＋－＠")
    for reader in (csv.reader, lambda file: csv.reader(file, delimiter=";")):
        with rater.open(newline="", encoding="utf-8") as file:
            for row in reader(file):
                for cell in row:
                    parts = re.split("[;\\t\\r\\n\\u2028]", cell)
                    begins = [part.strip(' \u00a0\u3000\u200b"')[:1] for part in parts]
                    assert not signs & set(begins), row


def test_carriage_returns_do_not_break_rows(tmp_path: Path) -> None:
    texts = {"source_text": "One\rtwo\r\nthree", "target_text": "Un\rdeux"}
    write_sheets([{**items(1)[0], **texts}], [], tmp_path, settings=settings(per_item=5))
    raw = (tmp_path / "r01.csv").read_bytes()
    assert b'"One\rtwo\r\nthree"' in raw
    with (tmp_path / "r01.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 and rows[0]["sentence 2"] == "Un\rdeux"


def test_control_characters_and_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    text = "A\x07bell \ud83d and\x00 more"
    write_sheets(
        [{**items(1)[0], "target_text": text}], [], tmp_path, settings=settings(per_item=5)
    )
    with (tmp_path / "r01.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["sentence 2"] == "A\ufffdbell \ufffd and\ufffd more"
    sheet = openpyxl.load_workbook(tmp_path / "r01.xlsx").active
    assert sheet["F2"].value == "A\ufffdbell \ufffd and\ufffd more"
    key = next(iter(read_json_lines(tmp_path / "key.jsonl")))
    assert key["target_text"] == text, "the key has the text as it was"


@pytest.mark.parametrize("rater", ["../r01", "..", "a/b", "r\n1", "C:\\r"])
def test_ids_of_raters_become_names_of_files(rater: str) -> None:
    with pytest.raises(ConfigError, match="is used as a file name"):
        SheetSettings(raters=("r02", rater), per_item=1)
