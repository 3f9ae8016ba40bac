"""The checks X01 to X18: each reports how a study was spoiled, with place and reason."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.xsts.evaluation import evaluate
from eval.xsts.findings import codes
from eval.xsts.ingestion import read_ratings
from eval.xsts.markdown_tables import as_markdown
from eval.xsts.result import FindingRecord
from eval.xsts.validation import ScoreSettings, Validated, as_line, validate
from nllb.errors import DataError

Rows = list[dict[str, Any]]
Save = Callable[..., Path]
SETTINGS = ScoreSettings(resamples=50, keep_rater_ids=True)


def checked(path: Path, **options: Any) -> Validated:
    settings = ScoreSettings(
        **{"resamples": 50, "keep_rater_ids": True, **options.pop("settings", {})}
    )
    return validate([read_ratings(path)], settings, **options)


def findings(validated: Validated, code: str) -> list[FindingRecord]:
    return [one for one in validated.validation.findings if one.code == code]


def only(validated: Validated, code: str, severity: str) -> FindingRecord:
    """Return the one finding, after making sure that nothing else is wrong with the study."""
    others = {one.code for one in validated.validation.findings} - {code}
    assert not others, [as_line(one) for one in validated.validation.findings]
    assert findings(validated, code)[0].severity == severity
    return findings(validated, code)[0]


def rated(rows: Rows, **cells: Any) -> Rows:
    return [row for row in rows if all(row[name] == value for name, value in cells.items())]


def test_a_clean_study_has_no_findings(study: Rows, save: Save) -> None:
    validated = checked(save(study))
    assert validated.validation.findings == ()
    assert validated.validation.kept == validated.validation.rows == len(study) == 870


def test_every_code_has_a_mend() -> None:
    assert list(codes()) == [f"X{number:02}" for number in range(1, 19)]
    assert all(code.mend.endswith(".") and code.title for code in codes().values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"item_id,src_lang,tgt_lang,score\n1,eng_Latn,fra_Latn,3\n", "no preset fits.*rater_id"),
        (b"a,b\n1,2\n1,2,3\n", r"bad\.csv:3: 3 cells where the header has 2"),
        ("a,b\n1,2\n".encode("utf-16")[:-1], "cut short or damaged.*save it as UTF-8"),
        ("a,b\n1,2\n\ufeffa,b\n".encode(), r"bad\.csv:3: a byte order mark"),
        (b'a,b\n1,"2\n', "check the quotes"),
        (b"a,a\n1,2\n", "columns a occur twice"),
        (b"", "the file is empty"),
        (b"item_id,src_lang,tgt_lang,rater_id,score\n", "no rows under the header"),
    ],
)
def test_x01_form(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"X01 .*{message}"):
        read_ratings(path)


def test_x01_columns_nobody_reads_are_told(study: Rows, save: Save) -> None:
    one = only(checked(save([{**row, "mood": "good"} for row in study])), "X01", "warn")
    assert "mood" in one.message


@pytest.mark.parametrize("cell", ["0", "6", "4.5", "NaN!", "?", "good"])
def test_x02_score_is_set_aside(study: Rows, save: Save, cell: str) -> None:
    study[7]["score"] = cell
    validated = checked(save(study))
    one = findings(validated, "X02")[0]
    assert (one.severity, one.line, one.rater) == ("quarantine", 9, "fra1")
    assert "Correct the cell" in one.mend
    assert validated.validation.quarantined == {"X02": 1}
    assert not validated.refused


def test_x02_many_refuse_the_file(study: Rows, save: Save) -> None:
    for row in study[:20]:
        row["score"] = "4.5"
    refused = checked(save(study)).refused
    assert [one.code for one in refused] == ["X02"]
    assert "20 of 870 rows" in refused[0].message and refused[0].line == 2


@pytest.mark.parametrize(("scale", "told"), [(20, "20 to 100"), (-1, "0 to 4")])
def test_x03_another_scale(study: Rows, save: Save, scale: int, told: str) -> None:
    for row in rated(study, rater_id="fra2"):
        row["score"] = row["score"] * scale if scale > 0 else row["score"] - 1
    refused = checked(save(study)).refused
    assert [one.code for one in refused] == ["X03"]
    assert refused[0].rater == "fra2" and told in refused[0].message


def test_x03_one_is_best(study: Rows, save: Save) -> None:
    for row in rated(study, rater_id="fra2"):
        row["score"] = 6 - row["score"]
    refused = checked(save(study)).refused
    assert [(one.code, one.rater) for one in refused] == [("X03", "fra2")]
    assert "1 as best" in refused[0].message


def test_x04_exact_copies_count_once(study: Rows, save: Save) -> None:
    validated = checked(save([*study, dict(study[0])]))
    one = only(validated, "X04", "warn")
    assert (one.line, validated.validation.kept) == (872, 870)
    assert "1 row set aside as exact copies of other rows (row 872)" in one.message
    assert validated.validation.quarantined == {"X04": 1}
    assert not validated.checked.repeated, "a pasted row says nothing about self-agreement"


def test_x04_a_rating_that_was_given_again_is_self_agreement(study: Rows, save: Save) -> None:
    again = {**study[0], "timestamp": "2024-05-03T09:00:00"}
    validated = checked(save([*study, again]))
    one = only(validated, "X04", "warn")
    assert (one.rater, one.line, validated.validation.kept) == ("fra0", 872, 870)
    assert len(validated.checked.repeated) == 1


def test_x04_unequal_repeats_are_both_set_aside(study: Rows, save: Save) -> None:
    again = {**study[0], "score": 6 - study[0]["score"] if study[0]["score"] != 3 else 5}
    validated = checked(save([*study, again]))
    one = findings(validated, "X04")[0]
    assert one.severity == "quarantine" and "1 with another score" in one.message
    assert validated.validation.quarantined == {"X04": 2}
    assert [one.code for one in validated.validation.findings] == ["X04", "X05"]


def test_x05_too_few_raters(study: Rows, save: Save) -> None:
    del study[4]
    one = only(checked(save(study)), "X05", "warn")
    assert "1 of 120 items have fewer than 3 raters (fewest 2), such as 's1'" in one.message
    assert checked(save(study), settings={"min_raters": 2}).validation.findings == ()


def test_x06_raters_who_copy_or_never_change(study: Rows, save: Save) -> None:
    twins = {(row["item_id"], row["set"], row["system"]): row["score"]
             for row in rated(study, rater_id="fra0")}  # fmt: skip
    for row in rated(study, rater_id="fra1"):
        row["score"] = twins[row["item_id"], row["set"], row["system"]]
    found = findings(checked(save(study)), "X06")
    assert {one.rater for one in found} == {"fra0", "fra1"}
    assert "same score to all 290 items" in found[0].message


def test_x06_constant_and_burst(study: Rows, save: Save) -> None:
    for row in rated(study, rater_id="fra0"):
        row["score"] = 4
    for row in rated(study, rater_id="fra1")[:6]:
        row["timestamp"] = "2024-05-01T10:00:00"
    told = {one.rater: one.message for one in findings(checked(save(study)), "X06")}
    assert "gave 4 to all 290" in told["fra0"]
    assert "6 ratings in the same second" in told["fra1"]


def test_x07_systems_on_different_items(study: Rows, save: Save) -> None:
    for row in rated(study, system="big", item_id="s5"):
        row["item_id"] = "s999"
    path = save(study)
    validated = checked(path)
    one = only(validated, "X07", "withhold")
    assert "base 120, big 120; 119 in common" in one.message
    result = evaluate([read_ratings(path)], SETTINGS)
    assert not any(one.ranking_allowed for one in result.directions)
    common = evaluate([read_ratings(path)], ScoreSettings(resamples=50, intersect=True))
    assert [one.items for one in common.directions] == [119, 119]
    assert all(one.ranking_allowed for one in common.directions)
    assert common.validation.quarantined == {"X07": 6}


def test_x08_no_calibration_withholds_the_calibrated_score(study: Rows, save: Save) -> None:
    path = save(rated(study, set="eval"))
    assert "rated no calibration items" in only(checked(path), "X08", "withhold").message
    result = evaluate([read_ratings(path)], SETTINGS)
    assert all(not one.calibrated and one.withheld for one in result.directions)
    assert any("not calibrated" in note for note in result.notes)


def test_x08_part_of_the_set(study: Rows, save: Save) -> None:
    one = only(checked(save(study), settings={"calibration_size": 500}), "X08", "withhold")
    assert "only 50 of 500" in one.message


def test_x08_other_texts(make_study: Callable[..., Rows], save: Save) -> None:
    both = make_study() + make_study(target="deu_Latn", seed=1)
    changed = rated(both, item_id="c7", rater_id="deu1")[0]
    changed["tgt_text"] = "Something else."
    one = only(checked(save(both)), "X08", "withhold")
    assert "A: eng_Latn-deu_Latn: calibration item 'c7' has other texts than at" in one.message


def test_x08_against_the_set_itself(study: Rows, save: Save) -> None:
    whole = {row["item_id"]: (row["src_text"], row["tgt_text"])
             for row in rated(study, set="calibration")}  # fmt: skip
    path = save(study)
    assert checked(path, calibration_set=whole).validation.findings == ()
    other = checked(path, calibration_set=whole | {"c4": ("Other", "texts")})
    assert (
        "'c4' has other texts than the calibration set has"
        in only(other, "X08", "withhold").message
    )
    more = whole | {f"d{number}": ("More", "items") for number in range(20)}
    assert "only 50 of 70" in only(checked(path, calibration_set=more), "X08", "withhold").message
    del whole["c7"]
    fewer = checked(path, calibration_set=whole)
    assert "other texts than any in the calibration set" in only(fewer, "X08", "withhold").message


def test_x08_unbalanced_strata(study: Rows, save: Save) -> None:
    kept = [row for row in study if row["stratum"] != "5" or int(row["item_id"][1:]) < 20]
    one = only(checked(save(kept)), "X08", "withhold")
    assert "unbalanced (1: 10, 2: 10, 3: 10, 4: 10, 5: 4)" in one.message


@pytest.mark.parametrize(
    ("code", "told"),
    [("fra_Latm", "fra_Latn"), ("Frensh", "unknown language"), ("zho_Hanz", "zho_Han")],
)
def test_x09_language_codes(study: Rows, save: Save, code: str, told: str) -> None:
    for row in rated(study, set="eval"):
        row["tgt_lang"] = code
    refused = checked(save(study)).refused
    assert [one.code for one in refused] == ["X09"]
    assert told in refused[0].message and "(720 cells)" in refused[0].message


def test_x09_sides_exchanged(study: Rows, save: Save) -> None:
    for row in rated(study, set="eval"):
        row["tgt_lang"] = "rus_Cyrl"
        row["src_text"], row["tgt_text"] = f"Предложение {row['item_id']} здесь.", row["src_text"]
    refused = checked(save(study)).refused
    assert [one.code for one in refused] == ["X09"] and "exchanged?" in refused[0].message


def test_x09_texts_in_another_language(study: Rows, save: Save) -> None:
    def detect(texts: Sequence[str]) -> list[str]:
        return ["eng_Latn" if "The" in text else "oci_Latn" for text in texts]

    found = findings(checked(save(study), detect=detect), "X09")
    assert len(found) == 2
    assert all(
        one.severity == "warn" and "100 of 100 target texts look like oci_Latn" in one.message
        for one in found
    )


def test_x10_sources_outside_the_test_set(study: Rows, save: Save) -> None:
    lines = {row["src_text"]: f"Référence {row['item_id']}" for row in rated(study, set="eval")}
    path = save(study)
    assert checked(path, references=lambda *_: lines).validation.findings == ()
    del lines["The eval sentence s3 is here."]
    validated = checked(path, references=lambda *_: lines)
    one = only(validated, "X10", "quarantine")
    assert "6 source texts, such as 'The eval sentence s3 is here.'" in one.message
    assert validated.validation.quarantined == {"X10": 6}
    spaced = {text.replace("here", "  here"): line for text, line in lines.items()}
    assert findings(checked(path, references=lambda *_: spaced), "X10")[0].severity == "warn"


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "an empty translation"), ("The eval sentence s0 is here.", "equal to its source"),
     ("Référence s0", "equal to the reference")],
)  # fmt: skip
def test_x11_nothing_to_rate(study: Rows, save: Save, text: str, told: str) -> None:
    lines = {row["src_text"]: f"Référence {row['item_id']}" for row in rated(study, set="eval")}
    for row in rated(study, item_id="s0", system="base"):
        row["tgt_text"] = text
    one = only(checked(save(study), references=lambda *_: lines), "X11", "warn")
    assert told in one.message and "ratings.csv:2, ratings.csv:3" in one.message


def test_x12_rater_against_the_strata(study: Rows, save: Save) -> None:
    for number, row in enumerate(rated(study, rater_id="fra1", set="calibration")):
        row["score"] = 1 + (number * 7 // 3) % 5
    one = only(checked(save(study)), "X12", "warn")
    assert one.rater == "fra1" and "does not follow the strata" in one.message


def test_x12_rater_far_from_the_centre(study: Rows, save: Save) -> None:
    for row in rated(study, rater_id="fra1", set="calibration"):
        row["score"] = 5 if int(row["stratum"]) > 1 else 4
    path = save(study)
    assert "on average; 3 is expected" in findings(checked(path), "X12")[0].message
    result = evaluate([read_ratings(path)], SETTINGS)
    assert result.sensitivity[-1].method == "without flagged raters"
    assert next(one for one in result.raters if one.rater == "fra1").flags == ("X12",)


def test_x13_too_few_items(make_study: Callable[..., Rows], save: Save) -> None:
    path = save(make_study(items=60))
    assert "60 items; a ranking needs 100" in only(checked(path), "X13", "withhold").message
    assert not any(
        one.ranking_allowed for one in evaluate([read_ratings(path)], SETTINGS).directions
    )


def test_x14_contradictions(study: Rows, save: Save) -> None:
    study[0].update(score=4, tgt_incoherent="yes")
    study[3].update(
        score=5, src_text="It cost 1,250 in 1999.", tgt_text="Cela coûtait ١٢٥٠ en 1998."
    )
    study[6].update(
        score=5, src_text="It cost 1,250 in 1999.", tgt_text="Cela coûtait ١٢٥٠ en 1999."
    )
    told = " ".join(one.message for one in findings(checked(save(study)), "X14"))
    assert "flagged incoherent (ratings.csv:2)" in told
    assert "a 5 although the numbers differ (ratings.csv:5)" in told and "csv:8" not in told


def test_x15_unlinked_studies(make_study: Callable[..., Rows], save: Save) -> None:
    other = make_study(study="B", target="deu_Latn")
    linked = save(make_study() + other)
    assert checked(linked).validation.findings == ()
    for row in other:
        row["item_id"] = f"new {row['item_id']}"
        row["src_text"] = f"Another sentence {row['item_id']}."
    refused = checked(save(make_study() + other)).refused
    assert [one.code for one in refused] == ["X15"]
    assert "studies A and B have other calibration sets" in refused[0].message


def test_x15_mixed_versions(study: Rows, save: Save) -> None:
    for row in study[::2]:
        row["protocol_version"] = "2"
    refused = checked(save(study)).refused
    assert [one.code for one in refused] == ["X15"] and "versions 1, 2" in refused[0].message


@pytest.mark.parametrize("language", ["French", "fr", "fra", "FRA_latn"])
def test_x09_names_and_iso_codes_are_languages(study: Rows, save: Save, language: str) -> None:
    for row in rated(study, set="eval"):
        row["tgt_lang"] = language
    validated = checked(save(study))
    assert validated.validation.findings == ()
    targets = {one.target for one in validated.checked.ratings if one.set == "eval"}
    assert targets == {"fra_Latn"}


@pytest.mark.parametrize(
    "rater", ["anna.meyer@example.org", "MARIA SILVA", "张伟", "J. Li", "01512345678"]
)
def test_x16_rater_ids_never_come_out(study: Rows, save: Save, rater: str) -> None:
    for row in rated(study, rater_id="fra1"):
        row["rater_id"] = rater
    path = save(study)
    validated = checked(path, settings={"keep_rater_ids": False})
    assert validated.validation.findings == ()
    result = evaluate([read_ratings(path)], ScoreSettings(resamples=50))
    assert {one.rater for one in result.raters} == {"person-1", "person-2", "person-3"}
    assert rater not in repr(result) and "fra0" not in repr(result)
    kept = findings(checked(path), "X16")
    assert [one.line for one in kept] == [3] and rater not in as_line(kept[0])


def test_x17_spellings_of_one_rater(study: Rows, save: Save) -> None:
    for row in rated(study, rater_id="fra1")[:40]:
        row["rater_id"] = " FRA1"
    path = save(study)
    one = findings(checked(path), "X17")[0]
    assert one.severity == "warn" and "fra1, FRA1" in one.message and "rows 3, 6" in one.message
    assert len({r.rater for r in checked(path).checked.ratings}) == 4
    merged = checked(path, settings={"merge_raters": True})
    assert {r.rater for r in merged.checked.ratings} == {"fra0", "fra1", "fra2"}
    assert "joined under fra1" in findings(merged, "X17")[0].message


def test_x18_blank_scores_give_interim_results(study: Rows, save: Save) -> None:
    for row in rated(study, rater_id="fra2", set="eval")[-30:]:
        row["score"] = " "
    path = save(study)
    validated = checked(path)
    one = findings(validated, "X18")[0]
    assert "rater fra2 has not rated 30 of 290 rows (rows 634, 637" in one.message
    assert not validated.refused
    assert validated.validation.quarantined == {"X18": 30} and validated.validation.blank == 30
    result = evaluate([read_ratings(path)], SETTINGS)
    assert result.interim and result.notes[0].startswith("Interim results: 30 of 870")
    assert as_markdown(result).startswith("**Interim results**")


def test_rows_without_identity_are_set_aside_by_name(study: Rows, save: Save) -> None:
    for row in study[10:13]:
        row["item_id"] = " "
    study[20]["rater_id"] = ""
    study.append(dict.fromkeys(study[0], "") | {"item_id": "mean", "score": "3.1"})
    validated = checked(save(study))
    told = {one.message: one.severity for one in findings(validated, "X01")}
    assert told == {
        "3 rows set aside: no item (rows 12-14)": "quarantine",
        "1 row set aside: no rater (row 22)": "quarantine",
        "1 row set aside: no rater, no source language, no target language (row 872)": "quarantine",
    }
    assert validated.validation.rows == 871
    assert validated.validation.quarantined["X01"] == 5
    assert validated.validation.kept + 5 == 871


def test_item_ids_of_floats_keep_all_digits(study: Rows, save: Save, tmp_path: Path) -> None:
    numbers = {name: float(20240500000 + n) for n, name in enumerate(
        dict.fromkeys(row["item_id"] for row in study))}  # fmt: skip
    path = tmp_path / "ratings.jsonl"
    path.write_text(
        "".join(json.dumps({**row, "item_id": numbers[row["item_id"]]}) + "\n" for row in study)
    )
    validated = checked(path)
    assert validated.validation.findings == () and validated.validation.kept == 870
    assert "20240500003" in {one.item for one in validated.checked.ratings}


def test_refusals_are_told_together(study: Rows, save: Save) -> None:
    for row in study:
        row["tgt_lang"] = "xxx" if row["set"] == "eval" else row["tgt_lang"]
    for row in rated(study, rater_id="fra2"):
        row["score"] = row["score"] * 20
    with pytest.raises(DataError, match=r"(?s)2 findings reject.*X03.*fra2.*X09.*xxx"):
        evaluate([read_ratings(save(study))], SETTINGS)
