"""Archives are looked at before they are unpacked."""

import zipfile
from pathlib import Path

import pytest

from nllb.errors import DataError
from nllb.io import archives
from nllb.io.archives import check_archive, read_member


def write(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def test_a_good_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"a.txt": b"hello", "b": b""})
    with zipfile.ZipFile(path) as archive:
        members = check_archive(archive, path, max_bytes=100)
        assert [read_member(archive, member, path) for member in members] == [b"hello", b""]


def test_sizes_are_limited_before_anything_is_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"a": b"\0" * 1_000_000})
    with zipfile.ZipFile(path) as archive:
        with pytest.raises(DataError, match=r"1,000,000 bytes.*100,000 are the limit"):
            check_archive(archive, path, max_bytes=100_000)
        with pytest.raises(DataError, match="files of its kind are not compressed"):
            check_archive(archive, path)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"a": b"1", "A": b"2"})
    with zipfile.ZipFile(path) as archive, pytest.raises(DataError, match="named 'a'"):
        check_archive(archive, path, max_bytes=100)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    path = write(tmp_path / "a.zip", {str(number): b"" for number in range(4)})
    with zipfile.ZipFile(path) as archive, pytest.raises(DataError, match="4 members; at most 3"):
        check_archive(archive, path, max_bytes=100)


def test_an_entry_that_lies_gives_no_more_than_it_says(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", {"a": b"x" * 100_000})
    data = path.read_bytes()
    lies = data.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lies != data
    path.write_bytes(lies)
    with zipfile.ZipFile(path) as archive, pytest.raises(zipfile.BadZipFile):
        (member,) = check_archive(archive, path, max_bytes=100)
        read_member(archive, member, path)
