"""Token shards: memory-mapped files of token ids, which training reads.

A shard contains both sides of its pairs, flat, with offsets. It has pieces only: language tokens,
data-source tags and `</s>` are added by the reader, so that one shard serves both directions of a
bitext. `nllb.io.manifest` describes all shards of a run.

File layout, little endian: a header of 32 bytes (`NLLBTOKS`, format version u32, bytes per token
u32, number of sides u32, zero u32, number of pairs u64), then num_pairs + 1 offsets per side (u64),
then the tokens of each side (u16 or u32), each block padded to 8 bytes.
"""

import errno
import os
import resource
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Final, Self

import numpy
import xxhash
from numpy.typing import NDArray

from nllb.errors import DataError

from .atomic import atomic_path

FORMAT_VERSION: Final = 1

_MAGIC = b"NLLBTOKS"
_HEADER = struct.Struct("<8sIIIIQ")
_TOKEN_TYPES: dict[int, type[numpy.unsignedinteger[Any]]] = {2: numpy.uint16, 4: numpy.uint32}

Tokens = NDArray[numpy.unsignedinteger[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFile:
    """One shard as the manifest records it."""

    path: str
    """Path of the file, relative to the manifest."""
    num_pairs: int
    """Number of pairs; of sentences if the shard has one side."""
    num_source_tokens: int
    """Number of tokens of the source side."""
    num_target_tokens: int
    """Number of tokens of the target side; 0 if the shard has one side."""
    num_bytes: int
    """Size of the file."""
    xxh3_128: str
    """XXH3-128 of the file, hexadecimal."""


class TokenShard:
    """A memory-mapped shard of token ids: opening it reads the offsets, but no tokens."""

    def __init__(
        self,
        path: Path,
        offsets: list[NDArray[numpy.uint64]],
        tokens: list[Tokens],
        *,
        num_bytes: int,
    ) -> None:
        self.path = path
        self.num_bytes = num_bytes
        self.source_offsets = offsets[0]
        self.target_offsets = offsets[1] if len(offsets) > 1 else None
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self.source_offsets) - 1

    @property
    def source_tokens(self) -> Tokens:
        """All tokens of the source side; `source_offsets` separates the sentences."""
        return self._tokens[0]

    @property
    def target_tokens(self) -> Tokens:
        """All tokens of the target side; `target_offsets` separates the sentences."""
        return self._tokens[-1]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a shard.

        Raises:
            DataError: the file is missing, truncated, or not a shard.
        """
        try:
            # An empty file cannot be mapped; it is rejected below as not a shard.
            size = path.stat().st_size
            mapped = _map(path) if size else b""
        except OSError as error:
            raise DataError(f"cannot read the shard {path}: {error.strerror or error}") from error
        head = mapped[: _HEADER.size]
        if len(head) < _HEADER.size or not head.startswith(_MAGIC):
            raise DataError(f"{path}: not a token shard (it does not begin with {_MAGIC.decode()})")
        _, version, width, sides, _, num_pairs = _HEADER.unpack(head)
        if version != FORMAT_VERSION or width not in _TOKEN_TYPES or sides not in (1, 2):
            raise DataError(f"{path}: shard format {version}, this program reads {FORMAT_VERSION}")
        position = _HEADER.size + sides * (num_pairs + 1) * 8
        if size < position:
            raise DataError(f"{path}: truncated: {size:,} bytes; run `nllb data prepare` again")
        raw = numpy.frombuffer(mapped, numpy.uint64, sides * (num_pairs + 1), _HEADER.size)
        offsets = [
            raw[side * (num_pairs + 1) : (side + 1) * (num_pairs + 1)] for side in range(sides)
        ]
        tokens: list[Tokens] = []
        for side in range(sides):
            if int(offsets[side][0]) != 0 or bool((offsets[side][1:] < offsets[side][:-1]).any()):
                raise DataError(
                    f"{path} damaged: its offsets decrease; run `nllb data prepare` again"
                )
            length = int(offsets[side][-1]) * width
            if size < position + length:
                raise DataError(f"{path}: truncated: {size:,} bytes; run `nllb data prepare` again")
            count = length // width
            tokens.append(numpy.frombuffer(mapped, _TOKEN_TYPES[width], count, position))
            position += _padded(length)
        return cls(path, offsets, tokens, num_bytes=size)

    def source(self, index: int) -> Tokens:
        """Return the source tokens of a pair (a view of the file)."""
        return self._tokens[0][
            int(self.source_offsets[index]) : int(self.source_offsets[index + 1])
        ]

    def target(self, index: int) -> Tokens:
        """Return the target tokens of a pair (a view of the file)."""
        if self.target_offsets is None:
            raise DataError(f"{self.path} has only one side, because its origin is denoising")
        return self._tokens[1][
            int(self.target_offsets[index]) : int(self.target_offsets[index + 1])
        ]

    def lengths(self) -> NDArray[numpy.int64]:
        """Return the token counts, shape (sides, pairs)."""
        offsets = [self.source_offsets]
        if self.target_offsets is not None:
            offsets.append(self.target_offsets)
        return numpy.stack([numpy.diff(side.astype(numpy.int64)) for side in offsets])


def _map(path: Path) -> mmap:
    """Map a file. Python keeps it open, so that the limit of open files may have to be raised."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return mmap(descriptor, 0, access=ACCESS_READ)
        finally:
            os.close(descriptor)
    except OSError as error:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if error.errno != errno.EMFILE or soft == hard:
            raise
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _map(path)


def write_token_shard(
    path: Path, sides: Sequence[Sequence[Sequence[int] | NDArray[Any]]], *, vocabulary_size: int
) -> ShardFile:
    """Write the token ids of one or two sides atomically.

    Returns:
        The record for the manifest, with the bare file name as its path.
    """
    num_pairs = len(sides[0])
    if any(len(side) != num_pairs for side in sides):
        raise DataError(
            f"{path}: the sides have {' and '.join(str(len(side)) for side in sides)} sentences"
        )
    width = 2 if vocabulary_size <= 1 << 16 else 4
    flat = [_flatten(side, path, vocabulary_size) for side in sides]
    digest = xxhash.xxh3_128()
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        blocks = [_HEADER.pack(_MAGIC, FORMAT_VERSION, width, len(sides), 0, num_pairs)]
        blocks += [offsets.tobytes() for _, offsets in flat]
        for tokens, _ in flat:
            raw = tokens.astype(_TOKEN_TYPES[width]).tobytes()
            blocks.append(raw + b"\0" * (_padded(len(raw)) - len(raw)))
        for block in blocks:
            digest.update(block)
            stream.write(block)
    counts = [len(tokens) for tokens, _ in flat] + [0]
    return ShardFile(
        path=path.name,
        num_pairs=num_pairs,
        num_source_tokens=counts[0],
        num_target_tokens=counts[1],
        num_bytes=sum(map(len, blocks)),
        xxh3_128=digest.hexdigest(),
    )


def _flatten(
    side: Sequence[Sequence[int] | NDArray[Any]], path: Path, vocabulary_size: int
) -> tuple[NDArray[numpy.int64], NDArray[numpy.uint64]]:
    offsets = numpy.zeros(len(side) + 1, dtype=numpy.uint64)
    numpy.cumsum([len(tokens) for tokens in side], out=offsets[1:])
    arrays = [numpy.asarray(tokens, dtype=numpy.int64) for tokens in side]
    flat = numpy.concatenate(arrays) if arrays else numpy.zeros(0, dtype=numpy.int64)
    if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < vocabulary_size:
        raise DataError(
            f"{path}: token ids {flat.min()} to {flat.max()} for a vocabulary of {vocabulary_size}"
        )
    return flat, offsets


def _padded(length: int) -> int:
    return -(-length // 8) * 8
