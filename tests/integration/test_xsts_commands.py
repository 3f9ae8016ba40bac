"""Human evaluation from end to end: plan, sheets, filled by simulated raters, check, score."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from eval.xsts.result import read_result
from nllb.cli import main

RATERS = ("r01", "r02", "r03")
SEVERITY = {"r01": 0.6, "r02": 0.4, "r03": 0.2}
WORTH = {"base": 3.0, "big": 3.6}
NUM_ITEMS = 110


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a test set, items to rate, calibration items, and filled sheets."""
    root = tmp_path_factory.mktemp("xsts")
    flores = root / "flores200_dataset" / "devtest"
    flores.mkdir(parents=True)
    english = [f"The house with number {index} stands by the river." for index in range(1012)]
    french = [f"La maison au numéro {index} est au bord de la rivière." for index in range(1012)]
    for code, lines in (("eng_Latn", english), ("fra_Latn", french)):
        (flores / f"{code}.devtest").write_text("\n".join(lines) + "\n", encoding="utf-8")
    header = "item_id,system,src_lang,tgt_lang,src_text,tgt_text,stratum\n"
    rows = [
        f"s{index},{system},eng_Latn,fra_Latn,{english[index]},{said},\n"
        for index in range(NUM_ITEMS)
        for system, said in (
            ("base", f"La maison {index} rivière bord."),
            ("big", f"La maison avec le numéro {index} est au bord de la rivière."),
        )
    ]
    (root / "items.csv").write_text(header + "".join(rows), encoding="utf-8")
    rows = [
        f"c{index},,eng_Latn,eng_Latn,A sentence {index} of step {1 + index % 5}.,"
        f"The sentence {index} again.,{1 + index % 5}\n"
        for index in range(60)
    ]
    (root / "calibration.csv").write_text(header + "".join(rows), encoding="utf-8")
    assert main(
        ["eval", "xsts", "sheet", str(root / "items.csv"), str(root / "sheets"),
         "--raters", *RATERS, "--calibration", str(root / "calibration.csv"), "--repeat", "0.1"]
    ) == 0  # fmt: skip
    fill(root / "sheets")
    return root


def fill(sheets: Path) -> None:
    """Rate as people would: worth of the item, less the rater's severity, plus some error."""
    random = np.random.default_rng(0)
    key = {}
    for line in (sheets / "key.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        key[record["row"]] = record
    worth: dict[tuple[str, str], float] = {}
    for rater in RATERS:
        with (sheets / f"{rater}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            meaning = key[row["row"]]
            name = (meaning["item"], meaning["system"])
            if meaning["set"] == "calibration":
                worth[name] = float(meaning["stratum"])
            elif name not in worth:
                worth[name] = random.normal(WORTH[meaning["system"]], 0.8)
            rated = worth[name] - SEVERITY[rater] + random.normal(0, 0.5)
            row["score"] = str(int(np.clip(np.round(rated), 1, 5)))
        with (sheets / f"{rater}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def sheets(folder: Path) -> list[str]:
    return [str(folder / "sheets" / f"{rater}.csv") for rater in RATERS]


def test_sheets_and_guidelines_are_written(folder: Path) -> None:
    names = {path.name for path in (folder / "sheets").iterdir()}
    assert {"r01.csv", "guidelines.html", "key.jsonl", "assignment.json"} <= names


def test_filled_sheets_pass_the_checks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "xsts", "check", *sheets(folder), "--flores", str(folder)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "findings: none" in told.err


def test_scores_are_calibrated_and_compared_with_chrf(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", "xsts", "score", *sheets(folder), str(folder / "out")]
    flags = ["--flores", str(folder), "--resamples", "200", "--keep-rater-ids"]
    assert main([*arguments, *flags]) == 0
    told = capsys.readouterr()
    assert "calibrated (linear)" in told.out and "xsts.json" in told.err
    result = read_result(folder / "out")
    big, base = result["directions"]
    assert (big["system"], base["system"]) == ("big", "base")
    for one in (big, base):
        linear, truth = one["calibrated"]["linear"], WORTH[one["system"]]
        assert one["score"]["value"] < truth - 0.2
        assert abs(linear["value"] - truth) < abs(one["score"]["value"] - truth) - 0.1
        assert linear["low"] <= linear["value"] <= linear["high"]
        assert one["ranking_allowed"] and one["items"] == NUM_ITEMS
    assert big["automatic"]["chrF++"] > base["automatic"]["chrF++"] + 10
    assert [one["rater"] for one in result["raters"]] == list(RATERS)
    assert all(one["repeated"] == 22 and one["self_agreement"] > 0.2 for one in result["raters"])
    assert {one["method"] for one in result["sensitivity"]} >= {
        "none",
        "linear",
        "moderated",
        "rater",
    }


def test_json_is_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "eval",
        "xsts",
        "score",
        *sheets(folder),
        str(folder / "json"),
        "--json",
        "--quiet",
    ]
    assert main([*arguments, "--resamples", "20"]) == 0
    assert json.loads(capsys.readouterr().out) == read_result(folder / "json")


def test_other_scales_are_scored_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"rater{rater},{system},{item},TGT,eng,fra,{worth + (7 * item + rater) % 11},doc,False"
        for system, worth in (("base", 60), ("big", 70))
        for item in range(30)
        for rater in (1, 2)
    ]
    (tmp_path / "export.csv").write_text("\n".join(rows) + "\n")
    words = ["eval", "xsts", "score", str(tmp_path / "export.csv"), str(tmp_path / "out")]
    assert main([*words, "--resamples", "100", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "ESA, 0 to 100" in shown and "+10.00" in shown
    assert (tmp_path / "out" / "human_scores.json").is_file()
    assert not (tmp_path / "out" / "xsts.json").exists()
    page = tmp_path / "report.html"
    assert main(["eval", "report", str(tmp_path / "out"), str(page), "--quiet"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Human evaluation (ESA)" in text and "not comparable with XSTS" in text


def test_a_spoiled_sheet_is_refused_with_its_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("r01.csv", "key.jsonl"):
        (tmp_path / name).write_bytes((folder / "sheets" / name).read_bytes())
    text = (tmp_path / "r01.csv").read_text(encoding="utf-8").split("\n")
    (tmp_path / "r01.csv").write_text(
        "\n".join([*text[:4], "cut,row", *text[5:]]), encoding="utf-8"
    )
    assert main(["eval", "xsts", "check", str(tmp_path / "r01.csv")]) == 1
    assert "X01 r01.csv:5: 2 cells where the header has 10" in capsys.readouterr().out
    (tmp_path / "key.jsonl").unlink()
    assert main(["eval", "xsts", "score", str(tmp_path / "r01.csv"), str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()


def test_plan_from_these_ratings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "xsts", "plan", *sheets(folder), "--difference", "0.1"]) == 0
    told = capsys.readouterr().out
    assert "estimated from the ratings given" in told and "| 3 " in told
    assert main(["eval", "xsts", "plan", "--half-width", "0.1", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["raters"] for row in rows] == [1, 2, 3, 4, 5, 7]
    assert rows[0]["items"] > rows[2]["items"] > 100


@pytest.mark.parametrize(
    "arguments", [["--method", "lineer"], ["--centre", "high"], ["--columns", "ratr=Who"]]
)
def test_bad_usage(folder: Path, arguments: list[str]) -> None:
    verb = ["eval", "xsts", "score", *sheets(folder), str(folder / "bad"), *arguments]
    assert main(verb) == 2
