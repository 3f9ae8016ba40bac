"""xsim++: what distractors change, and which errors they are counted as."""

import numpy
import pytest

from data_pipeline.mining.distractors import Distractor, make_distractors
from data_pipeline.mining.xsim import error_rates, plus_errors

SENTENCES = [
    "In 1989 the new bridge was opened by Martha Ray.",
    "The town has 3,400 people, and Oslo is larger than that.",
    "Rain is not common there.",
]


def test_each_distractor_changes_one_thing() -> None:
    found = make_distractors(SENTENCES)
    texts = {(made.sentence, made.kind): [] for made in found}  # type: ignore[var-annotated]
    for made in found:
        texts[made.sentence, made.kind].append(made.text)
    assert "In 2989 the new bridge was opened by Martha Ray." in texts[0, "number"]
    assert "In 1989 the new bridge was not opened by Martha Ray." in texts[0, "causality"]
    assert "In 1989 the old bridge was opened by Martha Ray." in texts[0, "causality"]
    assert texts[0, "entity"] == ["In 1989 the new bridge was opened by Oslo."]
    assert "The town has 4,400 people, and Oslo is larger than that." in texts[1, "number"]
    assert "Rain is common there." in texts[2, "causality"]
    assert not any("not not" in made.text for made in found)
    assert not {made.text for made in found} & set(SENTENCES)
    assert found == make_distractors(SENTENCES)


def test_errors_are_counted_by_what_was_found() -> None:
    targets = numpy.eye(4, 6, dtype=numpy.float32)
    made = [Distractor(0, "number", "a"), Distractor(1, "entity", "b")]
    wrong = numpy.eye(6, dtype=numpy.float32)[4:]
    # The first finds its own distractor, the second that of another, the third another line.
    sources = numpy.stack([wrong[0] + targets[0] / 2, wrong[0] / 2, targets[3], targets[3]])
    sources[1, 1] = 0.1
    found = plus_errors(sources, targets, made, wrong, margin="absolute")
    assert found == {"all": 0.75, "causality": 0, "entity": 0, "number": 0.25, "other": 0.5}


def test_distractors_make_it_no_easier() -> None:
    draw = numpy.random.default_rng(0)
    targets = draw.normal(size=(60, 8)).astype(numpy.float32)
    sources = targets + draw.normal(size=targets.shape).astype(numpy.float32)
    made = [Distractor(number, "number", "") for number in range(60)]
    none = plus_errors(sources, targets, [], targets[:0], margin="absolute")
    some = plus_errors(sources, targets, made, targets + 0.3, margin="absolute")
    assert none["all"] == pytest.approx(error_rates(sources, targets, margin="absolute")[0])
    assert some["all"] > none["all"] > 0
    assert some["all"] == pytest.approx(some["number"] + some["other"])
