"""Writes a small E5S1 file, the source of a pretrained encoder, by the description of its format.

Independent of the reader: it fills 4-bit blocks with random halves and scales and also returns the
float32 weights that they stand for, by the names of transformers' BertModel.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
SPACE = "\u2581"
WORDS = (
    "the house is small and an old man lives in it by river where dog sleeps query passage".split()
)
TEXT_CHARACTERS = "abcdefghijklmnopqrstuvwxyz.:,éñжшहिदी中文"
REPLACEMENTS = {"\t": " ", "\n": " ", "Ａ": "A", "ﬁ": "fi", "\x01": "", "\u00a0": " "}
PIECES = (
    *SPECIAL,
    SPACE,
    *TEXT_CHARACTERS,
    *(SPACE + word for word in WORDS),
    *(word[:3] for word in WORDS if len(word) > 3),
    "<mask>",
)


@dataclass(kw_only=True)
class TinyShape:
    """Sizes of the encoder."""

    width: int = 64
    layers: int = 3
    heads: int = 4
    inner: int = 96
    rows: int = len(PIECES) + 2
    positions: int = 40
    token_types: int = 2
    version: int = 1
    block: int = 32
    special_ids: tuple[int, int, int, int] = (0, 2, 1, 3)  # <s>, </s>, <pad>, <unk>
    pieces: tuple[str, ...] = PIECES
    scores: list[float] = field(default_factory=list)


def write_e5_file(
    path: Path, shape: TinyShape | None = None, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Write a file and return its weights as float32."""
    shape = shape or TinyShape()
    random = np.random.default_rng(seed)
    header = struct.pack(
        "<4sI7ifi",
        b"E5S1",
        shape.version,
        *(shape.width, shape.layers, shape.heads, shape.inner, shape.rows),
        *(shape.positions, shape.token_types),
        1e-12,
        shape.block,
    )
    header += _pieces(shape) + _replacements()
    tensors, weights = _tensors(shape, random)
    directory = struct.pack("<i", len(tensors))
    size = len(header) + len(directory) + sum(2 + len(name) + 21 for name in tensors)
    body = b""
    for name, (kind, elements, data) in tensors.items():
        body += b"\0" * (-(size + len(body)) % 64)
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, elements, size + len(body), len(data))
        body += data
    path.write_bytes(header + directory + body)
    return weights


def _pieces(shape: TinyShape) -> bytes:
    texts = [piece.encode() for piece in shape.pieces]
    offsets = np.cumsum([0, *map(len, texts)])
    scores = shape.scores or [
        0.0 if piece.startswith("<") else -2.0 - len(piece) % 3 - number / 100
        for number, piece in enumerate(shape.pieces)
    ]
    return (
        struct.pack("<5iQ", len(texts), *shape.special_ids, offsets[-1])
        + offsets.astype("<u4").tobytes()
        + np.array(scores, "<f4").tobytes()
        + b"".join(texts)
    )


def _replacements() -> bytes:
    entries = b"".join(
        struct.pack(f"<IB{len(target)}I", ord(source), len(target), *map(ord, target))
        for source, target in REPLACEMENTS.items()
    )
    return struct.pack("<iI", len(REPLACEMENTS), len(entries)) + entries


def _tensors(
    shape: TinyShape, random: np.random.Generator
) -> tuple[dict[str, tuple[int, int, bytes]], dict[str, np.ndarray]]:
    found: dict[str, tuple[int, int, bytes]] = {}
    weights: dict[str, np.ndarray] = {}

    def vector(name: str, theirs: str, *size: int, around: float = 0.0) -> None:
        values = (around + 0.3 * random.standard_normal(size)).astype("<f4")
        found[name], weights[theirs] = (0, values.size, values.tobytes()), values

    def matrix(name: str, theirs: str, rows: int, columns: int) -> None:
        halves = random.integers(0, 256, (rows, columns // 32, 16), np.uint8)
        scales = random.uniform(-0.03, 0.03, (rows, columns // 32)).astype("<f2")
        blocks = np.empty((rows, columns // 32), [("scale", "<f2"), ("halves", "u1", 16)])
        blocks["scale"], blocks["halves"] = scales, halves
        numbers = np.concatenate([halves & 15, halves >> 4], -1).astype(np.float32) - 8
        values = (numbers * scales.astype(np.float32)[..., None]).reshape(rows, columns)
        found[name], weights[theirs] = (1, values.size, blocks.tobytes()), values

    width = shape.width
    matrix("emb.word", "embeddings.word_embeddings.weight", shape.rows, width)
    vector("emb.pos", "embeddings.position_embeddings.weight", shape.positions, width)
    vector("emb.type", "embeddings.token_type_embeddings.weight", shape.token_types, width)
    vector("emb.ln.w", "embeddings.LayerNorm.weight", width, around=1)
    vector("emb.ln.b", "embeddings.LayerNorm.bias", width)
    for number in range(shape.layers):
        ours, theirs = f"l{number}.", f"encoder.layer.{number}."
        for name, module, rows, columns in (
            ("q", "attention.self.query", width, width),
            ("k", "attention.self.key", width, width),
            ("v", "attention.self.value", width, width),
            ("ao", "attention.output.dense", width, width),
            ("fi", "intermediate.dense", shape.inner, width),
            ("fo", "output.dense", width, shape.inner),
        ):
            matrix(f"{ours}{name}.w", f"{theirs}{module}.weight", rows, columns)
            vector(f"{ours}{name}.b", f"{theirs}{module}.bias", rows)
        for name, module in (("aln", "attention.output.LayerNorm"), ("oln", "output.LayerNorm")):
            vector(f"{ours}{name}.w", f"{theirs}{module}.weight", width, around=1)
            vector(f"{ours}{name}.b", f"{theirs}{module}.bias", width)
    return found, weights
