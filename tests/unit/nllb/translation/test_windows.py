from nllb.translation.code_blocks import Verbatim
from nllb.translation.windows import growing_windows, join_paragraphs


def test_windows_depend_on_the_text_alone():
    assert [len(window) for window in growing_windows(["a"] * 100)] == [4, 8, 16, 32, 40]


def test_windows_are_bounded_by_lines_and_characters():
    sizes = [len(window) for window in growing_windows(["a"] * 60, look_ahead=16)]
    assert sizes == [4, 8, 16, 16, 16]
    long = ["x" * 50, "y", "z" * 100, "a"]
    assert list(growing_windows(long, max_characters=60)) == [long[:3], long[3:]]
    assert list(growing_windows([])) == []


def test_lines_are_joined_to_paragraphs_across_windows():
    windows = [["\n", "a\n"], ["b\n", "\n", " \n", "c\n", "\n"], ["d"]]
    assert list(join_paragraphs(windows)) == [["\n"], ["a\nb\n\n \n"], ["c\n\n"], ["d"]]
    assert list(join_paragraphs([])) == []


def test_lines_of_code_are_not_joined():
    windows = [["a\n", Verbatim("```\n"), Verbatim("```\n"), "b\n", "c\n"]]
    [first, last] = join_paragraphs(windows)
    assert (first, last) == (["a\n", "```\n", "```\n"], ["b\nc\n"])
    assert [isinstance(line, Verbatim) for line in first] == [False, True, True]
