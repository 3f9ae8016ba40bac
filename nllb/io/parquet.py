"""Reads small Parquet files of untrusted origin as records, within limits of rows and bytes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from nllb.errors import DataError, ResourceError

MAX_RECORDS: Final = 1_000_000
MAX_RECORD_BYTES: Final = 512 << 20
"""Maximum size of the columns that are read, in memory."""
_BATCH_ROWS: Final = 1024


def read_records(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    max_records: int = MAX_RECORDS,
    prefix: str = "",
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file.

    The file states the size of its columns before they are decompressed. A file with a false
    statement, or with values that compression repeats, is stopped by the size that was read.

    Args:
        path: the file.
        columns: the columns to read, if the file has them; None reads all.
        max_records: maximum number of rows.
        prefix: the beginning of error messages.

    Raises:
        DataError: the file is damaged or exceeds the limits.
        ResourceError: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ResourceError(
            f"{path}: reading Parquet needs pyarrow; run: pip install 'nllb[data]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            _check_size(file.metadata, max_records, f"{prefix}{path}")
            names = None
            if columns is not None:
                names = [name for name in file.schema_arrow.names if name in columns]
            num_bytes = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                num_bytes += batch.nbytes
                if num_bytes > MAX_RECORD_BYTES:
                    raise DataError(_too_large(f"{prefix}{path}"))
                yield from batch.to_pylist()
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{prefix}{path}: not a readable Parquet file: {reason}") from None


def _check_size(metadata: Any, max_records: int, where: str) -> None:
    if metadata.num_rows > max_records:
        raise DataError(
            f"{where}: {metadata.num_rows:,} rows; the limit is {max_records:,}: give a smaller "
            f"file"
        )
    stated = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    if stated > MAX_RECORD_BYTES:
        raise DataError(_too_large(where))


def _too_large(where: str) -> str:
    return f"{where}: more than {MAX_RECORD_BYTES >> 20} MiB of data; give a smaller file"
