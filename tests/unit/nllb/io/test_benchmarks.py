import json
from pathlib import Path

import pytest
import xxhash

from nllb.errors import DataError, LanguageError
from nllb.io.benchmarks import (
    FLORES_LINES,
    evaluation_hashes,
    load_aligned,
    load_flores,
    sentence_hash,
    sentences_sha256,
)
from nllb.languages.normalization import normalize_for_hashing

SENTENCES = [f"Sentence number {number}." for number in range(FLORES_LINES["devtest"])]


def write_split(
    folder: Path, pattern: str, codes: tuple[str, ...] = ("eng_Latn", "fra_Latn")
) -> None:
    folder.mkdir(parents=True)
    for code in codes:
        path = folder / pattern.format(code=code)
        if path.suffix == ".jsonl":
            rows = [
                json.dumps({"id": n, "text": s, "domain": "x"}) for n, s in enumerate(SENTENCES)
            ]
            path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        elif path.suffix == ".parquet":
            pyarrow = pytest.importorskip("pyarrow", reason="pip install 'nllb[data]'")
            from pyarrow import parquet

            parquet.write_table(
                pyarrow.table({"id": range(len(SENTENCES)), "text": SENTENCES}), path
            )
        else:
            path.write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")


def test_sentence_hash_is_xxh3_of_the_normal_form():
    text = "Hello,  World!"
    assert sentence_hash(text) == xxhash.xxh3_64_intdigest(normalize_for_hashing(text).encode())
    assert 0 <= sentence_hash("") < 2**64
    assert sentence_hash("hello") != sentence_hash("help")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{code}.devtest", "flores200"),
        ("devtest.{code}", "flores_plus"),
        ("{code}.jsonl", "flores_plus"),
        ("{code}.parquet", "flores_plus"),
    ],
)
def test_official_layouts(tmp_path, pattern, name):
    write_split(tmp_path / "flores200_dataset" / "devtest", pattern)
    for start in (
        tmp_path,
        tmp_path / "flores200_dataset",
        tmp_path / "flores200_dataset" / "devtest",
    ):
        flores = load_flores(start)
        assert flores.name == name
        assert flores.title == f"{name}/devtest"
        assert flores.languages == ("eng_Latn", "fra_Latn")
        assert list(flores.sentences("fra_Latn")) == SENTENCES
        assert flores.sha256("fra_Latn") == sentences_sha256(SENTENCES)


def test_missing_set_says_how_to_obtain_it(tmp_path):
    with pytest.raises(DataError, match="openlanguagedata/flores_plus"):
        load_flores(tmp_path)
    with pytest.raises(DataError, match="unknown split 'test'"):
        load_flores(tmp_path, "test")


def test_short_file_is_refused_and_changed_file_is_read_again(tmp_path):
    write_split(tmp_path / "devtest", "{code}.devtest")
    flores = load_flores(tmp_path)
    assert len(flores.sentences("eng_Latn")) == 1012
    (tmp_path / "devtest" / "eng_Latn.devtest").write_text("one\ntwo\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"eng_Latn.devtest: 2 lines, but flores200/devtest has 1,012"
    ):
        flores.sentences("eng_Latn")


def test_lines_end_at_line_feed_only(tmp_path):
    for code in ("aaa", "bbb"):
        (tmp_path / code).write_text("one\u2028still one\n\x85two\n", encoding="utf-8")
    aligned = load_aligned(tmp_path, name="mine")
    assert aligned.sentences("bbb") == ("one\u2028still one", "\x85two")
    assert (aligned.title, aligned.metadata()) == ("mine", [])


def test_unknown_language_suggests_the_nearest(tmp_path):
    write_split(tmp_path / "devtest", "{code}.devtest")
    with pytest.raises(LanguageError, match="did you mean fra_Latn"):
        load_flores(tmp_path).sentences("fra_Lat")


def test_two_files_of_one_code_are_refused(tmp_path):
    (tmp_path / "eng.txt").write_text("a\n", encoding="utf-8")
    (tmp_path / "eng").write_text("a\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("a\n", encoding="utf-8")
    with pytest.raises(DataError, match="both have the code"):
        load_aligned(tmp_path)


def test_evaluation_hashes_of_chosen_languages(tmp_path):
    (tmp_path / "eng").write_text("One.\nTwo.\n", encoding="utf-8")
    (tmp_path / "fra").write_text("Un.\nDeux.\n", encoding="utf-8")
    aligned = load_aligned(tmp_path)
    assert evaluation_hashes([aligned], ["eng"]) == {sentence_hash("One."), sentence_hash("Two.")}
    assert len(evaluation_hashes([aligned])) == 4
    assert evaluation_hashes([]) == frozenset()


def test_flores200_devtest_is_whole(data_dir):
    flores = load_flores(data_dir)
    assert len(flores.languages) == 204
    assert flores.sentences("eng_Latn")[0].startswith('"We now have')
    assert len(flores.metadata()) == 1012
    hashes = evaluation_hashes([flores], ["eng_Latn", "zho_Hans", "kor_Hang"])
    assert len(hashes) > 3000
    assert sentence_hash(flores.sentences("zho_Hans")[7]) in hashes
