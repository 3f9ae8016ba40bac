"""Students of a distillation: a table of features, or a small LASER3 transformer.

`pretrained_student.py` has the third kind.

The loss is 1 - cosine between the student's vector of the other language and the teacher's vector
of the pivot (distil), plus the same for the student's vector of the pivot side (self).

A static student starts as a copy of a static teacher. It is trained like the teacher, with feature
dropout and row-wise Adagrad: trained by Adam without dropout, a student became worse than its
teacher on text of another domain.
"""

import io
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy
import sentencepiece
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nllb.errors import ConfigError

from ..encoders.laser import SPECIALS, Laser3, prepare
from ..encoders.static_encoder import (
    StaticEncoder,
    rounded,
    rows_of,
    sum_rows,
)
from ..mining_config import DistillationConfig
from .trained_rows import TrainedRows, extract_numbers, join_rows

Sentences = NDArray[numpy.int32]
_PAD, _END = 1, 2
_MASKED_PART: Final = 0.15
_MAX_PIECES: Final = 256


class Student(Protocol):
    """The interface between the training loop and a student."""

    def encode(self, texts: list[str]) -> Tensor:
        """Return the vectors, as the saved student will compute them."""
        ...

    def learn(self, pairs: Sentences, targets: Tensor, step: int, steps: int) -> None:
        """Run one training step.

        Args:
            pairs: sentence numbers of the other language and of the pivot, shape (pairs, 2).
            targets: the teacher's vectors of the pivot sides.
            step: number of the step, from 1.
            steps: total number of steps.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Return the state that training resumes from."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Load a state."""
        ...


class StaticStudent:
    """A table of features."""

    def __init__(
        self,
        teacher: StaticEncoder,
        settings: DistillationConfig,
        sentences: Sequence[str],
        seed: int,
    ) -> None:
        self.settings, self.seed = settings, seed
        self.features = teacher.features
        self.table = TrainedRows(teacher.table.clone())
        self._rows = self.features.rows()
        parts, counts = zip(*extract_numbers(sentences, quiet=True), strict=True)
        self._sentences = join_rows([self._rows[part] for part in parts], counts)

    def encode(self, texts: list[str]) -> Tensor:
        """Return the vectors, as the saved student will compute them."""
        features, counts = rows_of(texts, self._rows)
        used, rows = numpy.unique(features, return_inverse=True)
        table = rounded(self.table.values[torch.from_numpy(used)], self.settings.bits)
        return sum_rows(table, rows, counts)

    def learn(self, pairs: Sentences, targets: Tensor, step: int, steps: int) -> None:
        """Run one training step; the seed and the step decide which features are dropped."""
        rows, owner = self._sentences.of(pairs.T.reshape(-1))
        generator = numpy.random.default_rng((self.seed, step))
        kept = generator.random(len(rows)) >= self.settings.dropout
        counts = numpy.bincount(owner[kept], minlength=pairs.size)
        chosen, rows = self.table.gather(rows[kept])
        table = self.table.values[chosen]
        if 2 * step > steps:
            # Sum the quantized rows; the gradient is that of the rows before rounding.
            table = rounded(table, self.settings.bits)
        table.requires_grad_()
        loss = torch.zeros(())
        sides = sum_rows(table, rows, counts).split(len(pairs))
        for vectors, weight in zip(sides, side_weights(self.settings), strict=True):
            loss = loss + weight * vector_distance(vectors, targets)
        (gradient,) = torch.autograd.grad(loss, [table])
        self.table.step(chosen, gradient, self.settings.learning_rate * (1 - (step - 1) / steps))

    def state(self) -> dict[str, Any]:
        """Return the state that training resumes from."""
        return {"table": self.table.values, "squares": self.table.squares}

    def load(self, state: dict[str, Any]) -> None:
        """Load a state."""
        self.table.values, self.table.squares = state["table"], state["squares"]


def side_weights(settings: DistillationConfig) -> tuple[float, float]:
    """Return the loss weights of the other language's side and of the pivot side."""
    return settings.distil_weight, settings.self_weight


def vector_distance(vectors: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of 1 - cosine."""
    return (1 - functional.cosine_similarity(vectors, targets)).mean()


class TransformerStudent:
    """A small LASER3 transformer with its own SentencePiece model."""

    def __init__(
        self,
        config: DistillationConfig,
        dimension: int,
        sentences: Sequence[str],
        pairs: Sentences,
        seed: int,
    ) -> None:
        if dimension % config.heads:
            raise ConfigError(
                f"distillation.heads: {config.heads} does not divide the teacher's dimension "
                f"{dimension}"
            )
        self.config, self._sentences = config, sentences
        used = numpy.unique(pairs).tolist()
        self.pieces = _train_pieces([sentences[number] for number in used], config.vocabulary)
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=self.pieces)
        # fairseq's four special tokens replace SentencePiece's <unk>, <s> and </s>.
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
        self._optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-8
        )

    def encode(self, texts: list[str]) -> Tensor:
        """Return the vectors, without dropout."""
        self.model.eval()
        vectors, _ = self._forward(texts)
        self.model.train()
        return vectors

    def learn(self, pairs: Sentences, targets: Tensor, step: int, steps: int) -> None:
        """Run one training step; the learning rate warms up and then decays by the square root."""
        warm = max(self.config.warmup_steps, 1)
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate * min(step / warm, (warm / step) ** 0.5)
        loss = torch.zeros(())
        for side, weight in zip(pairs.T, side_weights(self.config), strict=True):
            if weight:
                texts = [self._sentences[number] for number in side.tolist()]
                vectors, masked = self._forward(texts)
                loss = loss + weight * vector_distance(vectors, targets)
                loss = loss + self.config.masked_weight * masked
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self._optimizer.step()

    def _forward(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Return the vectors and, in training, the masked-piece loss."""
        lists = [
            [
                self.dictionary.get(piece, 3)
                for piece in self.processor.encode(prepare(text), out_type=str)
            ]
            for text in texts
        ]
        lists = [[*pieces[: _MAX_PIECES - 1], _END] for pieces in lists]
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
        """Return the state that training resumes from."""
        return {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Load a state."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])


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
