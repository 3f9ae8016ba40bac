"""Alignment of the sentences of two documents that are translations of each other.

Dynamic programming finds a monotone path through both documents: 1-1, 1-2 and 2-1 pairs, and
sentences without a partner. The score of a pair is the difference between its cosine and the mean
cosines of its sides to the other document, per covered sentence. Sentences that are close to
everything therefore attract nothing. Sentences without a partner score 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy
import polars
import xxhash
from numpy.typing import NDArray

from nllb.config.fingerprints import fingerprint
from nllb.errors import DataError
from nllb.io.text import read_lines

from .encoders.encoder import Encoder, Vectors, normalized
from .encoders.load_encoder import load_encoder
from .mined import write_mined
from .mining_config import MineConfig, MinedPairConfig, MonolingualTextConfig

STEPS: Final = ((1, 1), (1, 2), (2, 1), (1, 0), (0, 1))
"""Number of sentences of both documents that a step covers; ties go to the first entry."""
_VERSION: Final = 1
_MERGED_COST: Final = 0.02
_Scores = NDArray[numpy.float64]


class AlignedPair(NamedTuple):
    """Sentences of two documents that are translations of each other."""

    source: tuple[int, ...]
    """Indices of one or two sentences."""
    target: tuple[int, ...]
    """Indices of one or two sentences."""
    score: float
    """Cosine minus the mean cosine of both sides to the other document."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentsTask:
    """Align the documents that two languages share."""

    pair: MinedPairConfig
    """The languages."""
    documents: tuple[tuple[Path, Path], ...]
    """Files of both languages."""
    config: MineConfig
    """The configuration of the run."""
    key: str
    """Hash of everything that the output depends on."""
    output: Path
    """File of the bitext."""


def document_tasks(config: MineConfig, out: Path) -> list[DocumentsTask]:
    """Return one task per language pair, with the documents that both languages share.

    Raises:
        DataError: if a language pair does not share any document.
    """
    texts = {section.language.code: _documents(config, section) for section in config.text}
    encoder, tasks = load_encoder(config.encoder, config.dtype), []
    for pair in config.pairs:
        sources, targets = texts[pair.source.code], texts[pair.target.code]
        shared = tuple((sources[name], targets[name]) for name in sources if name in targets)
        if not shared:
            raise DataError(
                f"{pair.source.code} and {pair.target.code} do not share any document: they have "
                f"{len(sources):,} and {len(targets):,} files, such as "
                f"{next(iter(sources), '-')!r} and {next(iter(targets), '-')!r}. The paths of a "
                "shared document may differ only in the language codes"
            )
        hashes = [[file_hash(path) for path in files] for files in shared]
        key = fingerprint(_VERSION, encoder.key, hashes, pair.threshold, config.name)
        output = out / "mined" / f"{pair.source.code}-{pair.target.code}.{key}.parquet"
        tasks.append(
            DocumentsTask(pair=pair, documents=shared, config=config, key=key, output=output)
        )
    return tasks


def align_task(task: DocumentsTask) -> None:
    """Write the aligned sentences of two languages, document by document."""
    config, pair = task.config, task.pair
    encoder = load_encoder(config.encoder, config.dtype)
    rows: list[tuple[_Row, _Row]] = []
    margin: list[float] = []
    sentences = numpy.zeros(2, numpy.int64)
    for files in task.documents:
        documents = [_read(path) for path in files]
        sentences += [len(document) for document in documents]
        texts = [[row.text for row in document] for document in documents]
        for found in align(texts[0], texts[1], encoder, pair.source.code, pair.target.code):
            if pair.threshold is None or found.score >= pair.threshold:
                rows.append((_join(documents[0], found.source), _join(documents[1], found.target)))
                margin.append(found.score)
    columns = {"text": polars.String, "file": polars.String, "line": polars.Int64}
    sides = [polars.DataFrame([row[n] for row in rows], columns, orient="row") for n in (0, 1)]
    write_mined(
        task.output,
        config,
        pair,
        key=task.key,
        sides=(sides[0], sides[1]),
        margin=margin,
        facts={
            "documents": len(task.documents),
            "sentences": sentences.tolist(),
            "threshold": pair.threshold,
            "encoder": encoder.name,
        },
    )


class _Row(NamedTuple):
    text: str
    file: str
    line: int


def _read(path: Path) -> list[_Row]:
    lines = ((number, line.strip()) for number, line in enumerate(read_lines(path), 1))
    return [_Row(line, path.name, number) for number, line in lines if line]


def _join(document: list[_Row], places: tuple[int, ...]) -> _Row:
    text = " ".join(document[place].text for place in places)
    return document[places[0]]._replace(text=text)


@cache
def file_hash(path: Path) -> str:
    """Return a hash of a file's content."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _documents(config: MineConfig, section: MonolingualTextConfig) -> dict[str, Path]:
    """Return the files of a language by their path without the language code."""
    code = section.language.code
    paths = sorted(config.data_dir.glob(section.path))
    return {str(path.relative_to(config.data_dir)).replace(code, ""): path for path in paths}


def align(
    sources: Sequence[str],
    targets: Sequence[str],
    encoder: Encoder,
    source_language: str,
    target_language: str,
) -> list[AlignedPair]:
    """Align two documents and return the pairs in order.

    Time and memory grow with the product of the documents' lengths.
    """
    first = _with_merged(sources, encoder, source_language)
    second = _with_merged(targets, encoder, target_language)
    return align_vectors(first, second)


def align_vectors(
    sources: tuple[Vectors, Vectors], targets: tuple[Vectors, Vectors]
) -> list[AlignedPair]:
    """Align two documents, given their vectors.

    Args:
        sources: unit vectors of the sentences, and of each sentence joined with the next.
        targets: the same for the other document.
    """
    heights, widths = len(sources[0]), len(targets[0])
    values = {
        (1, 1): _margins(sources[0], targets[0]),
        (1, 2): 1.5 * _margins(sources[0], targets[1]) - _MERGED_COST,
        (2, 1): 1.5 * _margins(sources[1], targets[0]) - _MERGED_COST,
    }
    best = numpy.full((heights + 1, widths + 1), -numpy.inf)
    best[0, 0] = 0
    taken = numpy.full(best.shape, -1, numpy.int8)
    # Anti-diagonal order: a cell depends only on cells of earlier anti-diagonals.
    for total in range(1, heights + widths + 1):
        rows = numpy.arange(max(0, total - widths), min(heights, total) + 1)
        columns = total - rows
        for number, (down, right) in enumerate(STEPS):
            inside = (rows >= down) & (columns >= right)
            ends = rows[inside], columns[inside]
            starts = ends[0] - down, ends[1] - right
            value = best[starts] + (values[down, right][starts] if down and right else 0.0)
            better = value > best[ends]
            best[ends] = numpy.where(better, value, best[ends])
            taken[ends] = numpy.where(better, number, taken[ends])
    found = []
    i, j = heights, widths
    while i or j:
        down, right = STEPS[taken[i, j]]
        i, j = i - down, j - right
        if down and right:
            score = float(values[down, right][i, j])
            if down + right > 2:
                score = (score + _MERGED_COST) / 1.5
            found.append(AlignedPair((*range(i, i + down),), (*range(j, j + right),), score))
    return found[::-1]


def _with_merged(
    sentences: Sequence[str], encoder: Encoder, language: str
) -> tuple[Vectors, Vectors]:
    merged = [f"{first} {second}" for first, second in pairwise(sentences)]
    vectors = normalized(encoder.encode([*sentences, *merged], language))
    return vectors[: len(sentences)], vectors[len(sentences) :]


def _margins(sources: Vectors, targets: Vectors) -> _Scores:
    cosines: _Scores = (sources @ targets.T).astype(numpy.float64)
    if not cosines.size:
        return cosines
    means = cosines.mean(axis=1, keepdims=True), cosines.mean(axis=0, keepdims=True)
    margins: _Scores = cosines - (means[0] + means[1]) / 2
    return margins
