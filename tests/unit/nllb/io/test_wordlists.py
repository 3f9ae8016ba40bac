"""The word matcher: every known defect of the published detectors is a test here."""

import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nllb.errors import DataError, LanguageError
from nllb.io.word_folding import fold
from nllb.io.wordlist_files import PUBLISHED_PASSWORD, find_list
from nllb.io.wordlists import WordList


def words(*entries: str, language: str = "eng_Latn") -> WordList:
    return WordList.from_entries(entries, language=language)


def found(matcher: WordList, text: str) -> list[str]:
    return [text[match.start : match.end] for match in matcher.matches(text)]


def flores(data_dir: Path, code: str) -> list[str]:
    path = data_dir / "flores200_dataset" / "devtest" / f"{code}.devtest"
    return path.read_text(encoding="utf-8").split("\n")[:-1]


# --- The defects of spec 3.2, one by one.


@pytest.mark.parametrize(
    ("code", "word"),
    [("hin_Deva", "देश"), ("hin_Deva", "भारत"), ("tam_Taml", "நாடு"), ("ben_Beng", "দেশ")],
)
def test_combining_marks_are_letters(data_dir: Path, code: str, word: str) -> None:
    lines = flores(data_dir, code)
    standing = [word in unicodedata.normalize("NFC", line).split() for line in lines]
    counts = words(word, language=code).counts(lines)
    assert sum(standing) > 0
    assert all(count > 0 for count, stands in zip(counts, standing, strict=True) if stands)


def test_a_longer_word_by_a_mark_is_another_word() -> None:
    matcher = words("देश", "कि", language="hin_Deva")
    assert found(matcher, "देशी देश की कि") == ["देश", "कि"]
    assert found(words("cafe"), "café") == []
    assert found(words("cafe"), unicodedata.normalize("NFD", "café")) == []


def test_the_first_line_of_a_list_is_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "eng_Latn_twl.txt"
    path.write_text("zounds\ncrikey\n", encoding="utf-8")
    assert WordList.load(path, language="eng_Latn").count("Zounds, he said.") == 1


@pytest.mark.parametrize(
    ("code", "country", "lines_with_it"),
    [("tha_Thai", "ประเทศ", 79), ("khm_Khmr", "ប្រទេស", 121), ("lao_Laoo", "ປະເທດ", 124),
     ("mya_Mymr", "နိုင်ငံ", 109), ("jpn_Jpan", "アメリカ", 13)],
)  # fmt: skip
def test_scripts_without_spaces(
    data_dir: Path, code: str, country: str, lines_with_it: int
) -> None:
    hit = int((words(country, language=code).counts(flores(data_dir, code)) > 0).sum())
    assert lines_with_it <= hit <= lines_with_it + 1


def test_a_capitalised_entry_counts_once() -> None:
    matcher = words("Banana", "banana")
    assert len(matcher) == 1
    assert matcher.count("Banana split") == 1
    assert matcher.counts(["Banana split", "BANANA banana"]).tolist() == [1, 2]
    assert matcher.counts(["Banana split", "BANANA banana"], distinct=True).tolist() == [1, 1]


def test_a_blank_line_is_no_entry() -> None:
    matcher = words("", "  ", "\u200b", "crikey", "...")
    assert matcher.entries == ("crikey",)
    assert matcher.corrections == {"blank": 2, "no word": 2}
    assert matcher.count("nothing to see") == 0
    assert words("").counts(["nothing"]).tolist() == [0]


def test_nested_entries_count_once() -> None:
    matcher = words("son", "son of a gun", "gun")
    assert found(matcher, "You son of a gun!") == ["son of a gun"]
    assert found(matcher, "the son had a gun") == ["son", "gun"]


def test_list_and_text_meet_in_one_unicode_form() -> None:
    for entry in ("búfalo", unicodedata.normalize("NFD", "búfalo")):
        for text in ("un BÚFALO", unicodedata.normalize("NFD", "un búfalo")):
            assert words(entry).count(text) == 1, (ascii(entry), ascii(text))


def test_a_missing_list_is_an_error_and_never_empty(tmp_path: Path) -> None:
    assert find_list(tmp_path, "hin_Deva") is None
    with pytest.raises(DataError, match=r"hin_Deva_twl\.zip.*cannot be measured"):
        WordList.load(tmp_path, language="hin_Deva")
    (tmp_path / "hin_Deva_twl.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="contains no words"):
        WordList.load(tmp_path, language="hin_Deva")


def test_dotted_capitals_of_one_or_two_characters() -> None:
    for text in ("İDİL", unicodedata.normalize("NFD", "İDİL"), "idil", "IDIL"):
        assert found(words("İdil", language="tur_Latn"), text) == [text]


# --- Matching.


@pytest.mark.parametrize(
    ("entry", "text", "hits"),
    [
        ("ass", "class pass assume", 0), ("ass", "an ass's ear, ASS!", 2),
        ("ırk", "IRK ırk", 2), ("İdil", "idil İDİL", 2), ("straße", "STRASSE", 1),
        ("o'zbek", "oʻzbek oʼzbek o’zbek", 3), ("two words", "two\u00a0 words", 1),
        ("col", "col·legi", 0), ("69", "1969", 0), ("ta'", "ta’ Malta", 1), ("x", "a_x_b", 1),
    ],
)  # fmt: skip
def test_edges_case_and_signs(entry: str, text: str, hits: int) -> None:
    assert words(entry, language="tur_Latn").count(text) == hits


@pytest.mark.parametrize(
    ("language", "entry", "text", "hits"),
    [
        ("arb_Arab", "كلب", "والكلب بكلب مكلب", 2), ("arb_Arab", "كتاب", "كتـــاب", 1),
        ("pes_Arab", "کتاب", "كتاب", 1), ("heb_Hebr", "כלב", "הכלב וכלב כלבים", 2),
        ("kor_Hang", "바보야", "바보야는 바보야라고", 1), ("kor_Hang", "멍청이", "멍청이가", 1),
        ("bod_Tibt", "ཁྱི་རྒན་", "ཁྱི་རྒན།", 1), ("tha_Thai", "กา", "เกาะ กา", 1),
        ("tha_Thai", "กา", "กาา", 0), ("smo_Latn", "ʻo", "faʻo ‘o", 1),
        ("smo_Latn", "fa", "faʻamaʻi fa", 1), ("smo_Latn", "fa’ama'i", "faʻama'i", 1),
        ("tha_Thai", "ก", "กำ", 0), ("khm_Khmr", "ក", "ស្ក", 0),
        ("khm_Khmr", "ប្រទេស", "ប្រ\u200bទេស", 1),
        ("mya_Mymr", "က", "ကန်", 0), ("mya_Mymr", "ကန်", "ကန်က", 1),
        ("jpn_Jpan", "くそ", "このくそやろう", 1),
        ("zho_Hans", "SB", "你SB吗 SBS", 1), ("mal_Mlym", "അവന്\u200d", "അവൻ", 1),
    ],
)  # fmt: skip
def test_scripts_and_particles(language: str, entry: str, text: str, hits: int) -> None:
    assert words(entry, language=language).count(text) == hits


def test_positions_are_those_of_the_text_as_given() -> None:
    text = "\ufeffSoft\u00adly  e\u0301te\u0301 and ÉTÉ, ﬁne ÉTÉ\u0301"
    matcher = words("été", "fine", "softly")
    assert found(matcher, text) == ["Soft\u00adly", "e\u0301te\u0301", "ÉTÉ", "ﬁne"]
    assert [match.entry for match in matcher.matches(text)] == ["softly", "été", "été", "fine"]


def test_merged_lists_keep_their_particles() -> None:
    both = words("كلب", language="arb_Arab").merged(words("dog", "kelb"), words("dog"))
    assert both.entries == ("كلب", "dog", "kelb")
    assert both.counts(["والكلب", "dog", "dogs"]).tolist() == [1, 1, 0]


@settings(max_examples=150, deadline=None)
@example(["a  ि"])
@given(
    st.lists(st.text(alphabet="ab é\u0301क्षि\u200bกำเß\u1100\u1161İ\n.", max_size=12), max_size=8)
)
def test_a_column_counts_like_its_lines(lines: list[str]) -> None:
    matcher = words("a", "b", "é", "ab", "क्षि", "กำ", "ss", "가", "a b", "i")
    expected = [matcher.count(line) for line in lines]
    assert matcher.counts(lines).tolist() == expected
    assert [len(matcher.matches(line)) for line in lines] == expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_matches_cover_what_they_say(text: str) -> None:
    entries = [piece for piece in text.split() if any(c.isalpha() for c in piece)]
    matcher = WordList.from_entries(entries, language="eng_Latn")
    reached = 0
    for match in matcher.matches(text):
        assert reached <= match.start < match.end <= len(text)
        reached = match.end
        assert plain(text[match.start : match.end]) == plain(match.entry)


def plain(text: str) -> str:
    return fold(text).replace("\u02bc", "'").strip(" \u0f0b")


def test_many_lines_span_chunks() -> None:
    lines = [f"line {number} {'crikey ' * (number % 3)}{'x' * 400}" for number in range(3000)]
    counts = words("crikey").counts(lines)
    assert counts.dtype == np.int32
    assert counts.tolist() == [number % 3 for number in range(3000)]


@pytest.mark.parametrize("code", ["eng_Latn", "arb_Arab", "kor_Hang", "tha_Thai", "zho_Hans"])
def test_a_folded_column_counts_as_its_texts_do(data_dir: Path, code: str) -> None:
    lines = flores(data_dir, code)[:300]
    pieces = sorted({piece for line in lines for piece in line.split()})
    entries = [*pieces[::7], *(piece[:2] for piece in pieces[::11]), "x-ray", "'t"]
    matcher = words(*entries, language=code)
    folded = [fold(line).encode() for line in ["", *lines, "x-ray 't", ""]]
    offsets = np.cumsum([0, *map(len, folded)])
    raw = np.frombuffer(b"".join(folded), dtype=np.uint8)
    expected = [matcher.count(line.decode()) for line in folded]
    assert matcher.count_folded(raw, offsets).tolist() == expected
    assert sum(expected) > 300
    part = matcher.count_folded(raw, offsets[:-1], distinct=True)
    matches = [matcher.matches(line.decode()) for line in folded[:-1]]
    assert part.tolist() == [len({fold(match.entry) for match in some}) for some in matches]


# --- Reading lists.


def test_loader_counts_what_it_mends(tmp_path: Path) -> None:
    path = tmp_path / "hin_Deva_twl.txt"
    decomposed = unicodedata.normalize("NFD", "é")
    path.write_bytes(f"\ufeffदेश\r\n\r\nदेश\r\nWord\r\n{decomposed}\r\n".encode())
    matcher = WordList.load(tmp_path, language="hin_Deva")
    assert matcher.entries == ("देश", "Word", decomposed)
    assert matcher.corrections == {"blank": 1, "duplicate": 1, "other script": 2, "not NFC": 1}


def test_password_archives(tmp_path: Path) -> None:
    archive = tmp_path / "eng_Latn_twl.zip"
    locked_zip(archive, "eng_Latn_twl.txt", b"zounds\ncrikey\n", password=PUBLISHED_PASSWORD)
    assert b"crikey" not in archive.read_bytes()
    assert WordList.load(tmp_path, language="eng_Latn").entries == ("zounds", "crikey")
    with pytest.raises(DataError, match="give its password"):
        WordList.load(archive, language="eng_Latn", password="wrong one")
    locked_zip(archive, "eng_Latn_twl.txt", b"zounds\n", password="mine")
    assert WordList.load(archive, language="eng_Latn", password="mine").entries == ("zounds",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("eng_Latn_twl.txt", b"good\nb\xe4d\n", r"eng_Latn_twl.txt:2 is not UTF-8"),
        ("eng_Latn_twl.zip", b"PK nonsense", "not a usable zip archive"),
        ("other.txt", b"word\n", "no word list of eng_Latn"),
    ],
)
def test_bad_lists(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        WordList.load(tmp_path, language="eng_Latn")


def test_an_archive_of_two_texts_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "eng_Latn_twl.zip", "w") as archive:
        archive.writestr("a.txt", "word\n")
        archive.writestr("b.txt", "word\n")
    with pytest.raises(DataError, match="2 text files"):
        WordList.load(tmp_path, language="eng_Latn")


def test_a_language_needs_a_script() -> None:
    with pytest.raises(LanguageError, match="hin_Deva"):
        words("x", language="hindi")
    with pytest.raises(DataError, match=r"the word list .* is missing"):
        WordList.load(Path("/nonexistent/list.txt"), language="eng_Latn")


def locked_zip(path: Path, name: str, data: bytes, *, password: str) -> None:
    """Write a zip archive under the traditional PKWARE encryption, which zipfile only reads."""
    keys = [0x12345678, 0x23456789, 0x34567890]

    def crc(value: int, byte: int) -> int:
        # zlib.crc32 inverts before and after; the cipher's step does neither.
        return zlib.crc32(bytes([byte]), value ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

    def update(byte: int) -> None:
        keys[0] = crc(keys[0], byte)
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = crc(keys[2], keys[1] >> 24)

    def encrypted(plain: bytes) -> bytes:
        coded = bytearray()
        for byte in plain:
            mask = (keys[2] | 2) & 0xFFFF
            coded.append(byte ^ ((mask * (mask ^ 1)) >> 8 & 0xFF))
            update(byte)
        return bytes(coded)

    for byte in password.encode():
        update(byte)
    check = zlib.crc32(data)
    body = encrypted(bytes(11) + bytes([check >> 24]) + data)
    common = (20, 1, 0, 0, 0x21, check, len(body), len(data), len(name), 0)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", *common) + name.encode() + body
    central = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, *common, 0, 0, 0, 0, 0) + name.encode()
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + end)


def test_lists_are_not_unpacked_beyond_a_limit(tmp_path: Path) -> None:
    import zipfile

    archive = tmp_path / "eng_Latn_twl.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("eng_Latn_twl.txt", b"word\n" * (4 << 20))
    assert archive.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"twl\.zip would take 20,971,520 bytes"):
        WordList.load(tmp_path, language="eng_Latn")
    archive.unlink()
    (tmp_path / "eng_Latn_twl.txt").write_bytes(b"word\n" * (4 << 20))
    with pytest.raises(DataError, match=r"twl\.txt is longer than 16 MiB"):
        WordList.load(tmp_path, language="eng_Latn")


def test_an_archive_that_lies_about_its_length(tmp_path: Path) -> None:
    import zipfile

    archive = tmp_path / "eng_Latn_twl.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("eng_Latn_twl.txt", b"word\n" * 20_000)
    data = archive.read_bytes()
    lies = data.replace((100_000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    assert lies != data
    archive.write_bytes(lies)
    with pytest.raises(DataError, match="not a usable zip archive"):
        WordList.load(tmp_path, language="eng_Latn")
