"""A pretrained multilingual text encoder of BERT's architecture, in plain torch.

Notable:
* post-norm layers: each sublayer's output is added to its input and normalised;
* GELU with the error function, biases everywhere, learned positions counted from 0;
* one token type, whose vector is added to every embedding;
* the states of the embeddings (layer 0) and of every layer are available, because uses differ:
  sentence vectors use the last layer, word alignment a middle one, and a decoder a mix of all;
* `load_state_dict` reads the names of `list_encoder_weights`; `formats/encoder_weights.tsv` maps
  them to those of transformers' `BertModel`, which computes the same function.

Shapes: B batch, S sequence length, D model dim, H heads, C head dim, L requested layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nllb.errors import CheckpointError

_Rows = Annotated[int, Field(ge=1, le=1 << 24)]
_Width = Annotated[int, Field(ge=1, le=1 << 16)]
_Layers = Annotated[int, Field(ge=1, le=1000)]
_TokenId = Annotated[int, Field(ge=0, lt=1 << 24)]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """The shape of a pretrained encoder.

    Attributes:
        vocabulary_size: rows of the embedding.
        model_dim: width of the states.
        num_layers: layers.
        num_heads: attention heads of a layer.
        ffn_dim: inner width of a feed-forward layer.
        max_positions: maximum sequence length in tokens, including special tokens.
        num_token_types: rows of the table of token types, of which only the first is used.
        norm_epsilon: term that a layer norm adds to the variance.
        bos_id: id of <s>, which begins a sequence.
        pad_id: id of <pad>.
        eos_id: id of </s>, which ends a sequence.
        unk_id: id of <unk>.
    """

    vocabulary_size: _Rows
    model_dim: _Width
    num_layers: _Layers
    num_heads: _Width
    ffn_dim: _Width
    max_positions: _Width
    num_token_types: _Width = 1
    norm_epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-12
    bos_id: _TokenId = 0
    pad_id: _TokenId = 1
    eos_id: _TokenId = 2
    unk_id: _TokenId = 3

    def check(self, where: object) -> "EncoderConfig":
        """Return this configuration if its sizes are consistent.

        Raises:
            CheckpointError: the sizes are inconsistent; the message names `where`.
        """
        special = (self.bos_id, self.pad_id, self.eos_id, self.unk_id)
        if self.model_dim % self.num_heads:
            raise CheckpointError(
                f"{where}: a width of {self.model_dim} cannot be divided among {self.num_heads} "
                f"heads"
            )
        if len(set(special)) < len(special) or max(special) >= self.vocabulary_size:
            raise CheckpointError(
                f"{where}: the ids of <s>, <pad>, </s> and <unk> are {special}; they must differ "
                f"and be below the vocabulary's size, {self.vocabulary_size}"
            )
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderWeight:
    """One tensor of a pretrained encoder.

    Attributes:
        name: name in `PretrainedEncoder.state_dict()`.
        shape: shape of the tensor.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def is_matrix(self) -> bool:
        """Whether it is multiplied with states or is the embedding of the vocabulary.

        The tables of positions and token types are small and count as vectors.
        """
        return len(self.shape) == 2 and not self.name.startswith(("positions", "token_types"))


def list_encoder_weights(config: EncoderConfig) -> Iterator[EncoderWeight]:
    """Yield every weight of an encoder."""
    dim = config.model_dim
    tables = {
        "embedding": config.vocabulary_size,
        "positions": config.max_positions,
        "token_types": config.num_token_types,
    }
    for name, rows in tables.items():
        yield EncoderWeight(name=f"{name}.weight", shape=(rows, dim))
    yield from _with_bias("embedding_norm", (dim,))
    for layer in range(config.num_layers):
        for name in ("query", "key", "value", "output"):
            yield from _with_bias(f"layers.{layer}.{name}", (dim, dim))
        yield from _with_bias(f"layers.{layer}.attention_norm", (dim,))
        yield from _with_bias(f"layers.{layer}.inner", (config.ffn_dim, dim))
        yield from _with_bias(f"layers.{layer}.outer", (dim, config.ffn_dim))
        yield from _with_bias(f"layers.{layer}.feed_forward_norm", (dim,))


def _with_bias(name: str, shape: tuple[int, ...]) -> Iterator[EncoderWeight]:
    yield EncoderWeight(name=f"{name}.weight", shape=shape)
    yield EncoderWeight(name=f"{name}.bias", shape=shape[:1])


class PostNormLayer(nn.Module):
    """Self-attention and a feed-forward layer, each followed by its norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim, self.num_heads = config.model_dim, config.num_heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.output = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=config.norm_epsilon)
        self.inner = nn.Linear(dim, config.ffn_dim)
        self.outer = nn.Linear(config.ffn_dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim, eps=config.norm_epsilon)

    def forward(self, x_BSD: Tensor, mask: Tensor) -> Tensor:
        """Transform the states; `mask` broadcasts to B, H, S, S and is true for visible keys."""
        mixed_BHSC = functional.scaled_dot_product_attention(
            self._split(self.query(x_BSD)),
            self._split(self.key(x_BSD)),
            self._split(self.value(x_BSD)),
            attn_mask=mask,
        )
        attended_BSD = self.output(mixed_BHSC.transpose(1, 2).flatten(2))
        x_BSD = self.attention_norm(x_BSD + attended_BSD)
        fed_BSD = self.outer(functional.gelu(self.inner(x_BSD)))
        output_BSD: Tensor = self.feed_forward_norm(x_BSD + fed_BSD)
        return output_BSD

    def _split(self, x_BSD: Tensor) -> Tensor:
        batch, length, dim = x_BSD.shape
        return x_BSD.view(batch, length, self.num_heads, dim // self.num_heads).transpose(1, 2)


class PretrainedEncoder(nn.Module):
    """The whole encoder, from token ids to states."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config, dim = config, config.model_dim
        self.embedding = nn.Embedding(config.vocabulary_size, dim)
        self.positions = nn.Embedding(config.max_positions, dim)
        self.token_types = nn.Embedding(config.num_token_types, dim)
        self.embedding_norm = nn.LayerNorm(dim, eps=config.norm_epsilon)
        self.layers = nn.ModuleList(PostNormLayer(config) for _ in range(config.num_layers))

    def forward(self, ids_BS: Tensor, *, layers: Sequence[int] | None = None) -> Tensor:
        """Encode sequences that are padded on the right with `pad_id`.

        Args:
            ids_BS: token ids, at most `max_positions` per sequence.
            layers: the layers whose states are returned; 0 is the embeddings, and negative numbers
                count from the last layer. None returns all.

        Returns:
            states_LBSD, in the order of `layers`. States at padding are meaningless but finite.
        """
        wanted = layer_numbers(self.config, layers)
        is_token_BS = ids_BS != self.config.pad_id
        # A row of only padding attends to itself, because a softmax over nothing would be NaN.
        seen_BS = is_token_BS | ~is_token_BS.any(1, keepdim=True)
        x_BSD = self.embed(ids_BS)
        states = {0: x_BSD}
        for number, layer in enumerate(self.layers, 1):
            if number > max(wanted):
                break
            x_BSD = layer(x_BSD, seen_BS[:, None, None, :])
            states[number] = x_BSD
        return torch.stack([states[number] for number in wanted])

    def embed(self, ids_BS: Tensor) -> Tensor:
        """Return the normalised sums of the embeddings of tokens, positions and the token type."""
        if ids_BS.shape[1] > self.config.max_positions:
            raise ValueError(
                f"a sequence of {ids_BS.shape[1]} tokens; the encoder accepts at most "
                f"{self.config.max_positions}"
            )
        positions_SD = self.positions.weight[: ids_BS.shape[1]]
        x_BSD = self.embedding(ids_BS) + positions_SD + self.token_types.weight[0]
        normed_BSD: Tensor = self.embedding_norm(x_BSD)
        return normed_BSD


def layer_numbers(config: EncoderConfig, layers: Sequence[int] | None) -> list[int]:
    """Return layers as numbers from 0 (the embeddings) to `num_layers`.

    Raises:
        ValueError: the encoder does not have one of the layers.
    """
    last = config.num_layers
    asked = range(last + 1) if layers is None else layers
    numbers = [number + last + 1 if number < 0 else number for number in asked]
    if not numbers or not all(0 <= number <= last for number in numbers):
        raise ValueError(
            f"layers {layers}: the encoder has layers 0 to {last}, or -1 to {-last - 1}"
        )
    return numbers
