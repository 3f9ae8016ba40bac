"""A student that is the pretrained encoder itself, tuned to further languages.

The layers start as copies of the teacher's and are trained; the embedding stays as it is stored, so
that the tuned encoder keeps the small file and the vocabulary. Known languages must be among the
training pairs (replay), or the student forgets them. Its vectors are those that
`nllb.inference.sentence_encoder` computes: means of the last layer without the teacher's common
directions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from nllb.inference.sentence_encoder import QUERY_PREFIX
from nllb.model.formats.encoder_directory import EncoderDirectory, write_tuned_encoder

from ..mining_config import DistillationConfig
from .students import Sentences, side_weights, vector_distance

MAX_TOKENS: Final = 128
"""Longer sentences are cut in training."""


class PretrainedStudent:
    """The pretrained encoder, tuned."""

    def __init__(
        self, directory: EncoderDirectory, settings: DistillationConfig, sentences: Sequence[str]
    ) -> None:
        self.directory, self.settings = directory, settings
        self._sentences = sentences
        self._tokenizer = directory.tokenizer()
        self._space = directory.sentence_space()
        self.encoder = directory.load()
        self.encoder.requires_grad_(False)
        self.encoder.layers.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(
            self.encoder.layers.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=0.0,
        )

    def encode(self, texts: list[str]) -> Tensor:
        """Return the vectors of texts."""
        windows = [
            text.windows[0][:MAX_TOKENS] if text.windows else (self.directory.config.bos_id,)
            for text in self._tokenizer.tokenize(texts, prefix=QUERY_PREFIX)
        ]
        pad_id = self.directory.config.pad_id
        ids_BS = nn.utils.rnn.pad_sequence(
            [torch.tensor(window) for window in windows], batch_first=True, padding_value=pad_id
        )
        states_BSD = self.encoder(ids_BS, layers=(-1,))[0]
        is_token_BS1 = (ids_BS != pad_id)[..., None]
        vectors_BD = functional.normalize((states_BSD * is_token_BS1).sum(1), dim=1)
        return vectors_BD if self._space is None else self._space.remove_from(vectors_BD)

    def learn(self, pairs: Sentences, targets: Tensor, step: int, steps: int) -> None:
        """Run one training step; the learning rate warms up and then falls to zero."""
        warm = min(step / max(self.settings.warmup_steps, 1), 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * warm * (1 - (step - 1) / steps)
        loss = torch.zeros(())
        for side, weight in zip(pairs.T, side_weights(self.settings), strict=True):
            if weight:
                vectors = self.encode([self._sentences[number] for number in side.tolist()])
                loss = loss + weight * vector_distance(vectors, targets)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.layers.parameters(), self.settings.clip)
        self._optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return the state that training resumes from."""
        return {
            "layers": self.encoder.layers.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Load a state."""
        self.encoder.layers.load_state_dict(state["layers"])
        self._optimizer.load_state_dict(state["optimizer"])

    def write(self, out: Path) -> None:
        """Write the tuned encoder as a directory."""
        write_tuned_encoder(
            out, self.directory, self.encoder.state_dict().__getitem__, space=self._space
        )
