import pytest

from nllb.errors import DataError
from nllb.translation.files import read_batches
from nllb.translation.input_formats import require_plain_text, require_text_bytes


@pytest.mark.parametrize(
    "name", ["a.srt", "a.VTT", "b.po", "c.json", "d.docx", "e.pdf", "f.html", "g.json.gz", "h.zip"]
)
def test_other_formats_are_refused_by_name_with_a_hint(name):
    with pytest.raises(DataError, match=r"not plain text: .*[Ee]xtract its text to a \.txt file"):
        require_plain_text(name)


def test_bzip2_is_named():
    with pytest.raises(DataError, match=r"a.txt.bz2 is compressed with bzip2.*use .gz"):
        require_plain_text("a.txt.bz2")


@pytest.mark.parametrize(
    "name", ["a.txt", "README.md", "a.fr", "text", "a.txt.gz", "v1.5", "a.zst"]
)
def test_plain_text_is_accepted_by_name(name):
    require_plain_text(name)


@pytest.mark.parametrize("content", [b"PK\x03\x04...", b"%PDF-1.7 ...", b"{\\rtf1 ...", b"BZh9..."])
def test_binary_formats_are_recognized_by_their_bytes(tmp_path, content):
    (tmp_path / "noname").write_bytes(content)
    with pytest.raises(DataError, match=r"noname is .*, not plain text"):
        list(read_batches(tmp_path / "noname", errors="replace"))


def test_the_encoding_is_named():
    with pytest.raises(DataError, match=r"stdin is in UTF-16LE, not in UTF-8.*iconv -f UTF-16LE"):
        require_text_bytes("Hello, world".encode("utf-16-le"), "stdin")
    require_text_bytes(b"", "stdin")
    require_text_bytes("Привет, 你好".encode(), "stdin")
    require_text_bytes(b"a\tb\tc\td\n" * 9, "stdin")


@pytest.mark.parametrize(
    "text", ["Привет, мир", "Γεια σου κόσμε", "שלום עולם", "नमस्ते दुनिया", "Bye."]
)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_of_other_scripts_is_recognized(text, encoding):
    with pytest.raises(DataError, match="UTF-16"):
        require_text_bytes(text.encode(encoding), "stdin")
