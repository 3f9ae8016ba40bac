"""Token shards and their manifest: the one contract between the data pipeline and training.

A shard is one memory-mapped file of token ids: both sides of its pairs, flat, with offsets. It
holds pieces only. Language tokens, data-source tags and `</s>` are put on by whoever reads, so that
one shard serves both directions of a bitext. The manifest is one JSON file beside the shards.

File layout, little endian: 32 bytes of header (`NLLBTOKS`, format version u32, bytes per token u32,
number of sides u32, zero u32, number of pairs u64), then per side num_pairs + 1 offsets (u64), then
per side the tokens (u16 or u32), each block padded to 8 bytes.
"""

import dataclasses
import errno
import json
import os
import resource
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

import numpy
import xxhash
from numpy.typing import NDArray

from nllb.config.fingerprints import file_fingerprint
from nllb.errors import DataError
from nllb.io.atomic import atomic_path
from nllb.io.text import read_text, write_json

FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
Origin = Literal["primary", "mined", "mmt_bt", "smt_bt", "denoising"]
Split = Literal["train", "valid"]

SOURCE_TAGS: Final[dict[Origin, str]] = {
    "mined": "<MINED_DATA>",
    "mmt_bt": "<MMT_BT_DATA>",
    "smt_bt": "<SMT_BT_DATA>",
}
"""Token behind the source language token, in the order of the ids; primary data has none."""
ONE_WAY: Final[frozenset[Origin]] = frozenset({"mmt_bt", "smt_bt", "denoising"})
"""Origins that are used only as they were built; the others serve both directions."""

_MAGIC = b"NLLBTOKS"
_HEADER = struct.Struct("<8sIIIIQ")
_TOKEN_TYPES: dict[int, type[numpy.unsignedinteger[Any]]] = {2: numpy.uint16, 4: numpy.uint32}
_CHUNK = 1 << 20

Tokens = NDArray[numpy.unsignedinteger[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFile:
    """One shard as the manifest records it."""

    path: str
    """Path of the file, relative to the manifest."""
    num_pairs: int
    """Pairs in the shard; sentences where it has one side."""
    num_source_tokens: int
    """Tokens of the source side."""
    num_target_tokens: int
    """Tokens of the target side; 0 where it has one side."""
    num_bytes: int
    """Length of the file."""
    xxh3_128: str
    """XXH3-128 of the file, hexadecimal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The shards of one language pair, one origin and one split."""

    source: str
    """Language code of the source side."""
    target: str
    """Language code of the target side; the source's own where the origin is `denoising`."""
    origin: Origin
    """Where the pairs come from; it decides the tag and whether the reverse is used."""
    split: Split
    """`train`, or `valid` for lines held out of training."""
    files: tuple[ShardFile, ...]
    """The shards, in the order of the lines."""

    @property
    def num_pairs(self) -> int:
        """Pairs in all files."""
        return sum(file.num_pairs for file in self.files)


@dataclass(frozen=True, kw_only=True, slots=True)
class Direction:
    """One direction to train, with all origins that feed it."""

    source: str
    """Language code to translate from."""
    target: str
    """Language code to translate into."""
    num_pairs: int
    """Training pairs of all origins, reversed ones included."""
    weight: float
    """Probability of drawing this direction when all are active; the weights sum to 1."""

    @property
    def name(self) -> str:
        """`SOURCE-TARGET`, as the phases list it."""
        return f"{self.source}-{self.target}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """One phase of the curriculum; each holds all directions of the phase before it."""

    until_step: int | None
    """Optimizer step at which the phase ends; None lasts to the end of training."""
    directions: tuple[str, ...]
    """Names `SOURCE-TARGET`, the most pairs first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VocabularyRecord:
    """The vocabulary that the shards were written with.

    Ids are those of Hugging Face's NLLB layout: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, then the
    SentencePiece pieces (piece id + 1), the language tokens, the data-source tags and `<mask>`.
    """

    file: str
    """SentencePiece model, relative to the manifest."""
    sha256: str
    """SHA-256 of the SentencePiece model."""
    name: str
    """Name for reports, such as `spm:standin`."""
    num_pieces: int
    """Pieces of the SentencePiece model, its three specials included."""
    languages: tuple[str, ...]
    """Language tokens in the order of their ids."""
    tags: tuple[str, ...]
    """Data-source tags in the order of their ids."""
    size: int
    """Rows that an embedding needs: all of the above and `<mask>`."""

    @property
    def first_language_id(self) -> int:
        """Id of the first language token."""
        return self.num_pieces + 1

    @property
    def first_tag_id(self) -> int:
        """Id of the first data-source tag."""
        return self.first_language_id + len(self.languages)

    @property
    def mask_id(self) -> int:
        """Id of `<mask>`, a row of its own behind the tags."""
        return self.first_tag_id + len(self.tags)

    def language_id(self, code: str) -> int:
        """Return the id of a language token.

        Raises:
            DataError: where the vocabulary has no such language.
        """
        if code not in self.languages:
            raise DataError(
                f"{self.name} has no language token {code!r}; it has {len(self.languages)}"
            )
        return self.first_language_id + self.languages.index(code)

    def tag_id(self, origin: Origin) -> int | None:
        """Return the id of the tag of an origin; None where it has no tag."""
        tag = SOURCE_TAGS.get(origin)
        return None if tag is None else self.first_tag_id + self.tags.index(tag)


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusRecord:
    """What went in from one corpus, for model cards."""

    name: str
    """Name in the configuration."""
    origin: Origin
    """Origin of its lines."""
    licence: str
    """Licence as the configuration states it."""
    num_pairs: int
    """Pairs that reached the shards."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that training knows of its data."""

    format_version: int
    """Version of this format."""
    vocabulary: VocabularyRecord
    """The vocabulary of the token ids."""
    temperature: float
    """Temperature T of the sampling weights: p ~ (n / N) ^ (1 / T)."""
    parts: tuple[Part, ...]
    """Every pair, origin and split that has text."""
    directions: tuple[Direction, ...]
    """Directions to train, the most pairs first."""
    phases: tuple[Phase, ...]
    """The curriculum; one phase where there is none."""
    corpora: tuple[CorpusRecord, ...]
    """Sources with licence and count."""
    made_by: dict[str, str]
    """Version, configuration hash and what else identifies the run."""
    directory: Path = dataclasses.field(default=Path("."), compare=False)
    """Folder of the manifest; not part of the file."""

    @cached_property
    def _feeding(self) -> dict[tuple[str, str, Split], list[tuple[Part, bool]]]:
        feeding: dict[tuple[str, str, Split], list[tuple[Part, bool]]] = {}
        for part in self.parts:
            feeding.setdefault((part.source, part.target, part.split), []).append((part, False))
            if part.origin not in ONE_WAY:
                feeding.setdefault((part.target, part.source, part.split), []).append((part, True))
        return feeding

    def parts_for(
        self, source: str, target: str, split: Split = "train"
    ) -> tuple[tuple[Part, bool], ...]:
        """Return the parts that feed a direction; True means: reversed."""
        return tuple(self._feeding.get((source, target, split), ()))

    @cached_property
    def by_name(self) -> dict[str, Direction]:
        """Directions by `SOURCE-TARGET`."""
        return {direction.name: direction for direction in self.directions}

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of all languages that have text, sorted."""
        return tuple(sorted({code for part in self.parts for code in (part.source, part.target)}))

    def open(self, file: ShardFile) -> "TokenShard":
        """Open a shard and check that it is the recorded one, by length and counts."""
        path = self.directory / file.path
        shard = TokenShard.open(path)
        if (shard.num_bytes, len(shard)) != (file.num_bytes, file.num_pairs):
            raise DataError(
                f"{path}: {len(shard):,} pairs in {shard.num_bytes:,} bytes where the "
                f"manifest records {file.num_pairs:,} in {file.num_bytes:,}: "
                "run `nllb data prepare` again"
            )
        return shard

    def verify(self) -> None:
        """Read every file and compare its hash; raises DataError at the first that differs."""
        for part in self.parts:
            for file in part.files:
                got = file_fingerprint(self.directory / file.path)
                if got != file.xxh3_128:
                    raise DataError(
                        f"{self.directory / file.path}: hash {got} where the manifest records "
                        f"{file.xxh3_128}: the shard is damaged; run `nllb data prepare` again"
                    )


class TokenShard:
    """A shard of token ids, memory-mapped: opening costs nothing, pages are read when touched."""

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
        """All tokens of the source side, as `source_offsets` cuts them."""
        return self._tokens[0]

    @property
    def target_tokens(self) -> Tokens:
        """All tokens of the target side, as `target_offsets` cuts them."""
        return self._tokens[-1]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a shard.

        Raises:
            DataError: where the file is missing, cut short, or no shard.
        """
        try:
            # An empty file cannot be mapped; it is refused below like any other.
            size = path.stat().st_size
            mapped = _map(path) if size else b""
        except OSError as error:
            raise DataError(f"cannot read the shard {path}: {error.strerror or error}") from error
        head = mapped[: _HEADER.size]
        if len(head) < _HEADER.size or not head.startswith(_MAGIC):
            raise DataError(f"{path}: not a token shard (no {_MAGIC.decode()} at its start)")
        _, version, width, sides, _, num_pairs = _HEADER.unpack(head)
        if version != FORMAT_VERSION or width not in _TOKEN_TYPES or sides not in (1, 2):
            raise DataError(f"{path}: shard format {version}, this program reads {FORMAT_VERSION}")
        position = _HEADER.size + sides * (num_pairs + 1) * 8
        if size < position:
            raise DataError(f"{path}: cut short: {size:,} bytes; run `nllb data prepare` again")
        raw = numpy.frombuffer(mapped, numpy.uint64, sides * (num_pairs + 1), _HEADER.size)
        offsets = [
            raw[side * (num_pairs + 1) : (side + 1) * (num_pairs + 1)] for side in range(sides)
        ]
        tokens: list[Tokens] = []
        for side in range(sides):
            length = int(offsets[side][-1]) * width
            if size < position + length:
                raise DataError(f"{path}: cut short: {size:,} bytes; run `nllb data prepare` again")
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
            raise DataError(f"{self.path} has one side only; its origin is denoising")
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
    """Map a file. Python keeps each one open, so the usual limit of open files may have to rise."""
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
    """Write the token ids of one or two sides; the file appears whole or not at all.

    Returns:
        The record for the manifest, with the bare file name as its path.
    """
    num_pairs = len(sides[0])
    if any(len(side) != num_pairs for side in sides):
        raise DataError(
            f"{path}: sides of {' and '.join(str(len(side)) for side in sides)} sentences"
        )
    width = 2 if vocabulary_size <= 1 << 16 else 4
    flat = [_flatten(side, path, vocabulary_size) for side in sides]
    digest = xxhash.xxh3_128()
    with atomic_path(path) as beside, beside.open("wb") as stream:
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


def sampling_weights(sizes: Sequence[int], temperature: float) -> list[float]:
    """Return p ~ (n / N) ^ (1 / T); empty directions get 0. Source: NLLB Team 2022, 6.1.2."""
    total = sum(sizes)
    powers = [(size / total) ** (1 / temperature) if size else 0.0 for size in sizes]
    return [power / sum(powers) for power in powers]


def write_manifest(manifest: Manifest) -> Path:
    """Write `manifest.json` into its folder and return the path."""
    document = dataclasses.asdict(manifest)
    del document["directory"]
    path = manifest.directory / MANIFEST_NAME
    write_json(path, document)
    return path


def read_manifest(path: Path) -> Manifest:
    """Read a manifest (its folder will do) and check that it is consistent in itself.

    Raises:
        DataError: where it is missing, no manifest, of another version, or inconsistent.
    """
    path = path / MANIFEST_NAME if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"no manifest {path}; `nllb data prepare` writes one")
    try:
        document = json.loads(read_text(path))
        if document["format_version"] != FORMAT_VERSION:
            raise DataError(
                f"{path}: manifest format {document['format_version']}; "
                f"this program reads {FORMAT_VERSION}"
            )
        manifest = Manifest(
            **{
                **document,
                "vocabulary": VocabularyRecord(**_tuples(document["vocabulary"])),
                "parts": tuple(map(_part, document["parts"])),
                "directions": tuple(Direction(**record) for record in document["directions"]),
                "phases": tuple(Phase(**_tuples(record)) for record in document["phases"]),
                "corpora": tuple(CorpusRecord(**record) for record in document["corpora"]),
                "directory": path.parent,
            }
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a manifest of token shards: {error!r}") from error
    for fault in _faults(manifest):
        raise DataError(f"{path}: {fault}")
    return manifest


def _faults(manifest: Manifest) -> Iterator[str]:
    known = manifest.by_name
    before: set[str] = set()
    for number, phase in enumerate(manifest.phases, 1):
        names = set(phase.directions)
        for name in sorted(names - known.keys())[:1]:
            yield f"phase {number} lists {name}, which is no direction of the manifest"
        for name in sorted(before - names)[:1]:
            yield f"phase {number} drops {name}: phases must be nested"
        before = names
    if not manifest.phases:
        yield "no phase; one that lists every direction is the least"
    for part in manifest.parts:
        if part.origin not in get_args(Origin):
            yield f"unknown origin {part.origin!r}; valid: {', '.join(get_args(Origin))}"
    vocabulary = manifest.vocabulary
    if vocabulary.size != vocabulary.mask_id + 1:
        yield f"vocabulary of {vocabulary.size} rows, its parts make {vocabulary.mask_id + 1}"


def _part(record: dict[str, Any]) -> Part:
    return Part(**{**record, "files": tuple(ShardFile(**file) for file in record["files"])})


def _tuples(record: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
    }


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
