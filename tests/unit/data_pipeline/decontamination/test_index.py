"""No evaluation sentence passes the shield, whole or in part, and unrelated lines do."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest

from data_pipeline.blocks import Decided, read_columns, read_facts
from data_pipeline.data_config import DataConfig, EvaluationConfig
from data_pipeline.decontamination.decontaminate import shield_bitext
from data_pipeline.decontamination.evaluation_sets import build_shield, evaluation_sentences
from data_pipeline.decontamination.index import Shield, split_units
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
def shield() -> Shield:
    sentences = [LONG, SHORT, TINY, JAPANESE, "", "  "]
    return Shield.build(sentences, [f"own:{number}" for number in range(len(sentences))])


def kinds(shield: Shield, *lines: str) -> list[str | None]:
    return [find and find.kind for find in shield.find(lines)]


def test_a_whole_line_is_found_in_its_form_for_hashing(shield: Shield) -> None:
    lines = [LONG, LONG.upper() + " ", SHORT, TINY.lower(), JAPANESE, ""]
    assert kinds(shield, *lines) == ["whole"] * 5 + [None]


def test_a_sentence_inside_a_longer_line_is_found(shield: Shield) -> None:
    assert kinds(
        shield,
        f"It was said: {LONG} Nobody was glad.",
        f"«{SHORT}» she read.",
        f"Sorry! {TINY} Perhaps tomorrow.",
        f"昨日の新聞によると、{JAPANESE}と書いてあった。",
    ) == ["overlap", "contains", None, "overlap"]


def test_a_near_copy_shares_thirteen_words(shield: Shield) -> None:
    words = LONG.split()
    assert kinds(shield, "Last week " + " ".join(words[3:16]) + " soon.") == ["overlap"]
    assert kinds(shield, "Last week " + " ".join(words[3:15]) + " soon.") == [None]
    changed = [*words]
    changed[12] = "something"
    assert kinds(shield, " ".join(changed)) == ["overlap"], "thirteen words behind the change stay"


def test_letters_of_unspaced_scripts_must_cover_half(shield: Shield) -> None:
    letters = "".join(split_units(JAPANESE)[0])
    half = len(letters) // 2
    assert kinds(shield, f"彼は{letters[: half + 2]}と言った。") == ["overlap"]
    assert kinds(shield, f"彼は{letters[: half - 4]}と言った。") == [None]


def test_the_place_of_the_find_is_told(shield: Shield) -> None:
    (find,) = shield.find([f"He said {SHORT}"])
    assert find is not None and shield.places[find.sentence] == "own:1"


def test_an_empty_shield_removes_nothing() -> None:
    assert Shield.build([], []).find(["a", LONG]) == [None, None]


def test_an_index_read_back_finds_the_same(shield: Shield, tmp_path: Path) -> None:
    lines = [LONG, f"x {SHORT} y", JAPANESE, "none of it", TINY]
    shield.save(tmp_path / "index")
    shield.save(tmp_path / "index")
    loaded = Shield.load(tmp_path / "index")
    assert loaded.find(lines) == shield.find(lines)
    assert list(loaded.places) == list(shield.places)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_everyday_sentences_may_ask_for_more_words_inside_longer_lines() -> None:
    strict = Shield.build([SHORT], ["own"], [7])
    assert kinds(strict, SHORT, f"x {SHORT} y") == ["whole", None]


@pytest.fixture(scope="module")
def flores(data_dir: Path) -> Shield:
    sets = (EvaluationConfig(name="flores200", path="flores200_dataset", layout="flores"),)
    return build_shield(sets, data_dir)


def test_every_line_of_flores_is_found(flores: Shield, data_dir: Path) -> None:
    sets = (EvaluationConfig(name="flores200", path="flores200_dataset", layout="flores"),)
    lines = [line for line, _ in evaluation_sentences(sets, data_dir) if line.strip()][::11]
    assert len(lines) > 15_000
    assert all(find is not None for find in flores.find(lines))
    # Inside other text, a label that is wrong does not help a line to pass.
    inside = flores.find([f"xyz {line} abc" for line in lines])
    missed = [line for line, find in zip(lines, inside, strict=True) if find is None]
    assert len(missed) <= len(lines) * 0.005, missed[:5]
    assert all(len(split_units(line)[0]) < 13 for line in missed)


def test_unrelated_lines_pass(flores: Shield, data_dir: Path) -> None:
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
    scored = [Decided(block=block, decisions=(block.path,))]
    (done,) = shield_bitext(config, scored, tmp_path / "out", machine)
    reasons = read_columns(done.path, ["reason"])["reason"].cast(polars.String).to_list()
    assert reasons == [None, "evaluation_whole", None]
    facts = read_facts(done.path)
    assert facts["reasons"] == {"evaluation_whole": 1}
    (find,) = facts["finds"]
    assert find["line"] == 2 and find["side"] == side and find["sentence"].startswith("own:")


def test_a_missing_set_stops_the_run(
    tmp_path: Path, make_config: Callable[..., DataConfig], machine: Machine
) -> None:
    config = make_config(
        decontamination=(EvaluationConfig(name="gone", path="gone"),), data_dir=tmp_path
    )
    with pytest.raises(DataError, match="gone"):
        shield_bitext(config, [], tmp_path / "out", machine)
    (tmp_path / "gone").mkdir()
    with pytest.raises(DataError, match="no sentence"):
        list(evaluation_sentences(config.decontamination, tmp_path))


def test_finds_do_not_depend_on_the_order_of_the_lines(shield: Shield) -> None:
    generator = random.Random(5)
    lines = [LONG, "unrelated words", f"a {SHORT} b", TINY, JAPANESE[:20], "x"] * 3
    expected = dict(zip(lines, kinds(shield, *lines), strict=True))
    generator.shuffle(lines)
    assert kinds(shield, *lines) == [expected[line] for line in lines]
