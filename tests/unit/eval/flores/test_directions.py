from collections import Counter

import pytest

from eval.flores.directions import GROUPS, Direction, outputs_in, parse_directions
from nllb.errors import ConfigError, LanguageError
from nllb.languages import languages

CODES = ["eng_Latn", "fra_Latn", "zho_Hans", "wol_Latn"]


def test_groups_of_all_40602_directions_have_the_papers_sizes():
    codes = [language.code for language in languages() if language.in_nllb]
    directions = parse_directions(["all"], sources=codes, targets=codes)
    assert len(directions) == 40_602
    cells = Counter(direction.cell for direction in directions)
    sizes = {group.name: sum(cells[cell] for cell in group.cells) for group in GROUPS}
    assert sizes["eng-xx"] == sizes["xx-eng"] == 201
    assert (sizes["eng-xx.high"], sizes["eng-xx.low"], sizes["eng-xx.very_low"]) == (53, 148, 84)
    assert (sizes["non-eng"], sizes["non-eng.high"]) == (40_200, 2_756)
    assert (sizes["non-eng.low"], sizes["non-eng.very_low"]) == (37_444, 26_628)
    assert sizes["all"] == 40_602


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eng_Latn-fra_Latn"], ["eng_Latn-fra_Latn"]),
        (["en-fr"], ["eng_Latn-fra_Latn"]),
        (["zh-CN-en"], ["zho_Hans-eng_Latn"]),
        (["eng_Latn-*"], ["eng_Latn-fra_Latn", "eng_Latn-wol_Latn", "eng_Latn-zho_Hans"]),
        (["*-wol_Latn,wol_Latn-fra_Latn", "fra_Latn-wol_Latn"],
         ["eng_Latn-wol_Latn", "fra_Latn-wol_Latn", "wol_Latn-fra_Latn", "zho_Hans-wol_Latn"]),
    ],
)  # fmt: skip
def test_words_for_directions(words, expected):
    assert [str(d) for d in parse_directions(words, sources=CODES, targets=CODES)] == expected


def test_directions_from_a_file(tmp_path):
    (tmp_path / "list").write_text("en-fr\n\nfr-en fr-wo\n", encoding="utf-8")
    found = parse_directions([f"@{tmp_path / 'list'}"], sources=CODES, targets=CODES)
    assert len(found) == 3


def test_unknown_words_and_codes_are_refused():
    with pytest.raises(ConfigError, match="is not a direction"):
        parse_directions(["eng_Latn"], sources=CODES, targets=CODES)
    with pytest.raises(LanguageError, match="deu_Latn is not in this set"):
        parse_directions(["eng_Latn-deu_Latn"], sources=CODES, targets=CODES)
    with pytest.raises(LanguageError):
        parse_directions(["eng_Latn-xyzzy"], sources=CODES, targets=CODES)


def test_output_files_of_a_folder(tmp_path):
    for name in ("eng_Latn-fra_Latn.txt", "fra_Latn-eng_Latn.txt.gz", "notes.txt"):
        (tmp_path / name).write_text("x\n", encoding="utf-8")
    found = outputs_in(tmp_path)
    assert Direction(source="fra_Latn", target="eng_Latn") in found
    assert len(found) == 2
    (tmp_path / "eng_Latn-fra_Lat.txt").write_text("x\n", encoding="utf-8")
    with pytest.raises(LanguageError, match="did you mean fra_Latn"):
        outputs_in(tmp_path)
    assert len(outputs_in(tmp_path, extra=["fra_Lat"])) == 3
    with pytest.raises(ConfigError, match="no folder"):
        outputs_in(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no files SRC-TGT\.txt"):
        outputs_in(tmp_path / "empty")


def test_level_is_the_weaker_languages():
    assert Direction(source="eng_Latn", target="fra_Latn").level == "high"
    assert Direction(source="eng_Latn", target="dyu_Latn").level == "very_low"
    assert Direction(source="dyu_Latn", target="eng_Latn").kind == "xx-eng"
