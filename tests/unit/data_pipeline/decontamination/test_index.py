"""Decontamination finds whole and partial evaluation sentences, and keeps unrelated lines."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest

from data_pipeline.blocks import DecidedBlock, read_columns, read_facts
from data_pipeline.data_config import DataConfig, EvaluationConfig
from data_pipeline.decontamination.decontaminate import decontaminate_bitext
from data_pipeline.decontamination.evaluation_sets import (
    build_evaluation_index,
    evaluation_sentences,
)
from data_pipeline.decontamination.index import EvaluationIndex, split_units
from data_pipeline.stages import Machine
from nllb.errors import DataError

LONG = (
    "On Monday the committee of the town decided that the old bridge over the river would be "
    "closed for repairs until the end of the next summer."
)
SHORT = "The bridge is closed on Monday."
TINY = "Not today."
JAPANESE = (
    "委員会は月曜日に、川にかかる古い橋を来年の夏の終わりまで修理のため閉鎖することを決定しました。"
)


@pytest.fixture(scope="module")
def evaluation() -> EvaluationIndex:
    sentences = [LONG, SHORT, TINY, JAPANESE, "", "  "]
    return EvaluationIndex.build(sentences, [f"own:{number}" for number in range(len(sentences))])


def kinds(evaluation: EvaluationIndex, *lines: str) -> list[str | None]:
    return [match and match.kind for match in evaluation.find(lines)]


def test_a_whole_line_is_found_in_its_form_for_hashing(evaluation: EvaluationIndex) -> None:
    lines = [LONG, LONG.upper() + " ", SHORT, TINY.lower(), JAPANESE, ""]
    assert kinds(evaluation, *lines) == ["whole"] * 5 + [None]


def test_a_sentence_inside_a_longer_line_is_found(evaluation: EvaluationIndex) -> None:
    assert kinds(
        evaluation,
        f"It was said: {LONG} Nobody was glad.",
        f"«{SHORT}» she read.",
        f"Sorry! {TINY} Perhaps tomorrow.",
        f"昨日の新聞によると、{JAPANESE}と書いてあった。",
    ) == ["overlap", "contains", None, "overlap"]


def test_a_near_copy_shares_thirteen_words(evaluation: EvaluationIndex) -> None:
    words = LONG.split()
    assert kinds(evaluation, "Last week " + " ".join(words[3:16]) + " soon.") == ["overlap"]
    assert kinds(evaluation, "Last week " + " ".join(words[3:15]) + " soon.") == [None]
    changed = [*words]
    changed[12] = "something"
    assert kinds(evaluation, " ".join(changed)) == ["overlap"], "13 words after the change match"


def test_letters_of_unspaced_scripts_must_cover_half(evaluation: EvaluationIndex) -> None:
    letters = "".join(split_units(JAPANESE)[0])
    half = len(letters) // 2
    assert kinds(evaluation, f"彼は{letters[: half + 2]}と言った。") == ["overlap"]
    assert kinds(evaluation, f"彼は{letters[: half - 4]}と言った。") == [None]


def test_a_match_names_the_place_of_the_sentence(evaluation: EvaluationIndex) -> None:
    (match,) = evaluation.find([f"He said {SHORT}"])
    assert match is not None and evaluation.places[match.sentence] == "own:1"


def test_an_empty_index_matches_nothing() -> None:
    assert EvaluationIndex.build([], []).find(["a", LONG]) == [None, None]


def test_an_index_read_back_finds_the_same(evaluation: EvaluationIndex, tmp_path: Path) -> None:
    lines = [LONG, f"x {SHORT} y", JAPANESE, "none of it", TINY]
    evaluation.save(tmp_path / "index")
    evaluation.save(tmp_path / "index")
    loaded = EvaluationIndex.load(tmp_path / "index")
    assert loaded.find(lines) == evaluation.find(lines)
    assert list(loaded.places) == list(evaluation.places)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_everyday_sentences_may_ask_for_more_words_inside_longer_lines() -> None:
    strict = EvaluationIndex.build([SHORT], ["own"], [7])
    assert kinds(strict, SHORT, f"x {SHORT} y") == ["whole", None]


@pytest.fixture(scope="module")
def flores(data_dir: Path) -> EvaluationIndex:
    sets = (EvaluationConfig(name="flores200", path="flores200_dataset", layout="flores"),)
    return build_evaluation_index(sets, data_dir)


def test_every_line_of_flores_is_found(flores: EvaluationIndex, data_dir: Path) -> None:
    sets = (EvaluationConfig(name="flores200", path="flores200_dataset", layout="flores"),)
    lines = [line for line, _ in evaluation_sentences(sets, data_dir) if line.strip()][::11]
    assert len(lines) > 15_000
    assert all(find is not None for find in flores.find(lines))
    # Inside other text, a label that is wrong does not help a line to pass.
    inside = flores.find([f"xyz {line} abc" for line in lines])
    missed = [line for line, find in zip(lines, inside, strict=True) if find is None]
    assert len(missed) <= len(lines) * 0.005, missed[:5]
    assert all(len(split_units(line)[0]) < 13 for line in missed)


def test_unrelated_lines_pass(flores: EvaluationIndex, data_dir: Path) -> None:
    """Seed is of the same register as FLORES and shares no sentence with it."""
    lines = [
        line
        for code in ("eng_Latn", "fur_Latn", "bho_Deva", "shn_Mymr", "ace_Arab")
        for line in (data_dir / "nllb_seed" / code).read_text("utf-8").split("\n")
    ]
    removed = [line for line, find in zip(lines, flores.find(lines), strict=True) if find]
    assert len(lines) > 30_000
    assert len(removed) <= len(lines) / 10_000, removed


def write_set(folder: Path) -> EvaluationConfig:
    """Write an evaluation set of two languages."""
    folder.mkdir()
    (folder / "eng_Latn").write_text(f"{LONG}\n{SHORT}\n", encoding="utf-8")
    (folder / "jpn_Jpan").write_text(
        f"{JAPANESE}\n月曜日に橋は閉まっています。\n", encoding="utf-8"
    )
    return EvaluationConfig(name="own", path=folder.name)


@pytest.mark.parametrize(
    ("source", "target", "side"),
    [
        # Defect 4 of the anchors: an evaluation source with another target stayed.
        (LONG, "Tout autre chose.", "source"),
        # Defect 5: with the direction reversed, nothing was removed.
        ("Tout autre chose.", LONG, "target"),
        # Defect 6: sentences of the set's other languages were not looked for.
        (JAPANESE, "Tout autre chose.", "source"),
    ],
)
def test_one_side_is_enough_in_any_direction_and_language(
    source: str,
    target: str,
    side: str,
    tmp_path: Path,
    make_block: Callable[..., Any],
    make_config: Callable[..., DataConfig],
    machine: Machine,
) -> None:
    evaluation = write_set(tmp_path / "own")
    block = make_block(
        ["Fine.", source, source], ["Bien.", target, target], reasons=[None, None, "x"]
    )
    config = make_config(decontamination=(evaluation,), data_dir=tmp_path)
    scored = [DecidedBlock(block=block, decisions=(block.path,))]
    (done,) = decontaminate_bitext(config, scored, tmp_path / "out", machine)
    reasons = read_columns(done.path, ["reason"])["reason"].cast(polars.String).to_list()
    assert reasons == [None, "evaluation_whole", None]
    facts = read_facts(done.path)
    assert facts["reasons"] == {"evaluation_whole": 1}
    (match,) = facts["finds"]
    assert match["line"] == 2 and match["side"] == side and match["sentence"].startswith("own:")


def test_a_missing_set_stops_the_run(
    tmp_path: Path, make_config: Callable[..., DataConfig], machine: Machine
) -> None:
    config = make_config(
        decontamination=(EvaluationConfig(name="gone", path="gone"),), data_dir=tmp_path
    )
    with pytest.raises(DataError, match="gone"):
        decontaminate_bitext(config, [], tmp_path / "out", machine)
    (tmp_path / "gone").mkdir()
    with pytest.raises(DataError, match="no sentence"):
        list(evaluation_sentences(config.decontamination, tmp_path))


def test_matches_do_not_depend_on_the_order_of_the_lines(evaluation: EvaluationIndex) -> None:
    generator = random.Random(5)
    lines = [LONG, "unrelated words", f"a {SHORT} b", TINY, JAPANESE[:20], "x"] * 3
    expected = dict(zip(lines, kinds(evaluation, *lines), strict=True))
    generator.shuffle(lines)
    assert kinds(evaluation, *lines) == [expected[line] for line in lines]
