"""The problems that the report of a fine-tuning run names."""

from typing import Literal

from nllb.training.finetuning.report import DirectionReport, find_problems


def direction(
    name: str,
    before: float,
    after: float,
    *,
    role: Literal["new", "old"] = "new",
    copying: float = 5.0,
) -> DirectionReport:
    return DirectionReport(name=name, role=role, before=before, after=after, copying=copying)


def problems(*directions: DirectionReport, has_replay: bool = True) -> list[str]:
    return list(find_problems(directions, learning_rate=1e-3, has_replay=has_replay))


def test_a_good_result_has_no_problems() -> None:
    assert problems(direction("a-b", 8, 20), direction("a-c", 40, 39.5, role="old")) == []
    assert problems() == []


def test_a_model_that_is_worse_everywhere_is_named_with_advice() -> None:
    found = problems(direction("a-b", 8.8, 6.2), direction("a-c", 48, 47.5, role="old"))
    assert len(found) == 1
    assert "worse in every direction" in found[0] and "learning_rate (now 0.001)" in found[0]
    found = problems(direction("a-b", 8.8, 6.2), direction("a-c", 40, 41, role="old"))
    assert len(found) == 1 and "worse in every new direction" in found[0]


def test_copying_is_the_baseline() -> None:
    found = problems(direction("a-b", 2, 4.4, copying=10), direction("b-a", 2, 12, copying=10))
    assert len(found) == 1 and "a-b (4.4; copying 10.0)" in found[0] and "b-a" not in found[0]


def test_forgotten_directions_are_named() -> None:
    worse = [direction("a-b", 8, 20), direction("a-c", 48, 38, role="old")]
    (found,) = problems(*worse)
    assert "old directions lost 10.0 chrF++" in found and "raise replay_share" in found
    (found,) = problems(*worse, has_replay=False)
    assert "add old bitext with --replay" in found


def test_a_direction_that_was_not_measured_before_is_no_problem() -> None:
    unknown = DirectionReport(name="a-b", role="new", before=None, after=3.0)
    assert problems(unknown) == []


def test_new_directions_that_do_not_improve_on_average_are_a_problem() -> None:
    (found,) = problems(direction("a-b", 9, 8), direction("b-a", 18, 18.4))
    assert "did not improve on average (-0.3 chrF++)" in found
