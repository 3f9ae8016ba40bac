import pytest
from hypothesis import given
from hypothesis import strategies as st

from nllb.translation.code_blocks import MAX_BLOCK_LINES, Verbatim, mark_code_blocks, split_lines
from nllb.translation.translator import Translator


def code(*windows):
    return [
        line
        for window in mark_code_blocks(windows)
        for line in window
        if isinstance(line, Verbatim)
    ]


def test_closed_blocks_are_marked_and_others_are_not():
    lines = ["a\n", "```python\n", "x = 1\n", "```\n", "b\n", "~~~\n", "``` \n", "~~~~\n"]
    assert code(lines) == [*lines[1:4], *lines[5:]]
    assert code(lines[:3], lines[3:]) == [*lines[1:4], *lines[5:]]
    assert code(["```\n", "never closed\n", "a\n"]) == []
    assert code(["  - ```sh\n", "  ls\n", "  ```\n"]) == []
    assert code(["> ```\n", "> ls\n", "> ```\n"]) != []
    assert code(["Use ``` here\n", "x\n", "```\n"]) == []


def test_a_block_that_is_too_long_is_translated():
    lines = ["```\n", *["x\n"] * MAX_BLOCK_LINES, "```\n"]
    assert code(lines) == []
    assert sum(map(len, mark_code_blocks([lines]))) == len(lines)


@given(st.lists(st.lists(st.sampled_from(["```\n", "~~~~\n", "a\n", "\n", "> ```x\n"]))))
def test_no_line_is_lost(windows):
    marked = [line for window in mark_code_blocks(windows) for line in window]
    assert marked == [line for window in windows for line in window]


@given(st.text(alphabet="ab\r\n`\u2028"))
def test_lines_are_the_text(text):
    assert "".join(split_lines(text)) == text
    assert all(line.strip("\r\n").count("\n") == 0 for line in split_lines(text))


@pytest.mark.parametrize("source", ["en", "auto"])
def test_code_is_kept_in_a_translation(stand_in, stand_in_detector, source):
    text = 'Run this:\n\n```python\nprint("the house")\n```\n\nAnd then stop.\n```\nthe end'
    detector = stand_in_detector(lambda text: ("eng_Latn", 0.99))
    translator = Translator(stand_in(lambda segment, search: segment.upper()), detector=detector)
    translation = translator.translate(text, source, "fr")
    assert translation.text == text.upper().replace(
        'PYTHON\nPRINT("THE HOUSE")', 'python\nprint("the house")'
    )
