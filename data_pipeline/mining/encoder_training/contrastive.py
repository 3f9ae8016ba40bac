"""Contrastive training of the static encoder with in-batch negatives.

A batch contains pairs of many languages and of similar length. Each side must find its translation
among the other sides of the batch; the loss is the mean of the two cross-entropies over scaled
cosines. Sentences that occur twice in a batch, as in multi-parallel text, are not used as negatives
for each other's translations. Row-wise Adagrad stores one number per row of the table.

After the share `quantize_from` of the steps, the vectors of a batch are sums of the quantized rows
that will be written. Their gradients are applied to the 32-bit rows (straight-through estimator).

Sources: Henderson et al. 2017 (in-batch negatives), Feng et al. 2022 (both directions), Duchi et
al. 2011 (Adagrad).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nllb.config.fingerprints import fingerprint
from nllb.io.atomic import atomic_path
from nllb.io.progress import Progress
from nllb.model.formats.write_errors import library_write_errors

from ..encoders.static_encoder import (
    FEATURE_BITS,
    FeatureTable,
    rounded,
    rows_of,
    sum_rows,
)
from ..mining_config import EncoderTrainingConfig
from ..xsim import error_rates
from .trained_encoder import (
    MAX_HELD_OUT_PAIRS,
    MIN_HELD_OUT_PAIRS,
    TrainedEncoder,
    read_state,
    write_encoder,
)
from .trained_rows import (
    SentenceRows,
    TrainedRows,
    extract_numbers,
    join_rows,
)
from .training_text import TrainingText

_SORTED_BATCHES: Final = 16
_RAREST: Final = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbered:
    """All sentences as rows of the table that will be trained."""

    sentences: SentenceRows
    """The rows of each sentence."""
    features: FeatureTable
    """The assignment of features to rows."""
    weights: NDArray[numpy.float64]
    """Initial scale of each row; rarer features have larger rows."""


def train_contrastive(
    config: EncoderTrainingConfig, text: TrainingText, out: Path, *, quiet: bool = False
) -> TrainedEncoder:
    """Train an encoder from random values and write it; a second call resumes."""
    numbered = number_features(config, text, quiet=quiet)
    run = _ContrastiveRun(config, text, numbered, out)
    run.resume()
    with Progress(
        "training", total=config.contrastive.steps, unit="batches", quiet=quiet
    ) as progress:
        progress.resume(run.step)
        for batch in run.batches():
            loss = run.learn(batch)
            progress.advance(1, f"loss {loss:.3f}, held-out error {run.best_error:.2f} %")
            if (
                run.step % config.contrastive.evaluate_every == 0
                or run.step == config.contrastive.steps
            ):
                run.evaluate()
                run.save()
    return write_encoder(
        config,
        text,
        out,
        table=run.best,
        owners=numbered.features.owners,
        error=run.best_error,
        step=run.best_step,
        bits=config.table.bits,
    )


def number_features(
    config: EncoderTrainingConfig, text: TrainingText, *, quiet: bool = False
) -> Numbered:
    """Extract all features, and assign separate rows to the most frequent ones.

    A language is weighted by the square root of its number of sentences, so that small languages
    get rows as well.
    """
    per_language = numpy.bincount(text.language, minlength=len(text.languages))
    weight = numpy.maximum(per_language, 1) ** -0.5
    weight /= (weight * per_language).sum()
    frequency = numpy.zeros(1 << FEATURE_BITS)
    parts: list[NDArray[Any]] = []
    counts: list[NDArray[numpy.int64]] = []
    first = 0
    for numbers, sizes in extract_numbers(text.sentences, quiet=quiet):
        shares = numpy.repeat(weight[text.language[first : first + len(sizes)]], sizes)
        frequency += numpy.bincount(numbers, weights=shares, minlength=1 << FEATURE_BITS)
        parts.append(numbers)
        counts.append(sizes)
        first += len(sizes)
    owned, num_rows = config.table.owned_rows, config.table.rows
    owners = numpy.sort(numpy.argpartition(-frequency, owned)[:owned]).astype(numpy.int32)
    features = FeatureTable(owners=owners, num_rows=num_rows)
    kind = numpy.uint16 if num_rows <= 1 << 16 else numpy.int32
    rows = features.rows().astype(kind)
    weights = numpy.full(num_rows, -numpy.log(_RAREST))
    weights[:owned] = -numpy.log(numpy.maximum(frequency[owners], _RAREST))
    for number, part in enumerate(parts):
        parts[number] = rows[part]
    return Numbered(
        sentences=join_rows(parts, counts),
        features=features,
        weights=numpy.maximum(weights, 0.5) / 10,
    )


class _ContrastiveRun:
    """The state of a training run."""

    def __init__(
        self, config: EncoderTrainingConfig, text: TrainingText, numbered: Numbered, out: Path
    ) -> None:
        self.config, self.text, self.numbered = config, text, numbered
        self.path = out / "work" / "state.pt"
        self.key = fingerprint(
            config, text.facts, len(text.sentences), numbered.features.owners.tolist()[:1000]
        )
        generator = torch.Generator().manual_seed(config.seed)
        dimension = config.table.dimension
        table = torch.randn(config.table.rows, dimension, generator=generator) / dimension**0.5
        table *= torch.from_numpy(numbered.weights).float()[:, None]
        self.table = TrainedRows(table)
        self.scale = torch.tensor(float(numpy.log(config.contrastive.scale)))
        self.step = self.best_step = 0
        self.best, self.best_error = table, float("inf")
        rows = numbered.features.rows()
        self._held_out = [
            [rows_of([pair[side] for pair in pairs[:MAX_HELD_OUT_PAIRS]], rows) for side in (0, 1)]
            for pairs in text.held_out.values()
            if len(pairs) >= MIN_HELD_OUT_PAIRS
        ]
        self._lengths = numpy.diff(numbered.sentences.bounds)[text.pairs].sum(axis=1)
        self._of_direction = numpy.argsort(text.direction, kind="stable")
        self._first = numpy.searchsorted(
            text.direction[self._of_direction], numpy.arange(text.direction.max() + 2)
        )

    def batches(self) -> Iterator[NDArray[numpy.int64]]:
        """Yield the remaining batches of pairs; they are the same after an interruption."""
        size, steps = self.config.contrastive.batch_pairs, self.config.contrastive.steps
        size = min(size, len(self.text.pairs))
        number, epoch = 0, 0
        while number < steps:
            generator = numpy.random.default_rng((self.config.seed, epoch))
            order = generator.permutation(len(self.text.pairs))
            batches = []
            # Similar lengths within a batch make harder negatives and batches of equal cost.
            for start in range(0, len(order) - size + 1, size * _SORTED_BATCHES):
                chunk = order[start : start + size * _SORTED_BATCHES]
                keys = self._lengths[chunk] + generator.random(len(chunk))
                chunk = chunk[numpy.argsort(keys)]
                batches += [chunk[at : at + size] for at in range(0, len(chunk) - size + 1, size)]
            for place in generator.permutation(len(batches)).tolist():
                if number >= steps:
                    return
                if number >= self.step:
                    yield batches[place]
                number += 1
            epoch += 1

    def _draw(
        self, batch: NDArray[numpy.int64]
    ) -> tuple[NDArray[numpy.int32], NDArray[Any], NDArray[numpy.int64]]:
        """Return pairs, rows and the number of rows of each sentence of a batch.

        The seed and the step decide which sides are swapped, which pairs are joined with another
        pair of the same languages, and which features are dropped. The first steps use whole,
        single sentences, from which the rows converge faster.
        """
        settings = self.config.contrastive
        plain = self.step < settings.plain_fraction * settings.steps
        join_fraction, dropout = (
            (0, 0) if plain else (settings.join_fraction, settings.feature_dropout)
        )
        generator = numpy.random.default_rng((self.config.seed, 1 << 32, self.step))
        turned = generator.random(len(batch)) < 0.5
        pairs = self._turned(batch, turned)
        direction = self.text.direction[batch]
        first, end = self._first[direction], self._first[direction + 1]
        partners = first + (generator.random(len(batch)) * (end - first)).astype(numpy.int64)
        joined = numpy.flatnonzero(generator.random(len(batch)) < join_fraction)
        more = self._turned(self._of_direction[partners[joined]], turned[joined])
        rows, owner = self.numbered.sentences.of(
            numpy.concatenate([pairs.reshape(-1), more.reshape(-1)])
        )
        places = numpy.concatenate(
            [numpy.arange(2 * len(batch)), (2 * joined[:, None] + [0, 1]).reshape(-1)]
        )
        owner = places[owner]
        kept = generator.random(len(rows)) >= dropout
        rows, owner = rows[kept], owner[kept]
        order = numpy.argsort(owner, kind="stable")
        return pairs, rows[order], numpy.bincount(owner, minlength=2 * len(batch))

    def _turned(
        self, numbers: NDArray[numpy.int64], turned: NDArray[numpy.bool_]
    ) -> NDArray[numpy.int32]:
        pairs = self.text.pairs[numbers]
        return numpy.where(turned[:, None], pairs[:, ::-1], pairs)

    def learn(self, batch: NDArray[numpy.int64]) -> float:
        """Run one training step and return the loss."""
        pairs, rows, counts = self._draw(batch)
        chosen, rows = self.table.gather(rows)
        table = self.table.values[chosen]
        if self.step >= self.config.contrastive.quantize_from * self.config.contrastive.steps:
            table = rounded(table, self.config.table.bits)
        table.requires_grad_()
        scale = self.scale.requires_grad_()
        vectors = functional.normalize(sum_rows(table, rows, counts)).view(len(pairs), 2, -1)
        loss = contrastive_loss(vectors, torch.from_numpy(pairs.astype(numpy.int64)), scale.exp())
        gradient, scale_gradient = torch.autograd.grad(loss, [table, scale])
        self.scale = scale.detach() - 0.02 * scale_gradient
        left = 1 - self.step / self.config.contrastive.steps
        rate = self.config.contrastive.learning_rate * max(left, 0.02)
        self.table.step(chosen, gradient, rate)
        self.step += 1
        return float(loss.detach())

    def evaluate(self) -> None:
        """Measure the error on the held-out pairs, and keep the table if it is the best so far."""
        error = self._error()
        if error <= self.best_error:
            self.best, self.best_error = self.table.values.clone(), error
            self.best_step = self.step

    def _error(self) -> float:
        table = rounded(self.table.values, self.config.table.bits)
        errors = [
            error_rates(*(sum_rows(table, *side).numpy() for side in sides))[0]
            for sides in self._held_out
        ]
        return 100 * sum(errors) / len(errors) if errors else 0.0

    def save(self) -> None:
        """Write the training state atomically."""
        with atomic_path(self.path) as beside, library_write_errors():
            torch.save(
                {
                    "key": self.key,
                    "table": self.table.values,
                    "scale": self.scale,
                    "squares": self.table.squares,
                    "step": self.step,
                    "best": self.best,
                    "best_error": self.best_error,
                    "best_step": self.best_step,
                },
                beside,
            )

    def resume(self) -> None:
        """Load the state of an interrupted run, if there is one.

        Raises:
            DataError: if the state belongs to another configuration or other text.
        """
        if not self.path.is_file():
            return
        state = read_state(
            self.path,
            self.key,
            *("table", "scale", "squares", "step", "best", "best_error", "best_step"),
        )
        self.table.values, self.table.squares = state["table"], state["squares"]
        self.scale = state["scale"]
        self.step, self.best, self.best_error = state["step"], state["best"], state["best_error"]
        self.best_step = state["best_step"]


def contrastive_loss(vectors: Tensor, pairs: Tensor, scale: Tensor) -> Tensor:
    """Return the mean cross-entropy of both directions.

    Args:
        vectors: unit vectors, shape (pairs, 2, dimension).
        pairs: numbers of the sentences, shape (pairs, 2), which show what sentences are equal.
        scale: factor of the cosines.
    """
    logits = vectors[:, 0] @ vectors[:, 1].T * scale
    same = (pairs[:, None, 1] == pairs[None, :, 1]) | (pairs[:, None, 0] == pairs[None, :, 0])
    logits = logits.masked_fill(same.fill_diagonal_(False), -1e4)
    own = torch.arange(len(vectors))
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
