"""Converts an E5S1 file to an encoder directory with a trimmed vocabulary.

The layers keep their 4-bit blocks. The embedding of a small vocabulary keeps them as well; in that
of a large one, rarely used rows get fewer bits (`row_codes.py`), because additional pieces improve
vectors more than exact rows: text that is split into other pieces than in training gets a different
vector.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nllb.errors import CheckpointError
from nllb.io.corpora import Corpus
from nllb.io.progress import Progress, track
from nllb.model.encoder_normalization import CharacterMap
from nllb.model.encoder_tokenizer import SPECIAL_SCORE, EncoderTokenizer
from nllb.model.input_ranges import measure_input_ranges
from nllb.model.known_encoder import (
    DEFAULT_LINES,
    DEFAULT_PIECES,
    DEFAULT_TIERS,
    FILE,
    PACKAGE,
    REST_LEVELS,
    SHA256,
)
from nllb.model.pretrained_encoder import EncoderConfig, PretrainedEncoder, list_encoder_weights
from nllb.model.sentence_space import SentenceSpace

from .e5_file import E5File, open_e5_file, scored_pieces, with_pieces_only
from .encoder_card import CardFacts, encoder_card, mit_licence
from .encoder_directory import RANGE, file_sha256, write_encoder
from .four_bit import dequantize_blocks
from .row_codes import TIER, CodedTable, encode_rows, tensor_names
from .vocabulary_trimming import (
    PieceCounts,
    choose_pieces,
    count_pieces,
    measure_importance,
)
from .weights import SCALE

_MAX_SAMPLES: Final = 600
_PREFIX: Final = "query: "
_SPACE_LINES: Final = 5
"""Lines of a language in a corpus that the common directions of sentence vectors are fitted on."""
MIN_SPACE_SAMPLES: Final = 500
"""Principal components of fewer vectors would describe the sample, not the encoder."""
Tiers = Sequence[tuple[int, int]]
_EMBEDDING: Final = "embedding.weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConversion:
    """The result of a conversion.

    Attributes:
        output: the directory that was written.
        source_pieces: pieces of the source file.
        kept_pieces: pieces that were kept.
        languages: languages of the text.
        lines: lines of the text.
        skipped_rows: rows of the corpora that could not be read.
        unknown_before: share of the text's tokens that were <unk> with all pieces.
        num_bytes: size of the directory in bytes.
    """

    output: Path
    source_pieces: int
    kept_pieces: int
    languages: int
    lines: int
    skipped_rows: int
    unknown_before: float
    num_bytes: int


def convert_e5(
    source: Path,
    output: Path,
    corpora: Sequence[Corpus],
    *,
    num_pieces: int = DEFAULT_PIECES,
    max_lines: int = DEFAULT_LINES,
    tiers: Tiers = DEFAULT_TIERS,
    expected_sha256: str = SHA256,
    quiet: bool = False,
) -> EncoderConversion:
    """Write an encoder directory that keeps the pieces that text uses.

    Args:
        source: an E5S1 file.
        output: the directory to write, which must not exist or must be empty.
        corpora: the text.
        num_pieces: maximum number of pieces to keep.
        max_lines: maximum number of lines to read per language and corpus.
        tiers: numbers of levels of the most used embedding rows, and the number of rows of each
            tier. If no more rows are kept than the first tier has, they keep their 4-bit blocks.
        expected_sha256: required hash of the source.
        quiet: whether to hide progress.

    Raises:
        CheckpointError: the source is damaged or a different file, or the output is not empty.
        DataError: the text cannot be read, or uses more characters than there may be pieces.
    """
    if output.is_dir() and any(output.iterdir()):
        raise CheckpointError(f"{output} is not empty: remove it, or choose another directory")
    found = file_sha256(source)
    if found != expected_sha256:
        raise CheckpointError(
            f"{source} is not the expected file: its SHA-256 is {found}, not {expected_sha256}; "
            f"use {FILE} of {PACKAGE}, or --sha256 to accept another file"
        )
    file = open_e5_file(source)
    characters = CharacterMap(file.replacements)
    pieces = scored_pieces(file)
    whole = with_pieces_only(file)
    skipped: list[Path] = []
    samples: list[str] = []
    with Progress("count pieces", unit="lines", quiet=quiet) as progress:
        texts = _texts(corpora, max_lines, skipped, samples, progress)
        counts = count_pieces(EncoderTokenizer.build(pieces, characters, whole), texts)
    always = [number for number, (_, score) in enumerate(pieces) if score == SPECIAL_SCORE]
    importance = measure_importance(counts, file.scores)
    kept = choose_pieces(file.pieces, counts.characters, importance, always, limit=num_pieces)
    config = _trimmed_config(file.config, kept)
    kept_pieces = [pieces[number] for number in kept]
    tensors = _trimmed_tensors(file, kept, importance, tiers)
    tokenizer = EncoderTokenizer.build(kept_pieces, characters, config)
    encoder = _module(config, tensors)
    ranges = measure_input_ranges(encoder, _sequences(tokenizer, counts))
    tensors |= {name + RANGE: value for name, value in ranges.items()}
    space = _measure_space(encoder, tokenizer, samples, quiet=quiet)
    facts = CardFacts(
        file=source.name,
        sha256=found,
        source_pieces=len(pieces),
        kept_pieces=len(kept),
        characters=sum(len(piece) == 1 for piece, _ in kept_pieces),
        corpora=tuple(corpus.name for corpus in corpora),
        languages=len(counts.lines),
        lines=sum(counts.lines.values()),
        tiers=_tier_sizes(tensors),
        space_samples=len(samples) if space is not None else 0,
    )
    write_encoder(
        output,
        config,
        tensors,
        kept_pieces,
        characters,
        space=space,
        settings=facts.settings(),
    )
    (output / "README.md").write_text(encoder_card(facts), encoding="utf-8")
    (output / "LICENSE").write_text(mit_licence(), encoding="utf-8")
    return EncoderConversion(
        output=output,
        source_pieces=len(pieces),
        kept_pieces=len(kept),
        languages=facts.languages,
        lines=facts.lines,
        skipped_rows=len(skipped),
        unknown_before=_unknown_share(counts, whole.unk_id),
        num_bytes=sum(path.stat().st_size for path in output.iterdir()),
    )


def _texts(
    corpora: Iterable[Corpus],
    max_lines: int,
    skipped: list[Path],
    samples: list[str],
    progress: Progress,
) -> Iterator[tuple[str, str]]:
    """Yield languages and lines; the first lines of a language in each corpus become samples."""

    def skip(path: Path, line: int, fault: str, row: str) -> None:
        skipped.append(path)

    for corpus in corpora:
        lines: Counter[str] = Counter()
        for text in corpus.texts(refuse=skip):
            if lines[text.language] < max_lines:
                if lines[text.language] < _SPACE_LINES:
                    samples.append(text.text)
                lines[text.language] += 1
                progress.advance(1)
                yield text.language, text.text


def _trimmed_config(config: EncoderConfig, kept: list[int]) -> EncoderConfig:
    place = {number: new for new, number in enumerate(kept)}
    special = {
        name: place[getattr(config, name)] for name in ("bos_id", "pad_id", "eos_id", "unk_id")
    }
    return replace(config, vocabulary_size=len(kept), **special)


def _trimmed_tensors(
    file: E5File, kept: list[int], importance: NDArray[np.float64], tiers: Tiers
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for weight in list_encoder_weights(file.config):
        if not weight.is_matrix:
            tensors[weight.name] = file.read_vector(weight.name)
            continue
        halves, scale = file.read_blocks(weight.name)
        if weight.name == _EMBEDDING:
            halves, scale = halves[kept], scale[kept]
            if len(kept) > tiers[0][1]:
                levels = _levels(importance[kept], tiers)
                tensors |= encode_rows(weight.name, dequantize_blocks(halves, scale), levels)
                continue
        tensors[weight.name], tensors[weight.name + SCALE] = halves, scale
    return tensors


def _levels(importance: NDArray[np.float64], tiers: Tiers) -> Tensor:
    """Return the number of levels of each row; the most used rows have the most levels."""
    found = torch.full((len(importance),), REST_LEVELS, dtype=torch.uint8)
    ranked = np.argsort(-importance, kind="stable")
    first = 0
    for levels, count in tiers:
        found[torch.from_numpy(ranked[first : first + count])] = levels
        first += count
    return found


def _tier_sizes(tensors: dict[str, Tensor]) -> tuple[tuple[int, int], ...]:
    """Return the levels of the embedding's tiers and their numbers of rows, most used first."""
    if not tensor_names(_EMBEDDING, tensors):
        return ()
    counts = torch.bincount(tensors[_EMBEDDING + TIER]).tolist()
    return tuple((levels, rows) for levels, rows in reversed([*enumerate(counts)]) if rows)


def _module(config: EncoderConfig, tensors: dict[str, Tensor]) -> PretrainedEncoder:
    with torch.device("meta"):
        encoder = PretrainedEncoder(config)
    coded = tensor_names(_EMBEDDING, tensors)
    if coded:
        table = CodedTable.read(_EMBEDDING, tensors.__getitem__)
        tensors = tensors | {_EMBEDDING: table.rows(torch.arange(config.vocabulary_size))}
    state = {
        name: dequantize_blocks(tensors[name], tensors[name + SCALE])
        if name + SCALE in tensors
        else tensors[name]
        for name in encoder.state_dict()
    }
    encoder.load_state_dict(state, assign=True)
    return encoder.eval()


def _sequences(tokenizer: EncoderTokenizer, counts: PieceCounts) -> Iterator[tuple[int, ...]]:
    """Yield sample sequences of all languages in turn, with and without the prefix."""
    samples = [text for texts in counts.samples.values() for text in texts]
    step = -(-len(samples) // _MAX_SAMPLES)
    for number, text in enumerate(samples[::step]):
        prefix = _PREFIX if number % 2 else ""
        yield from tokenizer.tokenize([text], prefix=prefix)[0].windows[:1]


def _measure_space(
    encoder: PretrainedEncoder, tokenizer: EncoderTokenizer, samples: Sequence[str], *, quiet: bool
) -> SentenceSpace | None:
    """Fit the common directions of sentence vectors; None if the text has too few lines."""
    if len(samples) < MIN_SPACE_SAMPLES:
        return None
    vectors = []
    with torch.inference_mode():
        for text in track(samples, "sentence space", total=len(samples), quiet=quiet):
            for window in tokenizer.tokenize([text], prefix=_PREFIX)[0].windows[:1]:
                state_D = encoder(torch.tensor([window]), layers=(-1,))[0, 0].mean(0)
                vectors.append(state_D / state_D.norm())
    return SentenceSpace.fit(torch.stack(vectors))


def _unknown_share(counts: PieceCounts, unk_id: int) -> float:
    tokens = sum(int(uses.sum()) for uses in counts.by_language.values())
    return sum(int(uses[unk_id]) for uses in counts.by_language.values()) / max(tokens, 1)
