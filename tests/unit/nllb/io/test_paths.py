"""Names from files lead to files of the same folder, or nowhere."""

from pathlib import Path

import pytest

from nllb.errors import CheckpointError, DataError
from nllb.io import paths
from nllb.io.paths import is_plain_name, path_inside


@pytest.mark.parametrize("name", ["a", "a.b", "sub/a", "./a", "Ünïcode-1_2.txt"])
def test_names_within(tmp_path: Path, name: str) -> None:
    assert path_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../a",
        "a/../../b",
        "/a",
        "",
        ".",
        "//x",
        "C:/x",
        "a\\..\\b",
        "a\0",
        "\ud800",
        1,
        None,
        {},
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: object) -> None:
    with pytest.raises(CheckpointError, match="is not the name of a file"):
        path_inside(tmp_path, name)


def test_links(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside").write_text("x")
    (folder / "inside").write_text("x")
    (folder / "good").symlink_to("inside")
    (folder / "bad").symlink_to("../outside")
    (folder / "circle").symlink_to("circle")
    assert path_inside(folder, "good").read_text() == "x"
    for name, message in (("bad", "a link that leaves"), ("circle", "circle")):
        with pytest.raises(DataError, match=message) as error:
            path_inside(folder, name, error=DataError, where=folder / "manifest.json")
        assert "manifest.json" in str(error.value)


def test_installers_may_fill_the_package_with_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_PACKAGES", tmp_path / "site-packages")
    (tmp_path / "cache").write_text("x")
    for name, fine in (("nllb/_models/mini", True), ("nllb/other", False), ("_models/a", False)):
        folder = tmp_path / "site-packages" / name
        folder.mkdir(parents=True)
        (folder / "a").symlink_to(tmp_path / "cache")
        if fine:
            assert path_inside(folder, "a").read_text() == "x"
        else:
            with pytest.raises(CheckpointError, match="a link that leaves"):
                path_inside(folder, "a")


def test_a_name_of_any_length_is_not_shown_whole(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        path_inside(tmp_path, "../" + "x" * 100_000)
    assert len(str(error.value)) < 500
    with pytest.raises(CheckpointError):
        path_inside(tmp_path, "x" * 100_000)


def test_plain_names() -> None:
    assert all(map(is_plain_name, ["a", "a-b_c.1", "..a", "größe"]))
    assert not any(map(is_plain_name, ["", ".", "..", "a/b", "a b", "a\n", 3, None]))
