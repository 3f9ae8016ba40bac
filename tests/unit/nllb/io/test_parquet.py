"""Parquet files are read within limits."""

from pathlib import Path

import pytest

from nllb.errors import DataError
from nllb.io import parquet
from nllb.io.benchmarks import load_flores
from nllb.io.parquet import read_records

pyarrow = pytest.importorskip("pyarrow", reason="needs nllb[data]")


def write(path: Path, **columns: list[str]) -> Path:
    from pyarrow import parquet as library

    path.parent.mkdir(parents=True, exist_ok=True)
    library.write_table(pyarrow.table(columns), path, compression="zstd")
    return path


def test_rows_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", text=["a", "b"], other=["c", "d"])
    assert list(read_records(path)) == [{"text": "a", "other": "c"}, {"text": "b", "other": "d"}]
    assert list(read_records(path, columns=["text", "none"])) == [{"text": "a"}, {"text": "b"}]


def test_limits_of_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.parquet", text=["a"] * 50)
    with pytest.raises(DataError, match=r"X01 .*50 rows; the limit is 10"):
        list(read_records(path, max_records=10, prefix="X01 "))
    # One long value is stored once, and repeated in each row.
    bomb = write(tmp_path / "bomb.parquet", text=["x" * 100_000] * 5000)
    assert bomb.stat().st_size < 200_000
    monkeypatch.setattr(parquet, "MAX_RECORD_BYTES", 5 << 20)
    with pytest.raises(DataError, match="more than 5 MiB"):
        list(read_records(bomb))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", text=["a"] * 50)
    data = path.read_bytes()
    for content in (b"", data[:40], data[:-9] + b"\0" * 9, b"PAR1" + b"\xff" * 60 + b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable Parquet file"):
            list(read_records(path))


def test_flores_plus_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in ("eng_Latn", "fra_Latn"):
        write(tmp_path / "devtest" / f"{code}.parquet", text=["x" * 1000] * 3000)
    monkeypatch.setattr(parquet, "MAX_RECORD_BYTES", 1 << 20)
    with pytest.raises(DataError, match="more than 1 MiB"):
        load_flores(tmp_path, "devtest").sentences("eng_Latn")
