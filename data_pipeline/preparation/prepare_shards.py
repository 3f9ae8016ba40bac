"""The prepare stage, which writes the vocabulary, the token shards and the manifest."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import polars
import xxhash

from data_pipeline.blocks import DecidedBlock, read_columns, reasons
from data_pipeline.data_config import DataConfig, PhaseConfig
from data_pipeline.stages import Machine, run_tasks
from nllb import __version__
from nllb.config.fingerprints import fingerprint
from nllb.errors import DataError
from nllb.io.manifest import (
    ONE_WAY,
    CorpusRecord,
    DataOrigin,
    Manifest,
    Phase,
    ShardGroup,
    Split,
    TrainingDirection,
    sampling_weights,
    write_manifest,
)
from nllb.io.progress import stage
from nllb.io.shards import FORMAT_VERSION, ShardFile, write_token_shard
from nllb.io.text import read_object, write_json

from .vocabulary import (
    Vocabulary,
    sample_by_hash,
    sample_quotas,
    train_vocabulary,
    write_pieces,
)

VERSION = 1
STAGE = "prepare"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenTask:
    """Write the token shards of one block.

    Attributes:
        ready: block to tokenize, with the decisions of earlier stages.
        vocabulary: SentencePiece model.
        vocabulary_size: number of tokens in the whole vocabulary, including language tokens and
            tags.
        held_out_fraction: fraction of the pairs that is held out as the `valid` split.
        directory: folder of the stage.
        key: hash of everything that the content depends on.
    """

    ready: DecidedBlock
    vocabulary: Path
    vocabulary_size: int
    held_out_fraction: float
    directory: Path
    key: str

    @property
    def output(self) -> Path:
        """The record of the shards, which is written last."""
        return self.directory / "tokens" / f"{self.ready.block.name}.{self.key}.json"


def prepare(
    config: DataConfig,
    bitext: Sequence[DecidedBlock],
    monolingual: Sequence[DecidedBlock],
    out: Path,
    machine: Machine,
) -> Path | None:
    """Train the vocabulary, write the shards and, once all of them exist, the manifest.

    Returns:
        The path of the manifest, or None while other shards of the stage are unfinished.
    """
    directory = out / STAGE
    ready = [*bitext, *monolingual]
    vocabulary = _vocabulary(config, ready, directory, machine)
    record = vocabulary.record(directory)
    tasks = [
        TokenTask(
            ready=item,
            vocabulary=vocabulary.path,
            vocabulary_size=record.size,
            held_out_fraction=config.prepare.held_out_fraction,
            directory=directory,
            key=fingerprint(VERSION, item.key, record.sha256, config.prepare.held_out_fraction),
        )
        for item in ready
    ]
    run_tasks("prepare tokens", tasks, write_tokens, machine)
    if not all(task.output.exists() for task in tasks):
        return None
    manifest = _manifest(config, tasks, vocabulary, directory)
    return write_manifest(manifest)


def _vocabulary(
    config: DataConfig, ready: Sequence[DecidedBlock], directory: Path, machine: Machine
) -> Vocabulary:
    section = config.prepare.vocabulary
    languages = [language.code for language in section.languages]
    with_text = sorted({code for item in ready for code in _languages(item)})
    missing = set(with_text) - set(languages)
    if languages and missing:
        raise DataError(
            f"prepare.vocabulary.languages lacks {', '.join(sorted(missing))}, but there is text "
            "in these languages; add them, or leave the list empty"
        )
    key = fingerprint(VERSION, section, [item.key for item in ready])
    path = directory / f"vocabulary.{key}" / "sentencepiece.bpe.model"
    if not path.exists():
        if section.model is not None:
            if not section.model.is_file():
                raise DataError(
                    f"prepare.vocabulary.model: the file {section.model} does not exist"
                )
            write_pieces(path, section.model.read_bytes())
        else:
            with stage("prepare vocabulary", quiet=machine.quiet):
                counts = _line_counts(ready)
                if not counts:
                    raise DataError(
                        "no lines are left to train a vocabulary; run `nllb data stats` to see "
                        "which stage rejected them"
                    )
                quotas = sample_quotas(counts, section.sample_lines, section.temperature)
                train_vocabulary(sample_by_hash(_texts(ready), counts, quotas), path, section)
                write_json(path.parent / "sample.json", {"lines": counts, "drawn": quotas})
    return Vocabulary(path, name=section.name, languages=languages or with_text)


def _languages(item: DecidedBlock) -> tuple[str, ...]:
    return (item.block.source, item.block.target) if item.block.target else (item.block.source,)


def _read(item: DecidedBlock) -> polars.DataFrame:
    """Return the rows that were kept, with the columns source and target (or text)."""
    rows = read_columns(item.block.path, ["source", "target"] if item.block.target else ["text"])
    return rows.filter(reasons(item.decisions).is_null()) if item.decisions else rows


def _line_counts(ready: Sequence[DecidedBlock]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for item in ready:
        rows = len(_read(item))
        for language in _languages(item):
            counts[language] += rows
    return {language: count for language, count in counts.items() if count}


def _texts(ready: Sequence[DecidedBlock]) -> Iterator[tuple[str, str]]:
    for item in ready:
        rows = _read(item)
        for language, column in zip(_languages(item), rows.columns, strict=True):
            for text in rows[column]:
                yield language, text


def write_tokens(task: TokenTask) -> None:
    """Tokenize one block and write its training and held-out shards."""
    vocabulary = _open_vocabulary(task.vocabulary)
    rows = _read(task.ready)
    held_out = polars.Series(
        [is_held_out(texts, task.held_out_fraction) for texts in rows.iter_rows()],
        dtype=polars.Boolean,
    )
    files: dict[str, dict[str, Any]] = {}
    for split, chosen in (("train", rows.filter(~held_out)), ("valid", rows.filter(held_out))):
        if len(chosen):
            path = task.output.with_name(task.output.name.removesuffix("json") + f"{split}.tokens")
            sides = [vocabulary.encode(chosen[column].to_list()) for column in chosen.columns]
            record = write_token_shard(path, sides, vocabulary_size=task.vocabulary_size)
            relative = path.relative_to(task.directory).as_posix()
            files[split] = dataclasses.asdict(dataclasses.replace(record, path=relative))
    write_json(task.output, {"files": files})


@lru_cache(maxsize=1)
def _open_vocabulary(path: Path) -> Vocabulary:
    return Vocabulary(path, name="", languages=())


def is_held_out(texts: Sequence[str], fraction: float) -> bool:
    """Return whether a pair belongs to the held-out split.

    A pair is held out if the hash of either text falls into the held-out share, so that a sentence
    is held out in every corpus and language pair in which it occurs.
    """
    limit = int(fraction / len(texts) * (1 << 64))
    return any(xxhash.xxh3_64_intdigest(text.encode("utf-8"), seed=1) < limit for text in texts)


def _manifest(
    config: DataConfig, tasks: Sequence[TokenTask], vocabulary: Vocabulary, directory: Path
) -> Manifest:
    files: dict[tuple[str, str, str, str], list[ShardFile]] = {}
    by_corpus: Counter[str] = Counter()
    copies = {corpus.name: corpus.copies for corpus in config.corpora}
    for task in tasks:
        block = task.ready.block
        for split, record in read_object(task.output, "files")["files"].items():
            place = (block.source, block.target or block.source, block.origin, split)
            file = ShardFile(**record)
            times = copies.get(block.corpus, 1) if split == "train" else 1
            files.setdefault(place, []).extend([file] * times)
            by_corpus[block.corpus] += file.num_pairs
    sizes = _direction_sizes(files)
    kept = {pair for pair, size in sizes.items() if size >= config.prepare.min_pairs}
    parts = tuple(
        ShardGroup(
            source=source,
            target=target,
            origin=cast(DataOrigin, origin),
            split=cast(Split, split),
            files=tuple(found),
        )
        for (source, target, origin, split), found in sorted(files.items())
        if (source, target) in kept
    )
    if not kept:
        raise DataError(
            f"no language pair has the {config.prepare.min_pairs:,} pairs that prepare.min_pairs "
            "requires"
        )
    ordered = sorted(kept, key=lambda pair: (-sizes[pair], pair))
    weights = sampling_weights([sizes[pair] for pair in ordered], config.prepare.temperature)
    directions = tuple(
        TrainingDirection(
            source=source, target=target, num_pairs=sizes[source, target], weight=weight
        )
        for (source, target), weight in zip(ordered, weights, strict=True)
    )
    return Manifest(
        format_version=FORMAT_VERSION,
        vocabulary=vocabulary.record(directory),
        temperature=config.prepare.temperature,
        parts=parts,
        directions=directions,
        phases=tuple(_phase(phase, directions) for phase in config.prepare.phases),
        corpora=_corpora(config, by_corpus),
        made_by={
            "version": __version__,
            "configuration": fingerprint(config),
            "excluded_directions": ", ".join(
                f"{source}-{target} ({size})"
                for (source, target), size in sorted(sizes.items())
                if (source, target) not in kept
            ),
        },
        directory=directory,
    )


def _direction_sizes(
    files: dict[tuple[str, str, str, str], list[ShardFile]],
) -> dict[tuple[str, str], int]:
    """Count the training pairs of every direction; two-way origins count in both directions."""
    sizes: Counter[tuple[str, str]] = Counter()
    for (source, target, origin, split), found in files.items():
        if split == "train":
            count = sum(file.num_pairs for file in found)
            sizes[source, target] += count
            if origin not in ONE_WAY:
                sizes[target, source] += count
    return dict(sizes)


def _phase(config: PhaseConfig, directions: Sequence[TrainingDirection]) -> Phase:
    names = tuple(
        direction.name for direction in directions if direction.num_pairs >= config.min_pairs
    )
    if not names:
        raise DataError(
            f"prepare.phases: no direction has the {config.min_pairs:,} pairs that min_pairs "
            "requires"
        )
    return Phase(until_step=config.until_step, directions=names)


def _corpora(config: DataConfig, by_corpus: Counter[str]) -> tuple[CorpusRecord, ...]:
    records = [
        CorpusRecord(
            name=corpus.name,
            origin=corpus.origin,
            licence=corpus.licence,
            num_pairs=by_corpus[corpus.name],
        )
        for corpus in config.corpora
    ]
    if config.monolingual is not None and config.monolingual.denoising:
        records += [
            CorpusRecord(
                name=corpus.name,
                origin="denoising",
                licence=corpus.licence,
                num_pairs=by_corpus[corpus.name],
            )
            for corpus in config.monolingual.corpora
        ]
    return tuple(records)
