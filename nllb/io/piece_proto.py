"""Reads and builds SentencePiece model files, which are protocol buffers (wire format only).

A model consists of pieces (field 1), the training options (2) and the normalization (3). Only the
fields that this package needs are interpreted; the file must have been opened by the sentencepiece
library before, which validates it.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

from nllb.errors import CheckpointError

Algorithm = Literal["unigram", "bpe", "word", "char"]
_ALGORITHMS: Final[dict[int, Algorithm]] = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_PIECES, _TRAINING, _NORMALIZATION = 1, 2, 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_TYPE, _VOCABULARY_SIZE, _BYTE_FALLBACK = 3, 4, 35
_RULE_NAME, _CHARACTER_MAP = 1, 2


class PieceKind(IntEnum):
    """The kinds of pieces, with their numbers in the file."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a vocabulary."""

    text: str
    """The piece; a space is U+2581."""
    score: float
    """Log-probability (unigram), or the negative rank of its merge (BPE)."""
    kind: PieceKind = PieceKind.NORMAL
    """What the piece stands for."""

    def record(self) -> bytes:
        """Return the piece as a field of the model file."""
        text = self.text.encode()
        content = _field(1, text) + _tag(2, _FIXED32) + struct.pack("<f", self.score)
        if self.kind != PieceKind.NORMAL:
            content += _tag(3, _VARINT) + _varint(self.kind)
        return _field(_PIECES, content)


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceModel:
    """The content of a SentencePiece model."""

    pieces: tuple[Piece, ...]
    """The pieces in the order of their indices."""
    algorithm: Algorithm
    """How text is segmented into pieces."""
    character_map: bytes = b""
    """The compiled normalization of characters; empty if characters are kept."""
    byte_fallback: bool = False
    """Whether characters that the vocabulary lacks become pieces for their UTF-8 bytes."""
    options: bytes = b""
    """The other fields as they were read; if empty, `build` derives them from the above."""

    @classmethod
    def parse(cls, model: bytes) -> "PieceModel":
        """Read a model that the sentencepiece library accepts.

        Raises:
            CheckpointError: the bytes are not such a protocol buffer.
        """
        try:
            return cls._parse(model)
        except ValueError as error:
            raise CheckpointError(f"the SentencePiece model is damaged: {error}") from None

    @classmethod
    def _parse(cls, model: bytes) -> "PieceModel":
        pieces, options = [], b""
        training: dict[int, int | bytes] = {}
        normalization: dict[int, int | bytes] = {}
        for number, value, raw in _read_fields(model):
            if number == _PIECES and isinstance(value, bytes):
                pieces.append(_parse_piece(value))
                continue
            options += raw
            if number == _TRAINING and isinstance(value, bytes):
                training |= {key: content for key, content, _ in _read_fields(value)}
            elif number == _NORMALIZATION and isinstance(value, bytes):
                normalization |= {key: content for key, content, _ in _read_fields(value)}
        algorithm = _ALGORITHMS.get(_integer(training.get(_MODEL_TYPE, 1)))
        if algorithm is None:
            raise ValueError("the type of its pieces is unknown")
        character_map = normalization.get(_CHARACTER_MAP, b"")
        return cls(
            pieces=tuple(pieces),
            algorithm=algorithm,
            character_map=character_map if isinstance(character_map, bytes) else b"",
            byte_fallback=bool(training.get(_BYTE_FALLBACK, 0)),
            options=options,
        )

    def build(self) -> bytes:
        """Return the model file."""
        options = self.options
        if not options:
            number = next(key for key, name in _ALGORITHMS.items() if name == self.algorithm)
            training = _tag(_MODEL_TYPE, _VARINT) + _varint(number)
            training += _tag(_VOCABULARY_SIZE, _VARINT) + _varint(len(self.pieces))
            training += _tag(_BYTE_FALLBACK, _VARINT) + _varint(self.byte_fallback)
            rule = b"user_defined" if self.character_map else b"identity"
            normalization = _field(_RULE_NAME, rule) + _field(_CHARACTER_MAP, self.character_map)
            options = _field(_TRAINING, training) + _field(_NORMALIZATION, normalization)
        return b"".join(piece.record() for piece in self.pieces) + options


def merges(pieces: Iterable[tuple[str, float]]) -> list[tuple[str, str]]:
    """Return the merges of a BPE vocabulary, best first.

    SentencePiece merges any two pieces whose concatenation is a piece, and prefers the best score.
    Other libraries need the list of all these pairs.
    """
    ordered = list(pieces)
    known = {text for text, _ in ordered}
    found: list[tuple[str, str]] = []
    for text, _ in sorted(ordered, key=lambda piece: -piece[1]):
        splits = ((text[:index], text[index:]) for index in range(len(text) - 1, 0, -1))
        found += [pair for pair in splits if pair[0] in known and pair[1] in known]
    return found


def _parse_piece(record: bytes) -> Piece:
    fields = {number: value for number, value, _ in _read_fields(record)}
    text, score = fields.get(1, b""), fields.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4:
        raise ValueError("a piece has no text or no score")
    kind = PieceKind(_integer(fields.get(3, PieceKind.NORMAL)))
    return Piece(text.decode(), struct.unpack("<f", score)[0], kind)


def _read_fields(data: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Yield the number, the value and the raw bytes of each field of a message."""
    position = 0
    while position < len(data):
        start = position
        tag, position = _read_varint(data, position)
        wire = tag & 7
        value: int | bytes
        if wire == _VARINT:
            value, position = _read_varint(data, position)
        else:
            if wire == _BYTES:
                length, position = _read_varint(data, position)
            elif wire in (_FIXED32, _FIXED64):
                length = 4 if wire == _FIXED32 else 8
            else:
                raise ValueError(f"a field has the unknown wire type {wire}")
            if length > len(data) - position:
                raise ValueError("a field is cut short")
            value = data[position : position + length]
            position += length
        yield tag >> 3, value, data[start:position]


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise ValueError("a number is cut short")


def _integer(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a number is not stored as one")
    return value


def _field(number: int, content: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(content)) + content


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(number: int) -> bytes:
    parts: list[int] = []
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def has_all_bytes(pieces: Sequence[str]) -> bool:
    """Return whether a vocabulary has a piece for each byte (`<0x00>` to `<0xFF>`)."""
    return {f"<0x{value:02X}>" for value in range(256)}.issubset(pieces)
