"""The manifest of token shards: the only contract between the data pipeline and training.

It is one JSON file beside the shards (`nllb.io.shards`). It lists every shard with its hash, the
directions with their sampling weights, the phases of the curriculum, the vocabulary, and the
corpora with their licences.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, get_args

from nllb.config.fingerprints import file_fingerprint
from nllb.errors import DataError

from .paths import path_inside
from .records import to_record
from .shards import FORMAT_VERSION, ShardFile, TokenShard
from .text import read_json, write_json

MANIFEST_NAME: Final = "manifest.json"
_MAX_SIZE = 1 << 50
_MAX_MANIFEST_BYTES = 1 << 30
DataOrigin = Literal["primary", "mined", "mmt_bt", "smt_bt", "denoising"]
Split = Literal["train", "valid"]

SOURCE_TAGS: Final[dict[DataOrigin, str]] = {
    "mined": "<MINED_DATA>",
    "mmt_bt": "<MMT_BT_DATA>",
    "smt_bt": "<SMT_BT_DATA>",
}
"""Tag after the source language token, in the order of the ids; primary data has none."""
ONE_WAY: Final[frozenset[DataOrigin]] = frozenset({"mmt_bt", "smt_bt", "denoising"})
"""Origins that are used only in their own direction; the others serve both directions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardGroup:
    """The shards of one language pair, one origin and one split."""

    source: str
    """Language code of the source side."""
    target: str
    """Language code of the target side; equal to `source` where the origin is `denoising`."""
    origin: DataOrigin
    """Origin of the pairs; it decides the tag and whether the reverse direction is used."""
    split: Split
    """`train`, or `valid` for lines held out of training."""
    files: tuple[ShardFile, ...]
    """The shards, in the order of the lines."""

    @property
    def num_pairs(self) -> int:
        """Number of pairs in all files."""
        return sum(file.num_pairs for file in self.files)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingDirection:
    """One direction to train, with the text of all origins."""

    source: str
    """Language code to translate from."""
    target: str
    """Language code to translate into."""
    num_pairs: int
    """Number of training pairs of all origins, reversed ones included."""
    weight: float
    """Probability of sampling this direction when all are active; the weights add up to 1."""

    @property
    def name(self) -> str:
        """`SOURCE-TARGET`, as in the phases."""
        return f"{self.source}-{self.target}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """One phase of the curriculum; it includes all directions of the previous phase."""

    until_step: int | None
    """Optimizer step at which the phase ends; None is the end of training."""
    directions: tuple[str, ...]
    """Names `SOURCE-TARGET`, those with the most pairs first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VocabularyRecord:
    """The vocabulary of the shards.

    Ids are those of Hugging Face's NLLB layout: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, then the
    SentencePiece pieces (piece id + 1), the language tokens, the data-source tags and `<mask>`.
    """

    file: str
    """SentencePiece model, relative to the manifest."""
    sha256: str
    """SHA-256 of the SentencePiece model."""
    name: str
    """Name for reports."""
    num_pieces: int
    """Pieces of the SentencePiece model, including its three special ones."""
    languages: tuple[str, ...]
    """Language tokens in the order of their ids."""
    tags: tuple[str, ...]
    """Data-source tags in the order of their ids."""
    size: int
    """Rows of the embedding: all of the above and `<mask>`."""

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
        """Id of `<mask>`, which has its own row after the tags."""
        return self.first_tag_id + len(self.tags)

    def language_id(self, code: str) -> int:
        """Return the id of a language token.

        Raises:
            DataError: the vocabulary has no such language.
        """
        if code not in self.languages:
            raise DataError(
                f"{self.name} has no language token {code!r}, only {len(self.languages)} others"
            )
        return self.first_language_id + self.languages.index(code)

    def tag_id(self, origin: DataOrigin) -> int | None:
        """Return the id of the tag of an origin; None if it has no tag."""
        tag = SOURCE_TAGS.get(origin)
        return None if tag is None else self.first_tag_id + self.tags.index(tag)


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusRecord:
    """The contribution of one corpus, for model cards."""

    name: str
    """Name in the configuration."""
    origin: DataOrigin
    """DataOrigin of its lines."""
    licence: str
    """Licence as the configuration states it."""
    num_pairs: int
    """Number of pairs that reached the shards."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The data of a training run."""

    format_version: int
    """Version of this format."""
    vocabulary: VocabularyRecord
    """The vocabulary of the token ids."""
    temperature: float
    """Temperature T of the sampling weights: p ~ (n / N) ^ (1 / T)."""
    parts: tuple[ShardGroup, ...]
    """One group of shards for every language pair, origin and split that has text."""
    directions: tuple[TrainingDirection, ...]
    """Directions to train, those with the most pairs first."""
    phases: tuple[Phase, ...]
    """The curriculum; a single phase if there is none."""
    corpora: tuple[CorpusRecord, ...]
    """Corpora with licence and number of pairs."""
    made_by: dict[str, str]
    """Version, fingerprint of the configuration and other values that identify the run."""
    directory: Path = dataclasses.field(default=Path("."), compare=False)
    """Folder of the manifest; it is not stored in the file."""

    @cached_property
    def _groups_of_direction(self) -> dict[tuple[str, str, Split], list[tuple[ShardGroup, bool]]]:
        found: dict[tuple[str, str, Split], list[tuple[ShardGroup, bool]]] = {}
        for part in self.parts:
            found.setdefault((part.source, part.target, part.split), []).append((part, False))
            if part.origin not in ONE_WAY:
                found.setdefault((part.target, part.source, part.split), []).append((part, True))
        return found

    def parts_for(
        self, source: str, target: str, split: Split = "train"
    ) -> tuple[tuple[ShardGroup, bool], ...]:
        """Return the groups of shards that serve a direction; True means reversed."""
        return tuple(self._groups_of_direction.get((source, target, split), ()))

    @cached_property
    def by_name(self) -> dict[str, TrainingDirection]:
        """Directions by `SOURCE-TARGET`."""
        return {direction.name: direction for direction in self.directions}

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of all languages that have text, sorted."""
        return tuple(sorted({code for part in self.parts for code in (part.source, part.target)}))

    def path(self, file: ShardFile) -> Path:
        """Return the path of a shard.

        Raises:
            DataError: it is outside the manifest's folder.
        """
        return path_inside(
            self.directory, file.path, error=DataError, where=self.directory / MANIFEST_NAME
        )

    def open(self, file: ShardFile) -> "TokenShard":
        """Open a shard and check its size and number of pairs against the record."""
        path = self.path(file)
        shard = TokenShard.open(path)
        if (shard.num_bytes, len(shard)) != (file.num_bytes, file.num_pairs):
            raise DataError(
                f"{path}: {len(shard):,} pairs in {shard.num_bytes:,} bytes, but the manifest "
                f"records {file.num_pairs:,} in {file.num_bytes:,}: run `nllb data prepare` again"
            )
        return shard

    def verify(self) -> None:
        """Compare the hash of every file with its record.

        Raises:
            DataError: at the first file that differs.
        """
        for part in self.parts:
            for file in part.files:
                path = self.path(file)
                got = file_fingerprint(path)
                if got != file.xxh3_128:
                    raise DataError(
                        f"{path}: hash {got} where the manifest records {file.xxh3_128}: the shard "
                        f"is damaged; run `nllb data prepare` again"
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
    """Read a manifest, given as a file or its folder, and check that it is consistent.

    Raises:
        DataError: it is missing, not a manifest, of another version, or inconsistent.
    """
    path = path / MANIFEST_NAME if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"the manifest {path} is missing; `nllb data prepare` writes it")
    try:
        document = read_json(path, max_bytes=_MAX_MANIFEST_BYTES)
        if document["format_version"] != FORMAT_VERSION:
            raise DataError(
                f"{path}: manifest format {repr(document['format_version'])[:40]}; this program "
                f"reads {FORMAT_VERSION}"
            )
        values = {**document, "directory": path.parent}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a manifest of token shards: {error!r}") from error
    manifest = to_record(Manifest, values, f"{path}: not a manifest of token shards; the file")
    for problem in _inconsistencies(manifest):
        raise DataError(f"{path}: {problem}")
    return manifest


def _inconsistencies(manifest: Manifest) -> Iterator[str]:
    known = manifest.by_name
    before: set[str] = set()
    for number, phase in enumerate(manifest.phases, 1):
        names = set(phase.directions)
        for name in sorted(names - known.keys())[:1]:
            yield f"phase {number} lists {name}, which is not a direction of the manifest"
        for name in sorted(before - names)[:1]:
            yield f"phase {number} drops {name}: phases must be nested"
        before = names
    if not manifest.phases:
        yield "there is no phase; at least one that lists every direction is needed"
    for part in manifest.parts:
        if part.origin not in get_args(DataOrigin):
            yield f"unknown origin {part.origin!r}; valid: {', '.join(get_args(DataOrigin))}"
    vocabulary = manifest.vocabulary
    sizes = [vocabulary.num_pieces, vocabulary.size]
    sizes += [size for part in manifest.parts for file in part.files for size in _sizes(file)]
    sizes += [direction.num_pairs for direction in manifest.directions]
    if odd := [size for size in sizes if not 0 <= size < _MAX_SIZE]:
        yield f"a size of {odd[0]}; sizes are from 0 to {_MAX_SIZE:,}"
    weights = [manifest.temperature, *(direction.weight for direction in manifest.directions)]
    if not all(0 <= weight < math.inf for weight in weights):
        yield "a weight or temperature that is negative, infinite or NaN"
    if vocabulary.size != vocabulary.mask_id + 1:
        rows = vocabulary.mask_id + 1
        yield f"vocabulary of {vocabulary.size} rows, but its parts add up to {rows}"


def _sizes(file: ShardFile) -> tuple[int, int, int, int]:
    return file.num_pairs, file.num_source_tokens, file.num_target_tokens, file.num_bytes
