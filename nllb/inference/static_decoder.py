"""A decoder step of constant shapes, which a GPU can replay as one CUDA graph.

`TorchEngine` decodes with arrays that grow with the output and shrink as sentences finish, which
costs the CPU hundreds of kernel launches per token. Here, the caches have their final size, the
position is a tensor on the device, and attention masks the positions that are not written yet.

Shapes: B sentences, W rows (beams) per sentence, R = B * W rows, S source positions, C cache
positions, D model dim, H heads, L layers, V output tokens, X extra tokens per sentence.
"""

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .engine import OutputChoice, TorchEngine, TorchMemory, split_heads

MAX_RESTRICTED_OUTPUTS: Final = 4
"""Number of shortlists whose buffers and graphs are kept."""


class StaticDecoder:
    """Decodes B sentences with W rows each in buffers of fixed size.

    Attributes:
        parents_R: rows of the previous step that the rows of the next step continue.
        tokens_R: the tokens of the next step.
        position: the position of these tokens, a tensor with one element.
    """

    def __init__(
        self,
        engine: TorchEngine,
        *,
        sentences: int,
        width: int,
        source_positions: int,
        positions: int,
    ):
        """Allocate the buffers."""
        config = engine.config
        self._engine, self.sentences, self.width = engine, sentences, width
        self.rows, self.positions = sentences * width, positions
        layers, heads = config.decoder_layers, config.decoder_heads
        size = config.model_dim // heads
        self._cache = torch.zeros(
            layers, 2, self.rows, heads, positions, size, device=engine.device, dtype=engine.dtype
        )
        self._keys_values = torch.zeros(
            (layers, 2, sentences, heads, source_positions, size),
            device=engine.device,
            dtype=engine.dtype,
        )
        self._source_mask = torch.zeros(
            sentences, 1, 1, source_positions, dtype=torch.bool, device=engine.device
        )
        self.position = torch.zeros(1, dtype=torch.int64, device=engine.device)
        self.parents_R = torch.arange(self.rows, device=engine.device)
        self.tokens_R = torch.zeros(self.rows, dtype=torch.int64, device=engine.device)
        self._numbers_C = torch.arange(positions, device=engine.device)
        self._state_RD = torch.zeros(
            self.rows, config.model_dim, device=engine.device, dtype=engine.dtype
        )
        self._all_tokens = _AllTokens(engine)
        self._restricted: list[_Restricted] = []
        self._output: _Output = self._all_tokens

    def start(self, memory: TorchMemory, prompt: np.ndarray, choice: OutputChoice | None) -> None:
        """Store encoded sentences, and run the decoder over the prompts (B, P)."""
        count, source = memory.num_sentences, memory.keys_values.shape[4]
        self._keys_values[:, :, :count, :, :source] = memory.keys_values
        mask = memory.mask
        self._source_mask.zero_()
        self._source_mask[:count, ..., :source] = True if mask is None else mask
        self._source_mask[count:, ..., 0] = True  # unused rows must not become NaN
        self._output = self._all_tokens if choice is None else self._restricted_output(choice)
        self.position.zero_()
        self.parents_R.copy_(torch.arange(self.rows))
        prompts = np.zeros((self.sentences, prompt.shape[1]), np.int64)
        prompts[:count] = prompt
        for tokens_B in prompts.T:
            self.tokens_R.copy_(torch.from_numpy(tokens_B.repeat(self.width)))
            self.advance(self.positions)

    def _restricted_output(self, choice: OutputChoice) -> "_Restricted":
        for output in self._restricted:
            if output.start(choice):
                return output
        del self._restricted[: len(self._restricted) + 1 - MAX_RESTRICTED_OUTPUTS]
        self._restricted.append(_Restricted(self._engine, choice, self.sentences))
        return self._restricted[-1]

    @property
    def output_signature(self) -> object:
        """Identifies the buffers that `best` reads, for which a CUDA graph is valid."""
        return self._output

    @property
    def output_signatures(self) -> list[object]:
        """The signatures of all outputs whose buffers are kept."""
        return [self._all_tokens, *self._restricted]

    def advance(self, cache_positions: int) -> None:
        """Run the decoder over `tokens_R`, attending to the first `cache_positions` positions."""
        engine, config = self._engine, self._engine.config
        cache = self._cache[:, :, :, :, :cache_positions]
        if self.width > 1:
            cache.copy_(cache.index_select(2, self.parents_R))
        positions_1D = engine.position_rows(self.position)
        x_R1D = (engine.embedding_rows(self.tokens_R) * engine.scale + positions_1D)[:, None]
        mask = (self._numbers_C[:cache_positions] <= self.position)[None, None, None]
        for number, layer in enumerate(engine.decoder_layers):
            assert layer.cross_norm and layer.cross_query and layer.cross_output
            q, k, v = (
                split_heads(part, config.decoder_heads)
                for part in layer.self_query_key_value(layer.self_norm(x_R1D)).chunk(3, dim=-1)
            )
            cache[number, 0].index_copy_(2, self.position, k)
            cache[number, 1].index_copy_(2, self.position, v)
            mixed = functional.scaled_dot_product_attention(
                q, cache[number, 0], cache[number, 1], attn_mask=mask
            )
            x_R1D = x_R1D + layer.self_output(mixed.transpose(1, 2).flatten(2))
            query = layer.cross_query(layer.cross_norm(x_R1D)).view(
                self.sentences, self.width, config.model_dim
            )
            mixed = functional.scaled_dot_product_attention(
                split_heads(query, config.decoder_heads),
                self._keys_values[number, 0],
                self._keys_values[number, 1],
                attn_mask=self._source_mask,
            )
            x_R1D = x_R1D + layer.cross_output(mixed.transpose(1, 2).reshape(x_R1D.shape))
            x_R1D = engine.feed(layer, x_R1D)
        self._state_RD.copy_(engine.decoder_norm(x_R1D[:, 0]))
        self.position += 1

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and ids (R, count) of each row's best next tokens."""
        logits_RV = self._output.logits(self._state_RD)
        values, chosen = logits_RV.topk(count, dim=-1)
        return values - logits_RV.logsumexp(-1, keepdim=True), self._output.ids(chosen)


class _AllTokens:
    """Output over the complete vocabulary."""

    def __init__(self, engine: TorchEngine):
        self._engine = engine

    def logits(self, state_RD: Tensor) -> Tensor:
        return self._engine.projection(state_RD).float()

    def ids(self, chosen: Tensor) -> Tensor:
        return chosen


class _Restricted:
    """Output over a shortlist and some extra tokens of each sentence."""

    def __init__(self, engine: TorchEngine, choice: OutputChoice, sentences: int):
        assert callable(choice.projection)
        self._engine, self._projection = engine, choice.projection
        self._ids_V = torch.from_numpy(choice.ids).to(engine.device)
        width = -(-max((len(ids) for ids in choice.extra), default=1) // 64) * 64 or 64
        self._extra_BX = torch.full((sentences, width), -1, device=engine.device)
        self.start(choice)

    def start(self, choice: OutputChoice) -> bool:
        """Store the extra tokens of new sentences if they fit into the buffers."""
        longest = max((len(ids) for ids in choice.extra), default=0)
        if choice.projection is not self._projection or longest > self._extra_BX.shape[1]:
            return False
        extra = np.full(self._extra_BX.shape, -1, np.int64)
        for row, ids in enumerate(choice.extra):
            extra[row, : len(ids)] = ids
        self._extra_BX.copy_(torch.from_numpy(extra))
        return True

    def logits(self, state_RD: Tensor) -> Tensor:
        rows_BXD = self._engine.embedding_rows(self._extra_BX.clamp_min(0))
        state_BWD = state_RD.view(len(rows_BXD), -1, state_RD.shape[-1])
        extra_BWX = (state_BWD @ rows_BXD.transpose(1, 2)).float()
        extra_BWX = extra_BWX.masked_fill((self._extra_BX < 0)[:, None], -math.inf)
        return torch.cat([self._projection(state_RD).float(), extra_BWX.flatten(0, 1)], dim=1)

    def ids(self, chosen: Tensor) -> Tensor:
        rows = len(chosen) // len(self._extra_BX)
        all_BV = torch.cat([self._ids_V.expand(len(self._extra_BX), -1), self._extra_BX], dim=1)
        return all_BV.gather(1, chosen.view(len(self._extra_BX), -1)).view(
            len(self._extra_BX) * rows, -1
        )


_Output = _AllTokens | _Restricted
