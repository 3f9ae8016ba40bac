import random

import pytest

from eval.metrics.hypothesis_checks import (
    LanguageCount,
    check_hypothesis,
    check_language,
    read_hypothesis,
)
from nllb.errors import DataError
from nllb.io.benchmarks import load_flores
from nllb.translation.quality import MAX_REPETITION, repetition

REFERENCE = ["Good morning.", "How are you?", "I am well.", "Goodbye."]


def codes(findings):
    return {finding.code: finding for finding in findings}


def test_clean_file_has_no_findings():
    assert check_hypothesis(REFERENCE, REFERENCE, source=["a", "b", "c", "d"]) == []


def test_each_fault_is_named_and_counted():
    hypothesis = ["Guten Tag.", " ", "Same.", "Same."]
    found = codes(check_hypothesis(hypothesis, REFERENCE, source=["Guten Tag.", "x", "y", "z"]))
    assert found["empty"].lines == (2,)
    assert found["copy_of_source"].lines == (1,)
    assert found["repeated"].lines == (3, 4)
    assert found["repeated"].message.startswith("2 of 4 lines are equal to another line")


def test_copy_that_is_also_the_reference_is_no_fault():
    assert check_hypothesis(["GPS"], ["GPS"], source=["GPS"]) == []


def test_mixed_unicode_forms_but_not_a_file_of_one_form():
    mixed = ["Cafe\u0301", "Café", "x", "y"]
    assert codes(check_hypothesis(mixed, REFERENCE))["mixed_unicode"].lines == (1,)
    assert check_hypothesis(["e\u0301a", "e\u0301b", "e\u0301c", "e\u0301d"], REFERENCE) == []


def test_off_target_lines_are_counted_by_language():
    lines = [
        "Une phrase assez longue.",
        "A sentence long enough.",
        "kurz",
        "Another long sentence.",
    ]
    labels = {"Une phrase assez longue.": "fra_Latn", "Another long sentence.": "und"}
    count, findings = check_language(
        lines, "eng_Latn", lambda texts: [labels.get(text, "eng_Latn") for text in texts]
    )
    assert count == LanguageCount(judged=3, right=1, unsure=1)
    assert count.share == pytest.approx(1 / 3)
    found = codes(findings)
    assert found["off_target"].lines == (1,)
    assert "fra_Latn 1" in found["off_target"].message
    clean, findings = check_language(lines[2:3], "eng_Latn", lambda texts: [])
    assert (clean.share, findings) == (None, [])


def test_loops_are_counted_unless_the_source_loops_too():
    line = "again and again and again and again and again and again"
    assert codes(check_hypothesis([line], ["x"], source=["once"]))["looping"].lines == (1,)
    assert check_hypothesis([line], ["x"], source=["encore et encore et encore et encore"]) == []


def test_no_loop_is_missed_for_speed(data_dir):
    """Loops of all lengths behind real beginnings: those found are those that counting finds."""
    generator = random.Random(2)
    for code in ("eng_Latn", "tam_Taml", "zho_Hans", "tha_Thai", "kor_Hang"):
        lines = []
        for line in load_flores(data_dir).sentences(code)[:300]:
            begin, size = generator.randrange(len(line)), generator.randint(1, 40)
            loop = line[begin : begin + size] * generator.randint(1, 4)
            lines.append(line[: generator.randint(0, len(line))] + loop + line[begin:][:20])
        expected = [n for n, line in enumerate(lines, 1) if repetition(line) > MAX_REPETITION]
        assert 60 < len(expected) < 290
        [finding] = [f for f in check_hypothesis(lines, lines) if f.code == "looping"]
        assert finding.count >= 0.99 * len(expected), code


def test_many_lines_are_shortened():
    finding = check_hypothesis([""] * 9, ["x"] * 9)[0]
    assert "line 1, 2, 3, 4, 5, ..." in finding.message


def test_line_breaks_inside_lines():
    assert codes(check_hypothesis(["a\u2028b"], ["a b"]))["line_breaks"].count == 1


def test_wrong_line_count_is_refused(tmp_path):
    path = tmp_path / "h.txt"
    path.write_text("one\ntwo\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"h.txt: 2 lines, 2 fewer than the reference's 4"):
        read_hypothesis(path, expected=4)
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="is empty"):
        read_hypothesis(path, expected=4)
    with pytest.raises(DataError, match="cannot open"):
        read_hypothesis(tmp_path / "none", expected=4)


def test_bad_utf8_is_replaced_and_counted(tmp_path):
    path = tmp_path / "h.txt"
    path.write_bytes(b"\xef\xbb\xbfgood\nbad \xff\xfe\n")
    lines, findings = read_hypothesis(path, expected=2)
    assert lines == ["good", "bad \ufffd\ufffd"]
    assert codes(findings)["bad_utf8"].lines == (2,)
