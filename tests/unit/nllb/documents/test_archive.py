import struct
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest

from nllb.documents import archive as archive_module
from nllb.documents.archive import OLE_MAGIC, Archive
from nllb.errors import DocumentError
from tests.office_files import docx_bytes, opened, paragraph, zip_bytes

MEMBERS = {"mimetype": "kind", "b.xml": "<b/>", "a.xml": "<a/>" * 50}


def test_a_changed_archive_keeps_order_dates_and_compression() -> None:
    data = zip_bytes(MEMBERS, stored=["mimetype"])
    changed = Archive(data).replace({"b.xml": b"<new/>"})
    with ZipFile(BytesIO(data)) as before, ZipFile(BytesIO(changed)) as after:
        assert before.namelist() == after.namelist()
        assert after.read("b.xml") == b"<new/>"
        for old, new in zip(before.infolist(), after.infolist(), strict=True):
            assert old.date_time == new.date_time and old.external_attr == new.external_attr
            assert old.compress_type == new.compress_type
        assert after.getinfo("mimetype").compress_type == ZIP_STORED
        assert after.getinfo("a.xml").compress_type == ZIP_DEFLATED
    assert changed.startswith(b"PK\x03\x04") and changed[30:42] == b"mimetypekind"


def test_an_archive_without_a_change_is_the_same_file() -> None:
    data = zip_bytes(MEMBERS)
    assert Archive(data).replace({"b.xml": b"<b/>"}) is data


def test_an_encrypted_member_is_refused() -> None:
    data = bytearray(zip_bytes(MEMBERS))
    place = data.find(b"PK\x01\x02")
    flags = struct.unpack_from("<H", data, place + 8)[0]
    struct.pack_into("<H", data, place + 8, flags | 1)
    with pytest.raises(DocumentError, match="password"):
        Archive(bytes(data))


def test_an_encrypted_office_file_is_refused() -> None:
    with pytest.raises(DocumentError, match="password"):
        opened(OLE_MAGIC + bytes(5000), "report.docx")


@pytest.mark.parametrize("place", [5, 45, 60, -30])
def test_damage_is_an_error(place: int) -> None:
    data = bytearray(zip_bytes({"a.xml": bytes(range(256)) * 9}))
    data[place] ^= 0xFF
    with pytest.raises(DocumentError, match=r"damaged|file|encrypted"):
        Archive(bytes(data)).read("a.xml.missing")


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = zip_bytes({"a.xml": bytes(1_000_000)})
    monkeypatch.setattr(archive_module, "MIN_BOMB_BYTES", 100_000)
    with pytest.raises(DocumentError, match="the maximum is 300 times its size"):
        Archive(data)
    monkeypatch.setattr(archive_module, "MAX_UNPACKED_BYTES", 100_000)
    with pytest.raises(DocumentError, match="limit"):
        Archive(data)


def test_entity_bombs_are_refused() -> None:
    data = docx_bytes(paragraph("x"))
    with ZipFile(BytesIO(data)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
    with pytest.raises(DocumentError, match="entity"):
        opened(zip_bytes({**members, "word/document.xml": bomb}))


def test_macros_are_kept_and_said() -> None:
    data = docx_bytes(paragraph("x"), vbaProject=("application/vnd.ms-office.vbaProject", "code"))
    assert any("macros" in warning for warning in opened(data).warnings)
