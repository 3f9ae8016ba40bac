"""Distillation as for LASER3: a student learns to reproduce the teacher's vectors.

The frozen teacher encodes the pivot side of each pair once. `students` describes the losses.
Languages are sampled by temperature, so that small languages are seen often enough.

A static student is written in the format of `static_encoder`, a pretrained one as an encoder
directory. A transformer student is written in
LASER3's layout, so any program that reads LASER3 can read it.

Source: Heffernan et al. 2022, section 3.
"""

import copy
from argparse import Namespace
from pathlib import Path
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray

from data_pipeline.preparation.vocabulary import write_pieces
from nllb.config.fingerprints import fingerprint
from nllb.errors import ConfigError, DataError
from nllb.io.atomic import atomic_path
from nllb.io.progress import Progress
from nllb.io.text import write_json, write_lines
from nllb.model.formats.encoder_directory import WEIGHTS_FILE, EncoderDirectory
from nllb.model.formats.write_errors import library_write_errors

from ..encoders.encoder import Encoder
from ..encoders.laser import SPECIALS
from ..encoders.load_encoder import encoder_path, load_encoder
from ..encoders.pretrained import PretrainedSentences
from ..encoders.static_encoder import StaticEncoder
from ..mining_config import DistillationConfig, EncoderTrainingConfig
from ..xsim import error_rates
from .pretrained_student import PretrainedStudent
from .students import StaticStudent, Student, TransformerStudent
from .trained_encoder import (
    MAX_HELD_OUT_PAIRS,
    MIN_HELD_OUT_PAIRS,
    TrainedEncoder,
    read_state,
    write_encoder,
)
from .training_hashes import HASHES, write_hashes
from .training_text import TrainingText

_STATIC_BATCH: Final = 256


def distil(
    config: EncoderTrainingConfig, text: TrainingText, out: Path, *, quiet: bool = False
) -> TrainedEncoder:
    """Train a student and write it; a second call resumes after the last complete epoch.

    The error of an epoch is the mean xsim error between the student's vectors and the teacher's
    vectors of the pivot, on held-out pairs. The best epoch is kept; the untrained student counts
    as epoch 0.
    """
    settings = config.distillation
    assert settings is not None
    teacher = load_encoder(settings.teacher)
    pairs, own, held_out = _choose(config, settings, text)
    student = _make_student(config, settings, teacher, text, pairs)
    path = out / "work" / "state.pt"
    key = fingerprint(config, text.facts, len(pairs), teacher.key)
    epoch = step = 0
    errors = [_held_out_error(student, teacher, held_out)]
    best = _copy(student.state())
    if path.is_file():
        saved = read_state(path, key, "student", "epoch", "step", "errors", "best")
        student.load(saved["student"])
        epoch, step, errors, best = saved["epoch"], saved["step"], saved["errors"], saved["best"]
    english, place = numpy.unique(pairs[:, 1], return_inverse=True)
    targets = torch.from_numpy(
        teacher.encode([text.sentences[number] for number in english.tolist()], config.pivot.code)
    )
    with Progress("distillation", total=settings.epochs, unit="epochs", quiet=quiet) as progress:
        progress.resume(epoch)
        while epoch < settings.epochs:
            torch.manual_seed(config.seed + epoch)
            batches = _batches(text, pairs, own, settings, config.seed + epoch)
            steps = step + (settings.epochs - epoch) * len(batches)
            for batch in batches:
                step += 1
                student.learn(pairs[batch], targets[torch.from_numpy(place[batch])], step, steps)
            epoch += 1
            errors.append(_held_out_error(student, teacher, held_out))
            if errors[-1] <= min(errors):
                best = _copy(student.state())
            with atomic_path(path) as beside, library_write_errors():
                torch.save(
                    {
                        "key": key,
                        "student": student.state(),
                        "epoch": epoch,
                        "step": step,
                        "errors": errors,
                        "best": best,
                    },
                    beside,
                )
            progress.advance(1, f"held-out error {errors[-1]:.2f} %, before {errors[0]:.2f} %")
    student.load(best)
    write_json(out / "epochs.json", {"held_out_error": errors, "teacher": teacher.name})
    trained_on = sorted(set(pairs.reshape(-1).tolist()))
    seen = [text.sentences[number] for number in trained_on]
    if isinstance(student, StaticStudent):
        result = write_encoder(
            config,
            text,
            out,
            table=student.table.values,
            owners=student.features.owners,
            error=min(errors),
            step=step,
            bits=settings.bits,
            teacher=_card(teacher),
        )
        # The student starts from the teacher's rows, so it has also seen the teacher's text.
        known = encoder_path(settings.teacher) / HASHES
        write_hashes(out / HASHES, seen, known if known.is_file() else None)
        return result
    if isinstance(student, PretrainedStudent):
        return _write_pretrained(config, student, out, seen=seen, error=min(errors), step=step)
    assert isinstance(student, TransformerStudent)
    return _write_transformer(config, student, out, seen=seen, error=min(errors), step=step)


def _choose(
    config: EncoderTrainingConfig, settings: DistillationConfig, text: TrainingText
) -> tuple[NDArray[Any], NDArray[Any], dict[str, list[tuple[str, str]]]]:
    """Return the pairs as (other language, pivot), the language of each, and the held-out pairs."""
    codes = [language.code for language in settings.languages] or list(text.languages)
    wanted = numpy.array([code in codes and code != config.pivot.code for code in text.languages])
    pivot = numpy.array([code == config.pivot.code for code in text.languages])
    language = text.language[text.pairs]
    chosen = [
        text.pairs[wanted[language[:, a]] & pivot[language[:, b]]][:, [a, b]]
        for a, b in ((0, 1), (1, 0))
    ]
    pairs = numpy.concatenate(chosen)
    if not len(pairs):
        raise DataError(
            f"there are no pairs of {', '.join(codes)} with {config.pivot.code} to distil from; "
            "check `sources` and `distillation.languages`"
        )
    held_out = {code: text.held_out[code] for code in codes if code in text.held_out}
    return pairs, text.language[pairs[:, 0]], held_out


def _make_student(
    config: EncoderTrainingConfig,
    settings: DistillationConfig,
    teacher: Encoder,
    text: TrainingText,
    pairs: NDArray[Any],
) -> Student:
    if settings.student == "transformer":
        return TransformerStudent(settings, teacher.dimension, text.sentences, pairs, config.seed)
    if settings.student == "pretrained" and isinstance(teacher, PretrainedSentences):
        directory = EncoderDirectory.open(encoder_path(settings.teacher))
        return PretrainedStudent(directory, settings, text.sentences)
    if settings.student == "static" and isinstance(teacher, StaticEncoder):
        return StaticStudent(teacher, settings, text.sentences, config.seed)
    raise ConfigError(
        f"distillation.student: a {settings.student} student requires a {settings.student} "
        f"teacher, but {teacher.name!r} is another kind of encoder; use transformer"
    )


def _batches(
    text: TrainingText,
    pairs: NDArray[Any],
    own: NDArray[Any],
    settings: DistillationConfig,
    seed: int,
) -> list[NDArray[numpy.int64]]:
    """Sample the pairs of an epoch by temperature, and batch them by length."""
    generator = numpy.random.default_rng(seed)
    counts = numpy.bincount(own, minlength=len(text.languages)).astype(numpy.float64)
    shares = counts ** (1 / settings.temperature) * (counts > 0)
    weights = (shares / shares.sum() / numpy.maximum(counts, 1))[own]
    size = min(settings.epoch_pairs or len(pairs), len(pairs))
    drawn = generator.choice(len(pairs), size=size, p=weights / weights.sum())
    if settings.student == "static":
        return numpy.array_split(drawn, max(1, len(drawn) // _STATIC_BATCH))
    lengths = numpy.array(
        [max(map(len, map(text.sentences.__getitem__, pair))) for pair in pairs[drawn].tolist()]
    )
    # A piece has about four characters; the longest sentence decides the size of a batch.
    ordered = drawn[numpy.argsort(lengths + generator.random(len(drawn)))]
    sizes = numpy.sort(lengths) // 4 + 2
    starts, start = [], 0
    while start < len(ordered):
        end = start + 1
        while end < len(ordered) and (end + 1 - start) * sizes[end] <= settings.batch_tokens:
            end += 1
        starts.append((start, end))
        start = end
    order = generator.permutation(len(starts)).tolist()
    return [ordered[slice(*starts[place])] for place in order]


@torch.no_grad()
def _held_out_error(
    student: Student, teacher: Encoder, held_out: dict[str, list[tuple[str, str]]]
) -> float:
    """Return the mean xsim error of the student's vectors against the teacher's, in per cent."""
    errors = []
    for pairs in held_out.values():
        chosen = pairs[:MAX_HELD_OUT_PAIRS]
        if len(chosen) < min(MIN_HELD_OUT_PAIRS, 20):
            continue
        texts = [pair[0] for pair in chosen]
        vectors = torch.cat(
            [student.encode(texts[at : at + 32]) for at in range(0, len(texts), 32)]
        )
        targets = teacher.encode([pair[1] for pair in chosen], "")
        errors.append(error_rates(vectors.numpy(), targets)[0])
    return 100 * sum(errors) / len(errors) if errors else 100.0


def _card(teacher: Encoder) -> dict[str, Any] | None:
    """Return the teacher's entry in the card of a student that starts from its rows."""
    if not isinstance(teacher, StaticEncoder):
        return None
    facts = ("name", "licence", "sources", "pairs", "held_out_error", "step")
    return {name: teacher.card[name] for name in facts if name in teacher.card}


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """Return a deep copy of a state."""
    with torch.no_grad():
        return copy.deepcopy(state)


def _write_pretrained(
    config: EncoderTrainingConfig,
    student: PretrainedStudent,
    out: Path,
    *,
    seen: list[str],
    error: float,
    step: int,
) -> TrainedEncoder:
    student.write(out)
    write_hashes(out / HASHES, seen)
    _write_facts(config, out, error=error, step=step)
    return TrainedEncoder(
        directory=out,
        size_bytes=(out / WEIGHTS_FILE).stat().st_size,
        held_out_error=error,
        step=step,
    )


def _write_facts(config: EncoderTrainingConfig, out: Path, *, error: float, step: int) -> None:
    write_json(
        out / "encoder.json",
        {"name": config.name, "licence": config.licence, "held_out_error": error, "step": step},
    )


def _write_transformer(
    config: EncoderTrainingConfig,
    student: TransformerStudent,
    out: Path,
    *,
    seen: list[str],
    error: float,
    step: int,
) -> TrainedEncoder:
    """Write checkpoint, pieces and dictionary in LASER3's layout."""
    path = out / f"{config.name}.pt"
    write_pieces(out / f"{config.name}.spm", student.pieces)
    pieces = list(student.dictionary)[len(SPECIALS) :]
    write_lines(out / f"{config.name}.cvocab", (f"{piece} 1" for piece in pieces))
    settings = vars(Namespace(**student.settings))
    with atomic_path(path) as beside, library_write_errors():
        torch.save({"cfg": {"model": settings}, "model": student.model.state_dict()}, beside)
    write_hashes(out / HASHES, seen)
    _write_facts(config, out, error=error, step=step)
    return TrainedEncoder(
        directory=out, size_bytes=path.stat().st_size, held_out_error=error, step=step
    )
