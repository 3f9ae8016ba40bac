from pathlib import Path

import pytest

from nllb.errors import DataError
from nllb.io.atomic import atomic_text
from nllb.io.corpora import Corpus, open_corpus, unescape


def write(path: Path, text: str) -> None:
    with atomic_text(path) as stream:
        stream.write(text)


def test_line_aligned_files(tmp_path: Path) -> None:
    folder = tmp_path / "nllb_seed"
    write(folder / "eng_Latn", "one\n\nthree\n")
    write(folder / "fra_Latn", "un\ndeux\ntrois\n")
    write(folder / "LICENSE", "text\n")
    corpus = open_corpus(folder)
    assert corpus.languages() == ("eng_Latn", "fra_Latn")
    assert [(text.text, text.line) for text in corpus.texts("eng_Latn")] == [
        ("one", 1),
        ("three", 3),
    ]
    pairs = list(corpus.pairs("fra_Latn", "eng_Latn"))
    assert [(pair.source.text, pair.target.text) for pair in pairs] == [
        ("un", "one"),
        ("trois", "three"),
    ]
    write(folder / "deu_Latn", "eins\n")
    with pytest.raises(DataError, match="same length"):
        list(corpus.pairs("eng_Latn", "deu_Latn"))


def test_pairs_in_either_direction(tmp_path: Path) -> None:
    folder = tmp_path / "tatoeba"
    write(folder / "eng_Latn-fra_Latn.tsv.zst", "yes\toui\nno\tnon\n")
    corpus = open_corpus(folder)
    pairs = list(corpus.pairs("fra_Latn", "eng_Latn"))
    assert [(pair.source.text, pair.target.language) for pair in pairs] == [
        ("oui", "eng_Latn"),
        ("non", "eng_Latn"),
    ]
    assert [text.text for text in corpus.texts("fra_Latn")] == ["oui", "non"]
    assert list(corpus.pairs("eng_Latn", "deu_Latn")) == []
    write(folder / "deu_Latn-eng_Latn.tsv", "ja\n")
    with pytest.raises(DataError, match=r"deu_Latn-eng_Latn\.tsv:1: 1 columns"):
        list(corpus.texts())
    write(folder / "deu_Latn.tsv", "ja\tyes\n")
    with pytest.raises(DataError, match="CODE-CODE"):
        list(corpus.texts())


def test_keyed_texts_correspond_by_key(tmp_path: Path) -> None:
    folder = tmp_path / "udhr"
    write(folder / "eng_Latn.tsv", "1.p1\tall\n1.p2\tborn\n")
    write(folder / "fra_Latn.tsv", "1.p2\tnaissent\n9\tneuf\n")
    (pair,) = open_corpus(folder).pairs("eng_Latn", "fra_Latn")
    assert (pair.source.text, pair.source.line, pair.target.text) == ("born", 2, "naissent")


def test_messages_are_mapped_and_unescaped(tmp_path: Path) -> None:
    folder = tmp_path / "mediawiki"
    write(folder / "codes.tsv", "fr\tfra_Latn\t2\nxx\t\t1\n")
    write(folder / "fr.tsv.zst", "k\ta\\nb\\tc\\\\d\n")
    write(folder / "xx.tsv.zst", "k\tfremd\n")
    corpus = open_corpus(folder)
    assert corpus.languages() == ("fra_Latn",)
    assert [text.text for text in corpus.texts()] == ["a\nb\tc\\d"]
    ((locale, path),) = corpus.unmapped()
    assert locale == "xx"
    assert [text.language for text in corpus.read(path, "foreign")] == ["foreign"]


def test_tables_skip_their_header(tmp_path: Path) -> None:
    folder = tmp_path / "lafand"
    write(folder / "en-nya" / "dev.tsv", "en\tnya\nyes\tinde\n")
    corpus = open_corpus(folder)
    (pair,) = corpus.pairs("en", "nya")
    assert (pair.source.text, pair.target.text, pair.target.line) == ("yes", "inde", 2)


def test_unescape_keeps_what_is_no_escape() -> None:
    assert unescape(r"a\n\\n\x\t") == "a\n\\n\\x\t"
    assert unescape("end\\") == "end\\"


def test_unknown_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"corpus folder .* is missing"):
        open_corpus(tmp_path / "nothing")
    (tmp_path / "tatoba").mkdir()
    with pytest.raises(DataError, match="did you mean tatoeba"):
        open_corpus(tmp_path / "tatoba")
    assert open_corpus(tmp_path / "tatoba", layout="pairs").name == "tatoba"
    with pytest.raises(DataError, match="is missing"):
        Corpus(name="x", layout="lines", directory=tmp_path / "gone").languages()


def test_the_real_folders_can_be_read(data_dir: Path) -> None:
    assert len(open_corpus(data_dir / "nllb_seed").languages()) == 41
    files = (data_dir / "tatoeba").glob("*.tsv.zst")
    named = {code for path in files for code in path.name.removesuffix(".tsv.zst").split("-")}
    assert set(open_corpus(data_dir / "tatoeba").languages()) == named and len(named) > 90
    assert len(open_corpus(data_dir / "mediawiki").languages()) == 183
    assert len(open_corpus(data_dir / "udhr").languages()) == 164
    assert len(list(open_corpus(data_dir / "lafand").pairs("en", "luo"))) > 1000
    first = next(open_corpus(data_dir / "tico19").pairs("eng_Latn", "fra_Latn"))
    assert first.source.line == first.target.line == 1
    bible = open_corpus(data_dir / "bible")
    a, b = bible.languages()[:2]
    assert sum(1 for _ in bible.pairs(a, b)) > 100
