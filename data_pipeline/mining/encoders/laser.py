"""LASER2 and LASER3 in plain torch; they read the official checkpoints.

LASER2 is a bidirectional LSTM of five layers with max pooling over its outputs, including the end
of sentence. LASER3 models are transformer students of LASER2, one per language or language family,
whose sentence vector is the first position (`cls`) or the maximum.

Shapes: B sentences, T tokens, D model dimension, H heads.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy
import regex
import torch
from torch import Tensor, nn
from torch.nn import functional

from nllb.config.fingerprints import fingerprint
from nllb.errors import CheckpointError
from nllb.io.piece_models import open_pieces
from nllb.io.text import read_lines
from nllb.languages.normalization import normalize_punctuation
from nllb.model.formats.torch_files import load_torch_file, record_fields
from nllb.model.formats.weights import without_prefix

from ..mining_config import Precision
from .encoder import Vectors, check_finite, encode_in_batches

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPECIALS: Final = ("<s>", "<pad>", "</s>", "<unk>")
_BEGIN, _PAD, _END, _UNKNOWN = range(4)
_OTHER: Final = regex.compile(r"\p{C}")
_LAYER: Final = re.compile(r"layers\.(\d+)\.")


def load_laser(path: Path, dtype: Precision = "float32") -> "LaserEncoder":
    """Read a LASER2 or LASER3 checkpoint; the contents of the file determine which one it is.

    The SentencePiece model is `STEM.spm` or `laser2.spm` next to the checkpoint; the dictionary of
    LASER3 is `STEM.cvocab` or `laser2.cvocab`. A processor with AMX is more than twice as fast in
    bfloat16; cosines then differ in the fourth digit or later.

    Raises:
        CheckpointError: if the file is truncated, of another kind, or does not match its
            dictionary.
    """
    state = _load(path)
    model: Laser2 | Laser3
    if {"params", "model", "dictionary"} <= state.keys():
        dictionary = _dictionary(path, state)
        model = _build_laser2(path, _weights(path, state), state["params"])
    elif {"cfg", "model"} <= state.keys():
        dictionary = _read_dictionary(_beside(path, "cvocab"))
        weights, settings = _laser3_weights(path, _weights(path, state), state["cfg"])
        if "layer_norm.weight" in weights:
            dictionary["<mask>"] = len(dictionary)
        model = _build_laser3(path, weights, settings)
    else:
        raise CheckpointError(
            f"{path} is not a LASER checkpoint: it contains "
            f"{', '.join(_names(state)) or 'no names'}; LASER2 checkpoints contain params, model "
            "and dictionary, and LASER3 checkpoints contain cfg and model"
        )
    rows = int(model.get_parameter("embed_tokens.weight").shape[0])
    largest = max(dictionary.values(), default=-1)
    if largest >= rows or rows - len(dictionary) > len(SPECIALS):
        raise CheckpointError(
            f"{path}: the dictionary has {len(dictionary):,} entries up to number {largest:,}, the "
            f"weights {rows:,} rows; use the dictionary that came with the checkpoint"
        )
    pieces = open_pieces(_beside(path, "spm"))
    return LaserEncoder(path=path, model=model, dictionary=dictionary, pieces=pieces, dtype=dtype)


class LaserEncoder:
    """A LASER2 or LASER3 model with LASER's preprocessing, dictionary and batching."""

    def __init__(
        self,
        *,
        path: Path,
        model: "Laser2 | Laser3",
        dictionary: dict[str, int],
        pieces: "SentencePieceProcessor",
        dtype: Precision = "float32",
    ) -> None:
        self.name = path.stem
        status = path.stat()
        self.key = fingerprint("laser", path.stem, status.st_size, status.st_mtime_ns, dtype)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().to(self.device, getattr(torch, dtype))
        self.dimension = model.dimension
        self._dictionary = dictionary
        self._pieces = pieces

    def tokens(self, sentence: str) -> list[int]:
        """Return the ids of a sentence's pieces, followed by the end of sentence."""
        pieces = self._pieces.encode(prepare(sentence), out_type=str)
        return [self._dictionary.get(piece, _UNKNOWN) for piece in pieces] + [_END]

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        """Return the vectors of sentences; `language` is ignored."""
        vectors = encode_in_batches(
            [self.tokens(sentence) for sentence in sentences], self.dimension, self._forward
        )
        check_finite(vectors, self.name)
        vectors[[not sentence.strip() for sentence in sentences]] = 0
        return vectors

    @torch.inference_mode()
    def _forward(self, token_lists: list[Sequence[int]]) -> Vectors:
        lengths = torch.tensor([len(tokens) for tokens in token_lists])
        tokens_BT = torch.full((len(token_lists), int(lengths.max())), _PAD)
        for row, tokens in enumerate(token_lists):
            tokens_BT[row, : len(tokens)] = torch.tensor(tokens)
        found: Vectors = self._model(tokens_BT.to(self.device), lengths).float().cpu().numpy()
        return found


def prepare(sentence: str) -> str:
    """Return a sentence, normalized as in LASER's training."""
    return normalize_punctuation(_OTHER.sub(" ", sentence)).lower()


class Laser2(nn.Module):
    """The bidirectional LSTM with max pooling."""

    def __init__(self, *, vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, embedding, padding_idx=_PAD)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=layers, bidirectional=True)
        self.dimension = 2 * hidden

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the vectors of sentences, which must be sorted by descending length."""
        embedded_TBD = self.embed_tokens(tokens_BT).transpose(0, 1)
        packed = nn.utils.rnn.pack_padded_sequence(embedded_TBD, lengths_B)
        output, _ = self.lstm(packed)
        output_TBD, _ = nn.utils.rnn.pad_packed_sequence(output, padding_value=-torch.inf)
        pooled: Tensor = output_TBD.amax(0)
        return pooled


class Laser3Layer(nn.Module):
    """A post-norm transformer layer."""

    def __init__(self, *, dimension: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.self_attn = nn.ModuleDict(
            {f"{name}_proj": nn.Linear(dimension, dimension) for name in ("q", "k", "v", "out")}
        )
        self.self_attn_layer_norm = nn.LayerNorm(dimension)
        self.fc1 = nn.Linear(dimension, feed_forward)
        self.fc2 = nn.Linear(feed_forward, dimension)
        self.final_layer_norm = nn.LayerNorm(dimension)

    def forward(self, x_BTD: Tensor, allowed_BT: Tensor, heads: int) -> Tensor:
        """Return the layer's output."""
        batch, length, dimension = x_BTD.shape

        def split(name: str) -> Tensor:
            projected: Tensor = self.self_attn[name](x_BTD)
            return projected.view(batch, length, heads, dimension // heads).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(
            split("q_proj"), split("k_proj"), split("v_proj"), allowed_BT[:, None, None, :]
        )
        attended = attended.transpose(1, 2).reshape(batch, length, dimension)
        attended = self._dropped(self.self_attn["out_proj"](attended))
        x_BTD = self.self_attn_layer_norm(x_BTD + attended)
        inner = self._dropped(self.fc2(functional.relu(self.fc1(x_BTD))))
        output: Tensor = self.final_layer_norm(x_BTD + inner)
        return output

    def _dropped(self, x_BTD: Tensor) -> Tensor:
        return functional.dropout(x_BTD, self.dropout, self.training)


class Laser3(nn.Module):
    """A transformer student, pooled by first position or maximum, with an optional last norm."""

    def __init__(
        self,
        *,
        vocabulary: int,
        dimension: int,
        feed_forward: int,
        layers: int,
        heads: int,
        pool_first: bool,
        prepend_begin: bool,
        last_norm: bool,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, dimension, padding_idx=_PAD)
        self.layers = nn.ModuleList(
            Laser3Layer(dimension=dimension, feed_forward=feed_forward, dropout=dropout)
            for _ in range(layers)
        )
        # The norm of the masked-word head is named like a norm after the last layer. The reference
        # code therefore applies it there at inference, and so must we to get the same vectors.
        self.layer_norm = nn.LayerNorm(dimension) if last_norm else None
        self.heads, self.dimension = heads, dimension
        self.pool_first, self.prepend_begin = pool_first, prepend_begin
        self.dropout = dropout

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Return the vectors."""
        return self.pool(*self.states(tokens_BT))

    def states(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of all positions, and a mask of those that are not padding."""
        if self.prepend_begin:
            tokens_BT = functional.pad(tokens_BT, (1, 0), value=_BEGIN)
        allowed_BT = tokens_BT != _PAD
        positions_BT = allowed_BT.cumsum(1) * allowed_BT + _PAD
        table_PD = sinusoids(int(positions_BT.max()) + 1, self.dimension)
        table_PD = table_PD.to(self.embed_tokens.weight)
        x_BTD = self.embed_tokens(tokens_BT) * self.dimension**0.5 + table_PD[positions_BT]
        x_BTD = functional.dropout(x_BTD, self.dropout, self.training) * allowed_BT[..., None]
        for layer in self.layers:
            x_BTD = layer(x_BTD, allowed_BT, self.heads)
        if self.layer_norm is not None:
            x_BTD = self.layer_norm(x_BTD)
        return x_BTD, allowed_BT

    def pool(self, x_BTD: Tensor, allowed_BT: Tensor) -> Tensor:
        """Return one vector per sentence."""
        if self.pool_first:
            return x_BTD[:, 0]
        return x_BTD.masked_fill(~allowed_BT[..., None], -torch.inf).amax(1)


@cache
def sinusoids(count: int, dimension: int) -> Tensor:
    """Return fairseq's position embeddings: all sines, then all cosines; padding is zero."""
    half = dimension // 2
    rates = torch.exp(torch.arange(half) * -(numpy.log(10_000) / (half - 1)))
    angles = torch.arange(count)[:, None] * rates[None, :]
    table = torch.cat([angles.sin(), angles.cos()], dim=1).float()
    if dimension % 2:
        table = functional.pad(table, (0, 1))
    table[_PAD] = 0
    return table


def _build_laser2(path: Path, weights: dict[str, Tensor], params: Any) -> Laser2:
    """Build the model after checking that the weights have the sizes of `params`."""
    params = record_fields(params)
    names = ("num_embeddings", "embed_dim", "hidden_size", "num_layers")
    sizes = [params.get(name) for name in names]
    if not all(type(size) is int and size > 0 for size in sizes):
        raise CheckpointError(
            f"{path}: the params of LASER2 must contain {', '.join(names)} as numbers above 0"
        )
    vocabulary, embedding, hidden, layers = cast(list[int], sizes)
    expected = {
        "embed_tokens.weight": (vocabulary, embedding),
        "lstm.weight_hh_l0": (4 * hidden, hidden),
        f"lstm.weight_hh_l{layers - 1}": (4 * hidden, hidden),
    }
    _require_shapes(path, weights, expected)
    model = Laser2(vocabulary=vocabulary, embedding=embedding, hidden=hidden, layers=layers)
    _fill(path, model, weights)
    return model


def _laser3_weights(
    path: Path, weights: dict[str, Tensor], cfg: Any
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the encoder's weights without prefixes, and the settings of the model."""
    settings = record_fields(record_fields(cfg).get("model"))
    if "decoder.version" in weights:
        weights = {name: value for name, value in weights.items() if name[:8] != "decoder."}
    weights = {name.removeprefix("encoder."): value for name, value in weights.items()}
    if "embed_tokens.weight" not in weights:
        raise CheckpointError(f"{path}: not a LASER3 encoder: embed_tokens.weight is missing")
    return weights, settings


def _build_laser3(path: Path, weights: dict[str, Tensor], settings: dict[str, Any]) -> Laser3:
    numbers = {int(found[1]) for name in weights if (found := _LAYER.match(name))}
    if not numbers or "layers.0.fc1.weight" not in weights:
        raise CheckpointError(f"{path}: not a LASER3 encoder: layers.N.fc1.weight is missing")
    table, inner = weights["embed_tokens.weight"], weights["layers.0.fc1.weight"]
    heads = settings.get("encoder_attention_heads", 4)
    if table.dim() != 2 or inner.dim() != 2 or inner.shape[1] != table.shape[1]:
        raise CheckpointError(f"{path} is damaged: its embeddings and layers have different widths")
    vocabulary, dimension = table.shape
    if type(heads) is not int or heads < 1 or dimension % heads or dimension < 4:
        raise CheckpointError(
            f"{path}: {repr(heads)[:40]} attention heads for vectors of {dimension} values"
        )
    last = f"layers.{len(numbers) - 1}.fc1.weight"
    _require_shapes(path, weights, {last: tuple(inner.shape)})
    model = Laser3(
        vocabulary=vocabulary,
        dimension=dimension,
        feed_forward=len(inner),
        layers=len(numbers),
        heads=heads,
        pool_first=settings.get("sentemb_criterion", "maxpool") == "cls",
        prepend_begin=bool(settings.get("prepend_bos", False)),
        last_norm="layer_norm.weight" in weights,
    )
    kept = {name: value for name, value in weights.items() if name in model.state_dict()}
    _fill(path, model, kept)
    return model


def _require_shapes(
    path: Path, weights: dict[str, Tensor], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Check the shapes of weights before a model of these sizes is built."""
    for name, shape in expected.items():
        if name not in weights:
            raise CheckpointError(
                f"{path}: {name} is missing; the file is incomplete or of another kind"
            )
        if tuple(weights[name].shape) != shape:
            raise CheckpointError(
                f"{path} is damaged: {name} has the shape {tuple(weights[name].shape)}, but the "
                f"other weights require {shape}"
            )


def _fill(path: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, value in weights.items():
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path}: {name} contains NaN, infinity or integers; download the file again"
            )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not match the model: {error}") from None


def _load(path: Path) -> dict[str, Any]:
    state = load_torch_file(path, check_sums=True)
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a LASER checkpoint, but a {type(state).__name__}")
    return state


def _weights(path: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    model = state["model"]
    if not isinstance(model, Mapping):
        raise CheckpointError(
            f"{path}: its `model` must map names to tensors, got a {type(model).__name__}"
        )
    tensors = {
        name: value
        for name, value in model.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    return {name: tensors[stored] for name, stored in without_prefix(tensors).items()}


def _dictionary(path: Path, state: dict[str, Any]) -> dict[str, int]:
    dictionary = state["dictionary"]
    if not isinstance(dictionary, Mapping) or not all(
        isinstance(token, str) and type(number) is int and number >= 0
        for token, number in dictionary.items()
    ):
        raise CheckpointError(f"{path} is damaged: its dictionary must map tokens to numbers")
    return dict(dictionary)


def _names(state: dict[Any, Any]) -> list[str]:
    return sorted(name[:40] for name in state if isinstance(name, str))[:6]


def _beside(path: Path, suffix: str) -> Path:
    choices = [path.with_suffix(f".{suffix}"), path.with_name(f"laser2.{suffix}")]
    for choice in choices:
        if choice.is_file():
            return choice
    raise CheckpointError(
        f"{path}: {choices[0].name} or {choices[1].name} must be next to the checkpoint; put it "
        f"into {path.parent}"
    )


def _read_dictionary(path: Path) -> dict[str, int]:
    """Read a fairseq dictionary: `token count` lines; four special tokens come before them."""
    dictionary = {token: number for number, token in enumerate(SPECIALS)}
    for number, line in enumerate(read_lines(path), 1):
        token, separator, count = line.rpartition(" ")
        if not separator or not count.isdigit():
            raise CheckpointError(f"{path}:{number}: expected `token count`, got {line[:60]!r}")
        dictionary.setdefault(token, len(dictionary))
    return dictionary
