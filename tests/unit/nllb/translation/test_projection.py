import pytest

from nllb.inference.word_alignment import Link
from nllb.translation.projection import Mark, find_words, project


def links_of(source, target, *pairs):
    """Return links between words, the first of each kind in both texts."""
    return [
        Link(
            source_start=source.index(a),
            source_end=source.index(a) + len(a),
            target_start=target.index(b),
            target_end=target.index(b) + len(b),
        )
        for a, b in pairs
    ]


def marks_of(text):
    """Return a text without `[` `]` (spans) and `|` (points), and their marks."""
    plain, marks, waiting = "", [], []
    for sign in text:
        if sign == "]":
            number = waiting.pop()
            start = marks[number].start
            parent = marks[number].parent
            marks[number] = Mark(start=start, end=len(plain), is_span=True, parent=parent)
        elif sign in "[|":
            place = len(plain)
            parent = waiting[-1] if waiting else None
            if sign == "[":
                waiting.append(len(marks))
            marks.append(Mark(start=place, end=place, is_span=sign == "[", parent=parent))
        else:
            plain += sign
    return plain, marks


def projected(source, target, *pairs):
    plain, marks = marks_of(source)
    found = project(marks, plain, target, links_of(plain, target, *pairs))
    signs = {"open": "[", "close": "]", "point": "|"}
    for event in reversed(found.events):
        target = target[: event.position] + signs[event.kind] + target[event.position :]
    return target


PAIRS = [("the", "das"), ("red", "rote"), ("car", "Auto"), ("is", "ist"), ("here", "hier")]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("the [red] car is here", "hier ist das rote Auto", "hier ist das [rote] Auto"),
        ("the [red car] is here", "hier ist das rote Auto", "hier ist das [rote Auto]"),
        ("the [[red] car] is here", "hier ist das rote Auto", "hier ist das [[rote] Auto]"),
        ("[the red car is here]", "hier ist das rote Auto", "[hier ist das rote Auto]"),
        ("the [red] [car] is here", "hier, das Auto ist rote", "hier, das [Auto] ist [rote]"),
        ("the red car| is here", "hier ist das rote Auto.", "hier ist das rote Auto|."),
        ("the red |car is here", "hier ist das rote Auto", "hier ist das rote |Auto"),
        ("|the red car is here|", "hier ist das rote Auto", "|hier ist das rote Auto|"),
        ("the [red ]car is here", "das rote Auto ist hier", "das [rote ]Auto ist hier"),
        ("the red[ car] is here", "das rote Auto ist hier", "das rote[ Auto] ist hier"),
        ("the red[] car is here", "das rote Auto ist hier", "das rote[] Auto ist hier"),
    ],
)
def test_marks_go_where_their_words_are_linked_to(source, target, expected):
    assert projected(source, target, *PAIRS) == expected


def test_names_and_numbers_are_found_without_links():
    source = "In [2013] Mr. [Lyndon Smith] left in haste"
    target = "Herr Lyndon Smith ging in Eile, 2013"
    found = projected(source, target, ("haste", "Eile"))
    assert "[Lyndon Smith]" in found
    assert found.endswith(", [2013]")


def test_signs_are_not_taken_into_a_span_without_signs():
    source, target = "the [car] is here", "das Auto, hier"
    pairs = [("car", "Auto,"), ("here", "hier")]
    assert projected(source, target, *pairs) == "das [Auto], hier"
    assert projected("the [car,] is here", target, ("car", "Auto,")) == "das [Auto,] hier"


def test_a_span_without_links_is_placed_by_its_relative_position_and_said_so():
    plain, marks = marks_of("one two [three] four")
    found = project(marks, plain, "eins zwei drei vier", links_of(plain, "eins", ("one", "eins")))
    assert found.unsure == (0,)
    assert [event.position for event in found.events] == [10, 14]


def test_words_are_characters_where_words_are_not_spaced():
    words = find_words("東京 2,500 don't ก็x")
    texts = ["東京 2,500 don't ก็x"[start:end] for start, end in words.tolist()]
    assert texts == ["東", "京", "2,500", "don", "'", "t", "ก็", "x"]


def test_texts_without_words_keep_all_marks():
    for source, target in (("[|]", "abc def"), ("[a|b]", ""), ("", "abc"), ("[.|]", "...")):
        plain, marks = marks_of(source)
        events = project(marks, plain, target).events
        assert len(events) == sum(2 if mark.is_span else 1 for mark in marks)
