"""Token shards and a manifest from a few files of sentence pairs, for fine-tuning."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import xxhash

from nllb import __version__
from nllb.errors import DataError
from nllb.io.atomic import atomic_binary
from nllb.io.manifest import (
    SOURCE_TAGS,
    CorpusRecord,
    Manifest,
    Phase,
    ShardGroup,
    Split,
    TrainingDirection,
    VocabularyRecord,
    sampling_weights,
    write_manifest,
)
from nllb.io.shards import write_token_shard
from nllb.io.text import read_lines
from nllb.model.tokenizer import Tokenizer
from nllb.training.finetune_config import TextPairs


def pairs_from_filename(path: Path, *, is_replay: bool = False) -> TextPairs:
    """Infer the languages from a file name of the form `SOURCE-TARGET.tsv`, with any compression.

    Raises:
        DataError: The name has a different form.
    """
    source, dash, target = path.name.partition(".")[0].partition("-")
    if not dash or not source or not target:
        raise DataError(
            f"{path}: the file name does not contain the languages; call it SOURCE-TARGET.tsv, "
            f"such as eng_Latn-fur_Latn.tsv"
        )
    return TextPairs(path=path, source=source, target=target, is_replay=is_replay)


def read_pairs(pairs: TextPairs) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a file.

    Raises:
        DataError: A line does not have two columns with text.
    """
    for number, line in enumerate(read_lines(pairs.path), 1):
        columns = line.split("\t")
        if len(columns) < 2 or not columns[0].strip() or not columns[1].strip():
            raise DataError(
                f"{pairs.path}:{number}: expected `source TAB target`, got {line[:60]!r}; clean "
                f"the file with `nllb data run`, or remove the line"
            )
        yield columns[0], columns[1]


def split_pairs(
    pairs: TextPairs, *, held_out_fraction: float, max_held_out: int
) -> dict[Split, list[tuple[str, str]]]:
    """Return the training pairs and the held-out pairs of a file.

    Pairs are held out by the hash of their source, so that no source is in both splits.

    Raises:
        DataError: No pair is left for training.
    """
    per_mille = round(1000 * held_out_fraction, 6)
    rows: dict[Split, list[tuple[str, str]]] = {"train": [], "valid": []}
    held_out: set[str] = set()
    for source, target in read_pairs(pairs):
        if source not in held_out and len(held_out) < max_held_out:
            if xxhash.xxh3_64_intdigest(source.encode()) % 1000 < per_mille:
                held_out.add(source)
        rows["valid" if source in held_out else "train"].append((source, target))
    if not rows["train"]:
        raise DataError(
            f"{pairs.path}: all pairs are held out, none is left for training; add pairs, or lower "
            f"held_out_fraction"
        )
    return rows


def write_text_shards(
    files: Sequence[TextPairs],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    replay_share: float,
    held_out_fraction: float,
    max_held_out: int = 1_000_000,
    self_replay: Sequence[TextPairs] = (),
    temperature: float = 1.0,
) -> Manifest:
    """Write the token shards and the manifest of some text files to a folder.

    Args:
        files: the files.
        tokenizer: tokenizer of the model.
        folder: output folder.
        replay_share: share of the sampled pairs that come from replay.
        held_out_fraction: fraction of the pairs that is held out.
        max_held_out: maximum number of held-out pairs of each file.
        self_replay: further replay files, of which no pair is held out.
        temperature: sampling temperature, applied to new and to replay directions separately.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[ShardGroup] = []
    sizes: dict[tuple[str, str], int] = {}
    replayed: set[tuple[str, str]] = set()
    for number, pairs in enumerate([*files, *self_replay]):
        is_measured = number < len(files)
        rows = split_pairs(
            pairs,
            held_out_fraction=held_out_fraction if is_measured else 0.0,
            max_held_out=max_held_out,
        )
        stem = f"{number:03d}.{pairs.source}-{pairs.target}"
        parts += _write_splits(pairs, rows, tokenizer, folder / stem)
        for pair in ((pairs.source, pairs.target), (pairs.target, pairs.source)):
            sizes[pair] = sizes.get(pair, 0) + len(rows["train"])
            if pairs.is_replay:
                replayed.add(pair)
    weights = _weights(sizes, replayed, replay_share=replay_share, temperature=temperature)
    manifest = _manifest(parts, sizes, weights, tokenizer, folder)
    write_manifest(manifest)
    return manifest


def _write_splits(
    pairs: TextPairs,
    rows: Mapping[Split, Sequence[tuple[str, str]]],
    tokenizer: Tokenizer,
    stem: Path,
) -> Iterator[ShardGroup]:
    """Write a shard for each split of a file that has pairs, and yield its manifest entry."""
    for split, texts in rows.items():
        if not texts:
            continue
        sides = [[tokenizer.encode(text) for text in column] for column in zip(*texts, strict=True)]
        file = write_token_shard(
            stem.with_name(f"{stem.name}.{split}.tokens"),
            sides,
            vocabulary_size=tokenizer.vocabulary_size,
        )
        yield ShardGroup(
            source=pairs.source,
            target=pairs.target,
            origin="primary",
            split=split,
            files=(file,),
        )


def _weights(
    sizes: dict[tuple[str, str], int],
    replayed: set[tuple[str, str]],
    *,
    replay_share: float,
    temperature: float,
) -> dict[tuple[str, str], float]:
    share = replay_share if replayed and len(replayed) < len(sizes) else float(bool(replayed))
    weights: dict[tuple[str, str], float] = {}
    for group, mass in ((replayed, share), (set(sizes) - replayed, 1 - share)):
        names = [pair for pair in sizes if pair in group]
        drawn = sampling_weights([sizes[pair] for pair in names], temperature) if names else []
        weights |= {pair: mass * weight for pair, weight in zip(names, drawn, strict=True)}
    return weights


def _manifest(
    parts: Sequence[ShardGroup],
    sizes: dict[tuple[str, str], int],
    weights: dict[tuple[str, str], float],
    tokenizer: Tokenizer,
    folder: Path,
) -> Manifest:
    ordered = sorted(sizes, key=lambda pair: -sizes[pair])
    directions = tuple(
        TrainingDirection(
            source=pair[0], target=pair[1], num_pairs=sizes[pair], weight=weights[pair]
        )
        for pair in ordered
    )
    with atomic_binary(folder / "vocabulary.model") as stream:
        stream.write(tokenizer.vocabulary)
    languages, tags = tokenizer.languages, tuple(SOURCE_TAGS.values())
    num_pieces = tokenizer.layout.num_pieces
    return Manifest(
        format_version=1,
        vocabulary=VocabularyRecord(
            file="vocabulary.model",
            sha256=hashlib.sha256(tokenizer.vocabulary).hexdigest(),
            name="of the model",
            num_pieces=num_pieces,
            languages=languages,
            tags=tags,
            size=num_pieces + 1 + len(languages) + len(tags) + 1,
        ),
        temperature=1.0,
        parts=tuple(parts),
        directions=directions,
        phases=(Phase(until_step=None, directions=tuple(d.name for d in directions)),),
        corpora=tuple(
            CorpusRecord(name=d.name, origin="primary", licence="unverified", num_pairs=d.num_pairs)
            for d in directions
        ),
        made_by={"nllb": __version__},
        directory=folder,
    )
