"""The interface of inference engines, and the torch engine.

An engine runs the encoder once per sentence and then decoder steps for rows that share the encoded
sentence. The torch engine runs all checkpoints on all devices and is the reference for the compiled
engine in `kernels`. Both read their weights with `layers`. The torch engine differs from the
modules of `nllb.model` on purpose: it fuses projections, computes the cross-attention keys and
values of all decoder layers once per sentence, has a cache of fixed size, and treats the beams of a
sentence as query positions of one cross-attention.

Shapes: B sentences, S source positions, W rows (beams) per sentence, R = active sentences * W rows,
P new positions, C cache positions, T tokens, D model dim, H heads, V output tokens, E experts,
K = 2 experts per token, L layers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nllb.model.configuration import ModelConfig
from nllb.model.moe import EXPERTS_PER_TOKEN, route
from nllb.model.transformer import sinusoidal_positions

from .grouped_mixture import GroupedMixture, can_group
from .layers import (
    ExpertStoreFactory,
    Layer,
    LayerReader,
    Linear,
    LoadedExperts,
    TorchLinear,
    cross_key_value_names,
    read_float,
)
from .source_mixer import SourceMixer
from .token_states import EncoderEngine


def mixture_of_experts(
    x_TD: Tensor, router: Linear, expert: Callable[[int], Linear], *, output_masking: float
) -> Tensor:
    """Return the weighted sum of the outputs of each token's two best experts.

    The weights are the router weights times 1 - `output_masking`. Tokens are sorted by expert, and
    only experts with tokens are requested. No token is dropped, and the sum of a token does not
    depend on other tokens.
    """
    weights_TK, experts_TK = route(router(x_TD).float())
    weights_TK = (weights_TK * (1 - output_masking)).to(x_TD.dtype)
    experts_T2, order = experts_TK.flatten().sort(stable=True)
    experts, counts = (
        values.tolist() for values in torch.unique_consecutive(experts_T2, return_counts=True)
    )
    sorted_T2D = x_TD[order // EXPERTS_PER_TOKEN]
    outputs_T2D = torch.empty_like(sorted_T2D)
    start = 0
    for number, count in zip(experts, counts, strict=True):
        rows = slice(start, start + count)
        outputs_T2D[rows] = expert(number)(sorted_T2D[rows])
        start += count
    pairs_T2D = torch.empty_like(outputs_T2D).index_copy_(0, order, outputs_T2D)
    pairs_TKD = pairs_T2D.view(-1, EXPERTS_PER_TOKEN, x_TD.shape[-1])
    result_TD: Tensor = (pairs_TKD * weights_TK[..., None]).sum(1)
    return result_TD


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputChoice:
    """The output tokens to which decoding is restricted.

    Attributes:
        projection: the result of the engine's `restrict` for the ids.
        ids: ids of the shortlist in ascending order.
        extra: additional ids for each sentence in ascending order, none of which are in `ids`.
    """

    projection: object
    ids: np.ndarray
    extra: tuple[np.ndarray, ...]


class Memory(ABC):
    """Encoded sentences in the format of an engine.

    Attributes:
        num_sentences: number of sentences.
    """

    num_sentences: int


class Decoding(ABC):
    """Output rows that grow in parallel, with the same number of rows per active sentence."""

    @abstractmethod
    def advance(self, tokens_RP: np.ndarray, parents_R: np.ndarray, sentences: np.ndarray) -> None:
        """Let row r be the previous row `parents_R[r]` followed by `tokens_RP[r]`, for all r.

        `sentences` lists the active sentences in the order of their rows. Sentences can be removed
        from it between calls, but not added.
        """

    @abstractmethod
    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return log-probabilities and ids (R, count) of each row's best next tokens."""

    @abstractmethod
    def logits(self) -> Tensor:
        """Return float32 logits (R, V) on the CPU, which are -inf for excluded tokens."""

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Return log-probabilities (R, len(ids)) of next tokens that are not excluded."""
        return self.logits().log_softmax(-1)[:, torch.from_numpy(ids)].numpy()


class Engine(ABC):
    """A loaded model that encodes sources and decodes outputs.

    Attributes:
        config: the model configuration.
        num_workers: best number of parallel decodings for many batches, each with its own `worker`.
        torch_threads: number of threads of torch operations while the engine computes.
    """

    config: ModelConfig
    num_workers: int = 1
    torch_threads: int = 1

    def worker(self) -> "Engine":
        """Return an engine with the same weights for one of several parallel decodings."""
        return self

    @abstractmethod
    def encode(self, sources: Sequence[Sequence[int]]) -> Memory:
        """Run the encoder over sources of any lengths."""

    @abstractmethod
    def decode(
        self, memory: Memory, *, width: int, max_positions: int, choice: OutputChoice | None = None
    ) -> Decoding:
        """Start decoding with at most `max_positions` positions and `width` rows per sentence."""

    @abstractmethod
    def restrict(self, ids: np.ndarray) -> object:
        """Return the output projection for these ids, which many decodings can use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchMemory(Memory):
    """Encoded sentences of the torch engine.

    Attributes:
        num_sentences: number of sentences.
        keys_values: keys and values of cross-attention (L, 2, B, H, S, D / H).
        mask: positions that are not padding (B, 1, 1, S), or None if there is no padding.
    """

    num_sentences: int
    keys_values: Tensor
    mask: Tensor | None

    def keep(self, sentences: Tensor) -> "TorchMemory":
        """Return the memory of a subset of the sentences."""
        mask = None if self.mask is None else self.mask[sentences]
        return TorchMemory(
            num_sentences=len(sentences), keys_values=self.keys_values[:, :, sentences], mask=mask
        )


class TorchEngine(Engine):
    """An engine in plain torch for any device in float32, bfloat16 or float16."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Mapping[str, Tensor],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        num_threads: int = 1,
        experts: ExpertStoreFactory = LoadedExperts,
        source_encoder: EncoderEngine | None = None,
    ):
        """Read all weights except experts, which the store created by `experts` loads.

        `source_encoder` is the pretrained encoder of a model that has one.
        """
        self.config, self.device, self.dtype = config, torch.device(device), dtype
        self.torch_threads = num_threads
        self._sources = None
        if config.pretrained_layers:
            self._sources = SourceMixer(config, weights, source_encoder)
        self._weights = weights
        reader = LayerReader(
            config, weights, linear=self.linear, experts=experts, device=self.device, dtype=dtype
        )
        self.store = reader.store
        self._encoder, self.decoder_layers = reader.side("encoder"), reader.side("decoder")
        self._encoder_norm, self.decoder_norm = (
            reader.norm("encoder.norm"),
            reader.norm("decoder.norm"),
        )
        self._mixtures = self._grouped_mixtures(reader, experts)
        self._cross_keys_values = self.linear(cross_key_value_names(config))
        self.scale = math.sqrt(config.model_dim) if config.scale_embedding else 1.0
        first = config.pad_id + 1  # the first position in fairseq's numbering
        positions = sinusoidal_positions(
            config.max_positions + first, config.model_dim, pad_id=config.pad_id
        )
        self._positions = positions[first:].to(self.device, dtype)
        self._read_embedding()

    def _grouped_mixtures(
        self, reader: LayerReader, experts: ExpertStoreFactory
    ) -> dict[str, GroupedMixture]:
        """Return the mixtures by layer if the device has grouped products, or none."""
        config, mixtures = self.config, {}
        dims = config.model_dim, config.encoder_ffn_dim, config.decoder_ffn_dim
        if experts is not LoadedExperts or not can_group(self.dtype, self.device, *dims):
            return {}
        for layer in (*self._encoder, *self.decoder_layers):
            if layer.router is not None:
                mixtures[layer.name] = GroupedMixture(
                    layer.router,
                    [reader.expert(layer.name, n) for n in range(config.num_experts)],
                    output_masking=config.expert_output_masking,
                )
        return mixtures

    def linear(self, names: Sequence[str]) -> Linear:
        """Return one linear layer with the concatenated matrices `names`."""
        weight, bias = (
            torch.cat(
                [
                    read_float(self._weights, f"{name}.{part}", self.device, self.dtype)
                    for name in names
                ]
            )
            for part in ("weight", "bias")
        )
        return TorchLinear(weight=weight, bias=bias)

    def _read_embedding(self) -> None:
        self._embedding = read_float(self._weights, "embedding.weight", self.device, self.dtype)
        self.projection: Linear = TorchLinear(weight=self._embedding, bias=None)

    def embedding_rows(self, ids: Tensor) -> Tensor:
        """Return rows of the shared embedding."""
        return self._embedding[ids]

    def restrict(self, ids: np.ndarray) -> Linear:
        """Return the part of the output projection for these ids."""
        return TorchLinear(
            weight=self.embedding_rows(torch.from_numpy(ids).to(self.device)), bias=None
        )

    def position_rows(self, positions: Tensor) -> Tensor:
        """Return the position embeddings of some positions."""
        return self._positions[positions]

    def embed(self, ids_BL: Tensor, *, before: int = 0) -> Tensor:
        """Embed tokens at positions from `before` on."""
        positions_LD = self._positions[before : before + ids_BL.shape[1]]
        return self.embedding_rows(ids_BL) * self.scale + positions_LD

    @torch.inference_mode()
    def encode(self, sources: Sequence[Sequence[int]]) -> TorchMemory:
        """Run the encoder over sources of any lengths."""
        lengths = [len(source) for source in sources]
        longest = max(lengths)
        mask = None
        if min(lengths) < longest:
            mask = (torch.arange(longest) < torch.tensor(lengths)[:, None])[:, None, None, :].to(
                self.device
            )
        x_BSD = self._run_encoder(sources, longest, mask)
        keys_values = self._cross_keys_values(self._encoder_norm(x_BSD))
        keys_values = keys_values.unflatten(
            -1, (self.config.decoder_layers, 2, self.config.decoder_heads, -1)
        )
        return TorchMemory(
            num_sentences=len(sources),
            keys_values=keys_values.permute(2, 3, 0, 4, 1, 5).contiguous(),
            mask=mask,
        )

    def _run_encoder(
        self, sources: Sequence[Sequence[int]], longest: int, mask: Tensor | None
    ) -> Tensor:
        """Return x_BSD, the encoder states before the final norm."""
        if self._sources is not None:
            parts = self._sources.mix(sources)
            padded_BSD = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
            return padded_BSD.to(self.device, self.dtype)
        ids_BS = torch.zeros(len(sources), longest, dtype=torch.int64)
        for row, source in enumerate(sources):
            ids_BS[row, : len(source)] = torch.as_tensor(source)
        tokens = None if mask is None else mask.flatten().nonzero().squeeze(1)
        x_BSD = self.embed(ids_BS.to(self.device))
        heads = self.config.encoder_heads
        for layer in self._encoder:
            q, k, v = layer.self_query_key_value(layer.self_norm(x_BSD)).chunk(3, dim=-1)
            q, k, v = (split_heads(part, heads) for part in (q, k, v))
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x_BSD = x_BSD + layer.self_output(mixed.transpose(1, 2).flatten(2))
            x_BSD = self.feed(layer, x_BSD, tokens)
        return x_BSD

    def feed(self, layer: Layer, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Run the feed-forward sublayer with norm and residual connection.

        If `tokens` is given, the experts only process these rows.
        """
        normed = layer.feed_forward_norm(x)
        if layer.feed_forward is not None:
            return x + layer.feed_forward(normed)
        assert layer.router is not None
        rows = normed.reshape(-1, normed.shape[-1])
        chosen = rows if tokens is None else rows[tokens]
        if layer.name in self._mixtures:
            mixed = self._mixtures[layer.name](chosen)
        else:
            mixed = mixture_of_experts(
                chosen,
                layer.router,
                partial(self.store.expert_weights, layer.name),
                output_masking=self.config.expert_output_masking,
            )
        if tokens is not None:
            mixed = torch.zeros_like(rows).index_copy(0, tokens, mixed)
        return x + mixed.view(x.shape)

    def decode(
        self, memory: Memory, *, width: int, max_positions: int, choice: OutputChoice | None = None
    ) -> "Decoding":
        """Start decoding."""
        assert isinstance(memory, TorchMemory)
        return _TorchDecoding(self, memory, width=width, max_positions=max_positions, choice=choice)

    def decoder_step(
        self, x_RPD: Tensor, cache: Tensor, memory: TorchMemory, *, before: int
    ) -> Tensor:
        """Run the decoder over P new positions.

        The keys and values of the new positions are written to `cache` (L, 2, R, H, C, D / H).
        """
        rows, new, _ = x_RPD.shape
        after = before + new
        heads = self.config.decoder_heads
        mask = None
        if new > 1:
            mask = torch.ones(new, after, dtype=torch.bool, device=self.device).tril(before)
        for number, layer in enumerate(self.decoder_layers):
            assert layer.cross_norm and layer.cross_query and layer.cross_output
            q, k, v = (
                split_heads(part, heads)
                for part in layer.self_query_key_value(layer.self_norm(x_RPD)).chunk(3, dim=-1)
            )
            cache[number, 0, :rows, :, before:after], cache[number, 1, :rows, :, before:after] = (
                k,
                v,
            )
            k, v = cache[number, 0, :rows, :, :after], cache[number, 1, :rows, :, :after]
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x_RPD = x_RPD + layer.self_output(mixed.transpose(1, 2).flatten(2))
            # The rows of a sentence are query positions of one attention, so that the keys and
            # values are not replicated.
            query = layer.cross_query(layer.cross_norm(x_RPD)).view(
                memory.num_sentences, -1, x_RPD.shape[-1]
            )
            k, v = memory.keys_values[number, 0], memory.keys_values[number, 1]
            mixed = functional.scaled_dot_product_attention(
                split_heads(query, heads), k, v, attn_mask=memory.mask
            )
            x_RPD = x_RPD + layer.cross_output(mixed.transpose(1, 2).reshape(x_RPD.shape))
            x_RPD = self.feed(layer, x_RPD)
        return self.decoder_norm(x_RPD[:, -1])


def split_heads(x_BLD: Tensor, heads: int) -> Tensor:
    """Return (B, H, L, D / H)."""
    heads_BHLC: Tensor = x_BLD.unflatten(-1, (heads, -1)).transpose(1, 2)
    return heads_BHLC


class _TorchDecoding(Decoding):
    def __init__(
        self,
        engine: TorchEngine,
        memory: TorchMemory,
        *,
        width: int,
        max_positions: int,
        choice: OutputChoice | None,
    ):
        config = engine.config
        self._engine, self._memory, self._choice = engine, memory, choice
        self._sentences = np.arange(memory.num_sentences)
        shape = (
            config.decoder_layers,
            2,
            memory.num_sentences * width,
            config.decoder_heads,
            max_positions,
        )
        head_dim = config.model_dim // config.decoder_heads
        self._cache = torch.empty(*shape, head_dim, device=engine.device, dtype=engine.dtype)
        self._length = self._rows = 0
        self._extra = None if choice is None else _pad_extra(choice.extra)

    @torch.inference_mode()
    def advance(self, tokens_RP: np.ndarray, parents_R: np.ndarray, sentences: np.ndarray) -> None:
        engine, rows = self._engine, len(tokens_RP)
        if len(sentences) < len(self._sentences):
            kept = np.searchsorted(self._sentences, sentences)
            self._memory, self._sentences = (
                self._memory.keep(torch.from_numpy(kept).to(engine.device)),
                sentences,
            )
        if self._length and (rows != self._rows or (parents_R != np.arange(rows)).any()):
            parents = torch.from_numpy(parents_R).to(engine.device)
            self._cache[:, :, :rows, :, : self._length] = self._cache[
                :, :, parents, :, : self._length
            ]
        tokens = torch.from_numpy(tokens_RP).to(engine.device)
        x_RPD = engine.embed(tokens, before=self._length)
        self._state_RD = engine.decoder_step(x_RPD, self._cache, self._memory, before=self._length)
        self._length, self._rows = self._length + tokens.shape[1], rows

    def _open_logits(self) -> tuple[Tensor, Tensor | None]:
        """Return the logits of the allowed tokens, and their ids (V) or (R, V) if restricted."""
        engine = self._engine
        if self._choice is None:
            return engine.projection(self._state_RD).float(), None
        assert callable(self._choice.projection) and self._extra is not None
        logits = self._choice.projection(self._state_RD).float()
        ids = torch.from_numpy(self._choice.ids).to(engine.device)
        extra_BE = self._extra[self._sentences].to(engine.device)
        if not extra_BE.shape[1]:
            return logits, ids
        rows_BED = engine.embedding_rows(extra_BE.clamp_min(0))
        state_BWD = self._state_RD.view(len(extra_BE), -1, rows_BED.shape[-1])
        further = (
            (state_BWD @ rows_BED.transpose(1, 2))
            .float()
            .masked_fill((extra_BE < 0)[:, None], -math.inf)
        )
        ids_BV = torch.cat([ids.expand(len(extra_BE), -1), extra_BE], dim=1)
        ids_RV = ids_BV.repeat_interleave(state_BWD.shape[1], dim=0)
        return torch.cat([logits, further.flatten(0, 1)], dim=1), ids_RV

    @torch.inference_mode()
    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        logits, ids = self._open_logits()
        values, chosen = logits.topk(min(count, logits.shape[1]), dim=-1)
        values = values - logits.logsumexp(-1, keepdim=True)
        if ids is not None:
            chosen = ids[chosen] if ids.ndim == 1 else ids.gather(1, chosen)
        return values.cpu().numpy(), chosen.cpu().numpy()

    @torch.inference_mode()
    def logits(self) -> Tensor:
        logits, ids = self._open_logits()
        if ids is None:
            return logits.cpu()
        whole = torch.full(
            (len(logits), self._engine.config.vocabulary_size + 1), -math.inf, device=logits.device
        )
        ids = ids.expand(len(logits), -1)
        # The padding of `extra` is scattered to an additional last column.
        ids = ids.where(ids >= 0, self._engine.config.vocabulary_size)
        return whole.scatter_(1, ids, logits)[:, :-1].cpu()


def _pad_extra(extra: Sequence[np.ndarray]) -> Tensor:
    padded = torch.full(
        (len(extra), max((len(ids) for ids in extra), default=0)), -1, dtype=torch.int64
    )
    for row, ids in enumerate(extra):
        padded[row, : len(ids)] = torch.from_numpy(ids)
    return padded
