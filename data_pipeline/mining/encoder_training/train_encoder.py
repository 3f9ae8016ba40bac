"""Train a sentence encoder, from random values or from a teacher, and calibrate its thresholds."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy
from numpy.typing import NDArray

from data_pipeline.decontamination.evaluation_sets import evaluation_sentences
from nllb.errors import DataError
from nllb.io.benchmarks import sentence_hash

from ..calibration import (
    MIN_PAIRS,
    POOL_SIZES,
    Calibration,
    calibrate,
    calibration_path,
    save_calibration,
)
from ..encoders.combined_encoder import is_combination, read_combination
from ..encoders.encoder import Encoder
from ..encoders.load_encoder import encoder_path, load_encoder
from ..mining_config import EncoderTrainingConfig
from .contrastive import train_contrastive
from .distill import distil
from .trained_encoder import TrainedEncoder
from .training_hashes import HASHES, overlap, read_hashes
from .training_text import TrainingText, collect

_LOG: Final = logging.getLogger("nllb.mining")


def train_encoder(
    config: EncoderTrainingConfig, out: Path, *, quiet: bool = False
) -> TrainedEncoder:
    """Train an encoder and write it to `out`; a second call resumes.

    Raises:
        DataError: if the sources have no pairs that may be used for training.
    """
    text = read_training_text(config, quiet=quiet)
    train = train_contrastive if config.distillation is None else distil
    result = train(config, text, out, quiet=quiet)
    checkpoint = out / f"{config.name}.pt"
    name = checkpoint if checkpoint.is_file() else out
    calibrate_on_held_out(load_encoder(name), name, text, config.pivot.code, quiet=quiet)
    return result


def calibrate_encoder(
    config: EncoderTrainingConfig, name: str, *, quiet: bool = False
) -> Calibration:
    """Calibrate an existing encoder on the held-out pairs of a configuration.

    Only the corpora that hold out pairs are read.

    Raises:
        DataError: if there are too few held-out pairs, or the encoder has no file.
    """
    if calibration_path(name) is None:
        raise DataError(f"the calibration of {name} cannot be stored: it is not a file or folder")
    sources = tuple(source for source in config.sources if source.held_out_fraction)
    text = read_training_text(config.replace(sources=sources), quiet=quiet)
    encoder = load_encoder(name)
    found = calibrate_on_held_out(encoder, name, text, config.pivot.code, quiet=quiet)
    if found is None:
        counts = {code: len(pairs) for code, pairs in text.held_out.items()}
        raise DataError(
            f"calibration requires {MIN_PAIRS} held-out pairs of a language, got {counts}; set "
            "`held_out_fraction` of a corpus"
        )
    return found


def calibrate_on_held_out(
    encoder: Encoder, name: Path | str, text: TrainingText, pivot: str, *, quiet: bool = False
) -> Calibration | None:
    """Calibrate an encoder on the held-out pairs of a text, and store the result with the encoder.

    Returns:
        The calibration, or None if the text has too few held-out pairs.
    """
    path = calibration_path(name)
    if path is None or max(map(len, text.held_out.values()), default=0) < MIN_PAIRS:
        _LOG.warning(
            "the encoder %r is not calibrated: no language has %d held-out pairs",
            encoder.name,
            MIN_PAIRS,
        )
        return None
    seen = _training_hashes(encoder_path(name))
    held_out = {code: _unseen(pairs, seen) for code, pairs in text.held_out.items()}
    calibration = calibrate(
        encoder,
        held_out,
        _distractors(text, pivot),
        pivot=pivot,
        text=f"held-out pairs of {', '.join(sorted(text.facts))}",
        quiet=quiet,
    )
    save_calibration(calibration, path)
    return calibration


def _training_hashes(path: Path) -> NDArray[numpy.uint64]:
    """Return the hashes of the training text of the encoder at a path, or of all of its parts."""
    directory = path if path.is_dir() else path.parent
    if is_combination(directory):
        parts = read_combination(directory).parts
        hashes = [_training_hashes(encoder_path(part.encoder)) for part in parts]
        return numpy.unique(numpy.concatenate(hashes))
    known = directory / HASHES
    return read_hashes(known) if known.is_file() else numpy.zeros(0, numpy.uint64)


def _unseen(pairs: Sequence[tuple[str, str]], seen: NDArray[numpy.uint64]) -> list[tuple[str, str]]:
    """Return the pairs that the encoder was not trained on."""
    known = {place for side in (0, 1) for place in overlap(seen, [pair[side] for pair in pairs])}
    return [pair for place, pair in enumerate(pairs) if place not in known]


def _distractors(text: TrainingText, pivot: str) -> dict[str, list[str]]:
    """Return a fixed sample of the sentences of each language, without translations of each other.

    A random half of the sentences of the pivot is used; of the other languages, only sentences
    without a translation in that half are used.
    """
    generator = numpy.random.default_rng(0)
    is_pivot = text.language == (
        text.languages.index(pivot) if pivot in text.languages else len(text.languages)
    )
    chosen = is_pivot & (generator.random(len(text.sentences)) < 0.5)
    translated = numpy.zeros(len(text.sentences), numpy.bool_)
    for side in (0, 1):
        translated[text.pairs[chosen[text.pairs[:, 1 - side]], side]] = True
    usable = chosen | (~is_pivot & ~translated)
    found = {}
    for number, code in enumerate(text.languages):
        places = generator.permutation(numpy.flatnonzero(usable & (text.language == number)))
        found[code] = [text.sentences[place] for place in places[: max(POOL_SIZES)].tolist()]
    return found


def read_training_text(config: EncoderTrainingConfig, *, quiet: bool = False) -> TrainingText:
    """Collect the training pairs without sentences of the evaluation sets."""
    excluded = frozenset(
        sentence_hash(sentence)
        for sentence, _ in evaluation_sentences(config.decontamination, config.data_dir)
        if sentence.strip()
    )
    text = collect(config, excluded, quiet=quiet)
    if not len(text.pairs):
        raise DataError(
            f"there are no pairs to train on under {config.data_dir}: "
            f"{', '.join(f'{name} {counts}' for name, counts in text.facts.items())}; check "
            "`sources`, `languages` and the evaluation sets"
        )
    return text
