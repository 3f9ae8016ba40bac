"""Distillation as for LASER3: a student learns to give the teacher's vectors.

The teacher is frozen and encodes the pivot's side of each pair, once. The student learns from
three losses: the cosine of its vector of the other language to the teacher's vector (distil), the
same for its own vector of the pivot's side (self), and for transformers the masked pieces.
Languages are drawn by temperature, so that small ones are seen.

A static student begins as a copy of a static teacher and is written as our own kind of encoder; a
transformer is written in LASER3's layout, so whatever reads LASER3 reads it.

Source: Heffernan et al. 2022, section 3.
"""

import io
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import numpy
import sentencepiece
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from data_pipeline.mining.config import DistillationConfig, EncoderTrainingConfig
from data_pipeline.mining.encoders import Encoder, load_encoder, normalized
from data_pipeline.mining.laser import SPECIALS, Laser3, prepare
from data_pipeline.mining.static_encoder import (
    FeatureTable,
    StaticEncoder,
    rounded,
    rows_of,
    sum_rows,
)
from data_pipeline.mining.training import FEWEST_HELD_OUT, MOST_HELD_OUT, TrainedEncoder, finish
from data_pipeline.mining.training_hashes import write_hashes
from data_pipeline.mining.training_text import TrainingText
from data_pipeline.mining.xsim import error_rates
from data_pipeline.stages import content_key
from nllb.errors import ConfigError, DataError
from nllb.progress import Progress
from nllb.textio import atomic_path, write_json, write_lines

_PAD, _END = 1, 2
_MASKED_PART: Final = 0.15
_STATIC_BATCH: Final = 256
_LONGEST: Final = 256


class _Student(Protocol):
    """What the loop needs of a student."""

    parameters: list[Tensor]

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]: ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: dict[str, Any]) -> None: ...


class _StaticStudent:
    """A table of features."""

    def __init__(self, teacher: StaticEncoder) -> None:
        self.features: FeatureTable = teacher.features
        self.bits = teacher.bits
        self.table = teacher.table.clone().requires_grad_()
        self.parameters = [self.table]
        self._rows = self.features.rows()

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Return the vectors, and no loss of masked pieces."""
        features, counts = rows_of(texts, self._rows)
        used, rows = numpy.unique(features, return_inverse=True)
        exact = self.table[torch.from_numpy(used)]
        # Summed as they will be written; the gradient passes as if nothing had been rounded.
        table = exact + (rounded(exact, self.bits) - exact).detach()
        return sum_rows(table, rows, counts), torch.zeros(())

    def state(self) -> dict[str, Any]:
        """Return what an interruption must not lose."""
        return {"table": self.table.detach()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        with torch.no_grad():
            self.table.copy_(state["table"])


class _TransformerStudent:
    """A small LASER3 with its own SentencePiece model."""

    def __init__(
        self, config: DistillationConfig, dimension: int, texts: list[str], seed: int
    ) -> None:
        if dimension % config.heads:
            raise ConfigError(
                f"distillation.heads: {config.heads} does not divide the teacher's {dimension}"
            )
        self.pieces = _train_pieces(texts, config.vocabulary)
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=self.pieces)
        # SentencePiece's own <unk>, <s> and </s> come first; fairseq's four specials replace them.
        own = [self.processor.id_to_piece(i) for i in range(3, self.processor.get_piece_size())]
        self.dictionary = {piece: i for i, piece in enumerate([*SPECIALS, *own])}
        self.mask = len(self.dictionary)
        torch.manual_seed(seed)
        self.settings = {
            "encoder_attention_heads": config.heads,
            "sentemb_criterion": "maxpool",
            "prepend_bos": False,
        }
        self.model = Laser3(
            vocabulary=self.mask + 1,
            dimension=dimension,
            feed_forward=config.feed_forward,
            layers=config.layers,
            heads=config.heads,
            pool_first=False,
            prepend_begin=False,
            last_norm=False,
            dropout=config.dropout,
        )
        torch.nn.init.normal_(self.model.embed_tokens.weight, std=dimension**-0.5)
        self.parameters: list[Tensor] = list(self.model.parameters())

    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Return the vectors, and in training the loss of masked pieces."""
        lists = [
            [
                self.dictionary.get(piece, 3)
                for piece in self.processor.encode(prepare(text), out_type=str)
            ]
            for text in texts
        ]
        lists = [[*pieces[: _LONGEST - 1], _END] for pieces in lists]
        tokens_BT = torch.full((len(lists), max(map(len, lists))), _PAD)
        for row, pieces in enumerate(lists):
            tokens_BT[row, : len(pieces)] = torch.tensor(pieces)
        states_BTD, allowed_BT = self.model.states(tokens_BT)
        vectors = self.model.pool(states_BTD, allowed_BT)
        if not self.model.training:
            return vectors, torch.zeros(())
        hidden_BT = (torch.rand(tokens_BT.shape) < _MASKED_PART) & (tokens_BT > _END)
        if not bool(hidden_BT.any()):
            return vectors, torch.zeros(())
        states_BTD, _ = self.model.states(tokens_BT.masked_fill(hidden_BT, self.mask))
        logits = states_BTD[hidden_BT] @ self.model.embed_tokens.weight.T
        return vectors, functional.cross_entropy(logits, tokens_BT[hidden_BT])

    def state(self) -> dict[str, Any]:
        """Return what an interruption must not lose."""
        return {"model": self.model.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.model.load_state_dict(state["model"])


def distil(
    config: EncoderTrainingConfig, text: TrainingText, out: Path, *, quiet: bool = False
) -> TrainedEncoder:
    """Train a student and write it; a second call goes on after the last whole epoch.

    The error of an epoch is the mean xsim error of the student against the teacher's vectors of the
    pivot, on held-out pairs; the best epoch is kept, the untrained student included.
    """
    settings = config.distillation
    assert settings is not None
    teacher = load_encoder(settings.teacher)
    pairs, own, held_out = _choose(config, settings, text)
    student = _make_student(config, settings, teacher, text, pairs)
    path = out / "work" / "state.pt"
    key = content_key(config, text.facts, len(pairs), teacher.key)
    optimizer = torch.optim.Adam(
        student.parameters, lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-8
    )
    epoch = step = 0
    errors = [_held_out_error(student, teacher, held_out)]
    best = _copy(student.state())
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        if saved["key"] != key:
            raise DataError(f"{path} is of another configuration or text; give another folder")
        student.load(saved["student"])
        optimizer.load_state_dict(saved["optimizer"])
        epoch, step, errors, best = saved["epoch"], saved["step"], saved["errors"], saved["best"]
    english = [text.sentences[number] for number in pairs[:, 1].tolist()]
    wanted = torch.from_numpy(normalized(_encode_once(teacher, english, config.pivot)))
    with Progress("distillation", total=settings.epochs, unit="epochs", quiet=quiet) as progress:
        progress.resume(epoch)
        while epoch < settings.epochs:
            torch.manual_seed(config.seed + epoch)
            for batch in _batches(text, pairs, own, settings, config.seed + epoch):
                step += 1
                sides = [
                    [text.sentences[number] for number in pairs[batch, side].tolist()]
                    for side in (0, 1)
                ]
                _learn(
                    student,
                    optimizer,
                    settings,
                    step=step,
                    wanted=wanted[torch.from_numpy(batch)],
                    sides=sides,
                )
            epoch += 1
            errors.append(_held_out_error(student, teacher, held_out))
            if errors[-1] <= min(errors):
                best = _copy(student.state())
            with atomic_path(path) as beside:
                torch.save(
                    {
                        "key": key,
                        "student": student.state(),
                        "optimizer": optimizer.state_dict(),
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
    if isinstance(student, _StaticStudent):
        result = finish(
            config,
            text,
            out,
            table=student.table.detach(),
            owners=student.features.owners,
            error=min(errors),
            step=step,
            bits=student.bits,
        )
        write_hashes(out / "training_hashes.bin.zst", seen)
        return result
    assert isinstance(student, _TransformerStudent)
    return _write_transformer(config, student, out, seen=seen, error=min(errors), step=step)


def _choose(
    config: EncoderTrainingConfig, settings: DistillationConfig, text: TrainingText
) -> tuple[NDArray[Any], NDArray[Any], dict[str, list[tuple[str, str]]]]:
    """Return the pairs as (other language, pivot), the language of each, and the held-out pairs."""
    codes = [language.code for language in settings.languages] or list(text.languages)
    wanted = numpy.array([code in codes and code != config.pivot for code in text.languages])
    pivot = numpy.array([code == config.pivot for code in text.languages])
    language = text.language[text.pairs]
    chosen = [
        text.pairs[wanted[language[:, a]] & pivot[language[:, b]]][:, [a, b]]
        for a, b in ((0, 1), (1, 0))
    ]
    pairs = numpy.concatenate(chosen)
    if not len(pairs):
        raise DataError(f"no pair of {', '.join(codes)} with {config.pivot} to distil from")
    held_out = {code: text.held_out[code] for code in codes if code in text.held_out}
    return pairs, text.language[pairs[:, 0]], held_out


def _make_student(
    config: EncoderTrainingConfig,
    settings: DistillationConfig,
    teacher: Encoder,
    text: TrainingText,
    pairs: NDArray[Any],
) -> _Student:
    if settings.student == "static":
        if not isinstance(teacher, StaticEncoder):
            raise ConfigError(
                "distillation.student: static needs a static teacher to begin from; use transformer"
            )
        return _StaticStudent(teacher)
    texts = [text.sentences[number] for number in sorted(set(pairs.reshape(-1).tolist()))]
    return _TransformerStudent(settings, teacher.dimension, texts, config.seed)


def _learn(
    student: _Student,
    optimizer: torch.optim.Adam,
    settings: DistillationConfig,
    *,
    step: int,
    wanted: Tensor,
    sides: list[list[str]],
) -> None:
    warm = max(settings.warmup_steps, 1)
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * min(step / warm, (warm / step) ** 0.5)
    loss = torch.zeros(())
    for texts, weight in zip(sides, (settings.distil_weight, settings.self_weight), strict=True):
        if not weight:
            continue
        vectors, masked = student.encode(texts)
        cosine = functional.cosine_similarity(vectors, wanted)
        loss = loss + weight * (1 - cosine).mean() + settings.masked_weight * masked
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters, settings.clip)
    optimizer.step()


def _batches(
    text: TrainingText,
    pairs: NDArray[Any],
    own: NDArray[Any],
    settings: DistillationConfig,
    seed: int,
) -> Iterator[NDArray[numpy.int64]]:
    """Draw as many pairs as there are, languages by temperature, in batches by length."""
    generator = numpy.random.default_rng(seed)
    counts = numpy.bincount(own, minlength=len(text.languages)).astype(numpy.float64)
    shares = counts ** (1 / settings.temperature) * (counts > 0)
    weights = (shares / shares.sum() / numpy.maximum(counts, 1))[own]
    drawn = generator.choice(len(pairs), size=len(pairs), p=weights / weights.sum())
    if settings.student == "static":
        yield from numpy.array_split(drawn, max(1, len(drawn) // _STATIC_BATCH))
        return
    lengths = numpy.array([len(text.sentences[number]) for number in pairs[drawn].max(axis=1)])
    # About four characters a piece; the batch's longest sentence decides its size.
    ordered = drawn[numpy.argsort(lengths + generator.random(len(drawn)))]
    sizes = numpy.sort(lengths) // 4 + 2
    starts, start = [], 0
    while start < len(ordered):
        end = start + 1
        while end < len(ordered) and (end + 1 - start) * sizes[end] <= settings.batch_tokens:
            end += 1
        starts.append((start, end))
        start = end
    for place in generator.permutation(len(starts)).tolist():
        first, last = starts[place]
        yield ordered[first:last]


@torch.no_grad()
def _held_out_error(
    student: _Student, teacher: Encoder, held_out: dict[str, list[tuple[str, str]]]
) -> float:
    """Return the mean xsim error of the student's vectors against the teacher's, in per cent."""
    model = getattr(student, "model", None)
    if model is not None:
        model.eval()
    errors = []
    for pairs in held_out.values():
        chosen = pairs[:MOST_HELD_OUT]
        if len(chosen) < min(FEWEST_HELD_OUT, 20):
            continue
        texts = [pair[0] for pair in chosen]
        vectors = torch.cat(
            [student.encode(texts[at : at + 32])[0] for at in range(0, len(texts), 32)]
        )
        targets = teacher.encode([pair[1] for pair in chosen], "")
        errors.append(error_rates(vectors.numpy(), targets)[0])
    if model is not None:
        model.train()
    return 100 * sum(errors) / len(errors) if errors else 100.0


def _encode_once(teacher: Encoder, texts: list[str], language: str) -> Any:
    distinct = list(dict.fromkeys(texts))
    places = {text: place for place, text in enumerate(distinct)}
    vectors = teacher.encode(distinct, language)
    return vectors[[places[text] for text in texts]]


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that training does not change."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    copied: dict[str, Any] = torch.load(buffer, weights_only=True)
    return copied


def _train_pieces(texts: list[str], size: int) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([prepare(text) for text in texts]),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=0.9995,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _write_transformer(
    config: EncoderTrainingConfig,
    student: _TransformerStudent,
    out: Path,
    *,
    seen: list[str],
    error: float,
    step: int,
) -> TrainedEncoder:
    """Write checkpoint, pieces and dictionary as LASER3 has them."""
    path = out / f"{config.name}.pt"
    (out / f"{config.name}.spm").write_bytes(student.pieces)
    pieces = list(student.dictionary)[len(SPECIALS) :]
    write_lines(out / f"{config.name}.cvocab", (f"{piece} 1" for piece in pieces))
    settings = vars(Namespace(**student.settings))
    with atomic_path(path) as beside:
        torch.save({"cfg": {"model": settings}, "model": student.model.state_dict()}, beside)
    write_hashes(out / "training_hashes.bin.zst", seen)
    write_json(
        out / "encoder.json",
        {"name": config.name, "licence": config.licence, "held_out_error": error, "step": step},
    )
    return TrainedEncoder(
        directory=out, size_bytes=path.stat().st_size, held_out_error=error, step=step
    )
