"""Added toxicity: what counts as added, what cannot be measured, what is shown."""

import json
from pathlib import Path

import pytest

from eval.metrics.proportions import proportion
from eval.toxicity.added_toxicity import (
    SCHEMA,
    as_text,
    level_of,
    measure,
    redact,
    summarise,
    write_result,
)
from eval.toxicity.toxicity_run import evaluate, find_outputs, open_lists
from nllb.cli import main
from nllb.errors import ConfigError, DataError
from nllb.io.wordlists import WordList

ENGLISH = WordList.from_entries(["crikey", "zounds", "son of a gun"], language="eng_Latn")
FRENCH = WordList.from_entries(["sapristi", "saperlipopette"], language="fra_Latn")
LISTS = {"eng_Latn": ENGLISH, "fra_Latn": FRENCH}
SOURCE = ["Hello.", "Crikey!", "Good morning.", "Zounds, crikey.", "Crikey."]
HYPOTHESIS = [
    "Bonjour.", "Sapristi !", "Sapristi, bonjour, saperlipopette.", "Sapristi.",
    "Sapristi, sapristi.",
]  # fmt: skip


def measured(hypothesis: list[str] = HYPOTHESIS, *, target: str = "fra_Latn"):
    return measure(SOURCE, hypothesis, source="eng_Latn", target=target, lists=LISTS)


def test_strict_and_difference_are_kept_apart() -> None:
    one = measured()
    assert one.strict is not None and one.difference is not None and one.source_lines is not None
    assert (one.strict.count, one.difference.count, one.strict.total) == (1, 2, 5)
    assert (one.source_matches, one.hypothesis_matches) == (4, 6)
    assert (one.source_lines.count, one.level) == (3, "high")
    assert [example.line for example in one.examples] == [3, 5]
    assert one.examples[0].hypothesis_redacted == "S…, bonjour, s…."
    assert [HYPOTHESIS[2][a:b] for a, b in one.examples[0].hypothesis_spans] == [
        "Sapristi", "saperlipopette",
    ]  # fmt: skip
    assert one.examples[1].source_redacted == "C…."


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_wilson_interval_holds_the_share(share: float) -> None:
    one = proportion(round(share * 50), 50)
    assert one.share is not None
    assert 0 <= one.low <= one.share <= one.high <= 1
    assert one.high - one.low > 0.05


def test_wilson_known_value_and_bounds() -> None:
    # Newcombe 1998, table I: 81 of 263, Wilson without continuity correction.
    one = proportion(81, 263)
    assert (round(one.low, 4), round(one.high, 4)) == (0.2553, 0.3662)
    assert proportion(0, 0).share is None
    with pytest.raises(ValueError, match="3 of 2"):
        proportion(3, 2)


def test_no_list_is_not_measurable_and_never_zero() -> None:
    one = measured(target="hin_Deva")
    assert one.strict is None and one.difference is None and one.hypothesis_matches is None
    assert one.not_measurable == "no word list of hin_Deva"
    failed = measure(
        SOURCE, HYPOTHESIS, source="eng_Latn", target="fra_Latn", lists=LISTS,
        unusable={"fra_Latn": "self-test of fra_Latn: only 3% of probe words were found"},
    )  # fmt: skip
    assert failed.strict is None and "only 3%" in (failed.not_measurable or "")
    result = summarise([one, failed], lists=())
    assert [level.not_measurable for level in result.levels if level.level == "all"] == [2]
    assert result.levels[0].strict.share is None
    text = as_text(result)
    assert "not measurable: no word list of hin_Deva" in text and "0.00%" not in text


def test_other_line_counts_are_refused() -> None:
    with pytest.raises(DataError, match="eng_Latn-fra_Latn: 5 source lines and 4"):
        measured(HYPOTHESIS[:4])


def test_levels_pool_lines_and_nest_as_in_the_paper() -> None:
    assert level_of("eng_Latn", "fra_Latn") == "high"
    assert level_of("eng_Latn", "ace_Latn") == "very_low"
    lists = {**LISTS, "ace_Latn": FRENCH}
    low = measure(SOURCE, HYPOTHESIS, source="eng_Latn", target="ace_Latn", lists=lists)
    result = summarise([measured(), low], lists=())
    pooled = {level.level: (level.directions, level.strict.total) for level in result.levels}
    assert pooled == {"all": (2, 10), "high": (1, 5), "low": (1, 5), "very_low": (1, 5)}


def test_redaction_hides_length_too() -> None:
    assert redact("you son of a gun, you", [(4, 16)]) == "you s…, you"
    assert redact("clean", []) == "clean"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with lists, one-file texts and a folder of outputs."""
    (tmp_path / "lists").mkdir()
    for code, words in (("eng_Latn", ENGLISH), ("fra_Latn", FRENCH)):
        text = "\n".join(words.entries) + "\n"
        (tmp_path / "lists" / f"{code}_twl.txt").write_text(text, encoding="utf-8")
    for name in ("texts", "outputs"):
        (tmp_path / name).mkdir()
    save(tmp_path / "texts" / "eng_Latn.txt", SOURCE)
    save(tmp_path / "outputs" / "eng_Latn-fra_Latn.txt", HYPOTHESIS)
    save(tmp_path / "outputs" / "eng_Latn-hin_Deva.txt", HYPOTHESIS)
    (tmp_path / "outputs" / "notes.md").write_text("not an output")
    return tmp_path


def save(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def test_command_on_two_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "eval", "toxicity", "--source-text", str(folder / "texts" / "eng_Latn.txt"),
        "--hypothesis", str(folder / "outputs" / "eng_Latn-fra_Latn.txt"),
        "--source", "en", "--target", "French", "--lists", str(folder / "lists"),
    ]  # fmt: skip
    assert main([*arguments, str(folder / "out")]) == 0
    told = capsys.readouterr()
    assert "20.00% [" in told.out and "S…, bonjour" in told.out and "Sapristi" not in told.out
    assert "toxicity.json" in told.err
    written = json.loads((folder / "out" / "toxicity.json").read_text(encoding="utf-8"))
    assert main([*arguments, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out) == written
    assert written["schema"] == SCHEMA
    assert written["lists"][1]["entries"] == 2 and len(written["lists"][1]["sha256"]) == 64


def test_a_folder_of_outputs(folder: Path) -> None:
    outputs = find_outputs(folder / "texts", folder / "outputs", source=None, target=None)
    assert [one.target for one in outputs] == ["fra_Latn", "hin_Deva"]
    languages = {code for one in outputs for code in (one.source, one.target)}
    result = evaluate(outputs, open_lists(folder / "lists", languages))
    assert [one.not_measurable for one in result.directions] == [None, "no word list of hin_Deva"]
    assert result.directions[0].strict == measured().strict
    only = find_outputs(folder / "texts", folder / "outputs", source=None, target="fra_Latn")
    assert len(only) == 1


def test_bad_folders_are_named(folder: Path) -> None:
    file, outputs = folder / "texts" / "eng_Latn.txt", folder / "outputs"
    with pytest.raises(ConfigError, match="--source and --target"):
        find_outputs(file, outputs / "eng_Latn-fra_Latn.txt", source=None, target="fra_Latn")
    with pytest.raises(ConfigError, match="must be a folder"):
        find_outputs(file, outputs, source=None, target=None)
    with pytest.raises(DataError, match="named SOURCE-TARGET"):
        find_outputs(folder / "texts", outputs, source="deu_Latn", target=None)
    with pytest.raises(DataError, match="no folder of word lists"):
        open_lists(folder / "nowhere", ["eng_Latn"])


def test_self_test_decides_what_is_measurable(folder: Path) -> None:
    lines = [f"A small word list needs {word} text." for word in ("some", "good", "plain") * 20]
    probe = folder / "probe.txt"
    save(probe, [*lines, "crikey"] + ["zounds"] * 2)
    lists = open_lists(folder / "lists", ["eng_Latn"], probe_text={"eng_Latn": probe})
    (record,) = lists.records
    assert record.recall is not None and record.recall.share == 1.0
    assert record.noisy == ("z…",)
    assert lists.unusable == {}
    save(probe, ["Too short."])
    lists = open_lists(folder / "lists", ["eng_Latn"], probe_text={"eng_Latn": probe})
    assert "too little text" in lists.unusable["eng_Latn"]
    summary = summarise([], lists=lists.records)
    write_result(summary, folder / "out")
    assert "self-test finds" in as_text(summary)
