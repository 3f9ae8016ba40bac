"""LASER2 and LASER3 in plain torch, from the official checkpoints.

LASER2 is a bidirectional LSTM of five layers whose outputs are pooled by their maximum, the end of
sentence included. LASER3 are transformer students of it, one for each language or family, with
the first position (`cls`) or the maximum as the sentence's vector.

Shapes: B sentences, T tokens, D model dimension, H heads.
"""

import pickle
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from zipfile import BadZipFile, ZipFile

import numpy
import regex
import sentencepiece
import torch
from torch import Tensor, nn
from torch.nn import functional

from data_pipeline.mining.encoders import Vectors, check_finite, encode_in_batches
from data_pipeline.mining.mining_config import Precision
from data_pipeline.stages import content_key
from nllb.errors import CheckpointError
from nllb.io.text import read_lines
from nllb.languages.normalization import normalize_punctuation

SPECIALS: Final = ("<s>", "<pad>", "</s>", "<unk>")
_BEGIN, _PAD, _END, _UNKNOWN = range(4)
_OTHER: Final = regex.compile(r"\p{C}")
_LAYER: Final = re.compile(r"layers\.(\d+)\.")


def load_laser(path: Path, dtype: Precision = "float32") -> "LaserEncoder":
    """Read a LASER2 or LASER3 checkpoint; both kinds are told apart by what the file holds.

    The SentencePiece model is `STEM.spm` or `laser2.spm` beside the checkpoint, the dictionary of
    LASER3 `STEM.cvocab` or `laser2.cvocab`. In bfloat16 a processor with AMX is more than
    twice as fast; cosines then differ in the fourth digit or later.

    Raises:
        CheckpointError: where the file is cut short, of another kind, or does not fit its
            dictionary.
    """
    state = _load(path)
    model: Laser2 | Laser3
    if {"params", "model", "dictionary"} <= state.keys():
        dictionary = {str(token): int(number) for token, number in state["dictionary"].items()}
        model = _build_laser2(path, state)
    elif {"cfg", "model"} <= state.keys():
        dictionary = _read_dictionary(_beside(path, "cvocab"))
        weights, settings = _laser3_weights(path, state)
        if "layer_norm.weight" in weights:
            dictionary["<mask>"] = len(dictionary)
        model = _build_laser3(path, weights, settings)
    else:
        raise CheckpointError(
            f"{path} is no LASER checkpoint: it holds {', '.join(sorted(map(str, state))[:6])}; "
            "LASER2 has params, model, dictionary, and LASER3 has cfg, model"
        )
    rows = int(model.get_parameter("embed_tokens.weight").shape[0])
    largest = max(dictionary.values(), default=-1)
    if largest >= rows or rows - len(dictionary) > len(SPECIALS):
        raise CheckpointError(
            f"{path}: the dictionary has {len(dictionary):,} entries up to number {largest:,}, the "
            f"weights {rows:,} rows; use the dictionary that came with the checkpoint"
        )
    pieces = _open_pieces(_beside(path, "spm"))
    return LaserEncoder(path=path, model=model, dictionary=dictionary, pieces=pieces, dtype=dtype)


class LaserEncoder:
    """LASER's preprocessing, dictionary and batches around a model of either kind."""

    def __init__(
        self,
        *,
        path: Path,
        model: "Laser2 | Laser3",
        dictionary: dict[str, int],
        pieces: sentencepiece.SentencePieceProcessor,
        dtype: Precision = "float32",
    ) -> None:
        self.name = path.stem
        status = path.stat()
        self.key = content_key("laser", path.stem, status.st_size, status.st_mtime_ns, dtype)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.eval().to(self.device, getattr(torch, dtype))
        self.dimension = model.dimension
        self._dictionary = dictionary
        self._pieces = pieces

    def tokens(self, sentence: str) -> list[int]:
        """Return the numbers of a sentence's pieces in the dictionary, and the end of sentence."""
        pieces = self._pieces.encode(prepare(sentence), out_type=str)
        return [self._dictionary.get(piece, _UNKNOWN) for piece in pieces] + [_END]

    def encode(self, sentences: Sequence[str], language: str) -> Vectors:
        """Return the vectors; `language` changes nothing."""
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
    """Return a sentence as LASER's models were trained on it."""
    return normalize_punctuation(_OTHER.sub(" ", sentence)).lower()


class Laser2(nn.Module):
    """The bidirectional LSTM with maximum pooling."""

    def __init__(self, *, vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, embedding, padding_idx=_PAD)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=layers, bidirectional=True)
        self.dimension = 2 * hidden

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the vectors of sentences that come longest first."""
        embedded_TBD = self.embed_tokens(tokens_BT).transpose(0, 1)
        packed = nn.utils.rnn.pack_padded_sequence(embedded_TBD, lengths_B)
        output, _ = self.lstm(packed)
        output_TBD, _ = nn.utils.rnn.pad_packed_sequence(output, padding_value=-torch.inf)
        pooled: Tensor = output_TBD.amax(0)
        return pooled


class Laser3Layer(nn.Module):
    """A transformer layer with the norms behind the sums."""

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
    """A transformer student; reads first position or maximum, with or without a last norm."""

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
        # The head of masked-word training has the name of a norm behind the last layer, so the
        # reference applies it there at inference, and vectors are only comparable if we do too.
        self.layer_norm = nn.LayerNorm(dimension) if last_norm else None
        self.heads, self.dimension = heads, dimension
        self.pool_first, self.prepend_begin = pool_first, prepend_begin
        self.dropout = dropout

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Return the vectors."""
        return self.pool(*self.states(tokens_BT))

    def states(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of all positions, and which of them are not padding."""
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
        """Return one vector for each sentence."""
        if self.pool_first:
            return x_BTD[:, 0]
        return x_BTD.masked_fill(~allowed_BT[..., None], -torch.inf).amax(1)


@cache
def sinusoids(count: int, dimension: int) -> Tensor:
    """Return fairseq's table of positions: all sines, then all cosines; padding is zero."""
    half = dimension // 2
    rates = torch.exp(torch.arange(half) * -(numpy.log(10_000) / (half - 1)))
    angles = torch.arange(count)[:, None] * rates[None, :]
    table = torch.cat([angles.sin(), angles.cos()], dim=1).float()
    if dimension % 2:
        table = functional.pad(table, (0, 1))
    table[_PAD] = 0
    return table


def _build_laser2(path: Path, state: dict[str, Any]) -> Laser2:
    params = state["params"]
    try:
        model = Laser2(
            vocabulary=int(params["num_embeddings"]),
            embedding=int(params["embed_dim"]),
            hidden=int(params["hidden_size"]),
            layers=int(params["num_layers"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: params of LASER2 lack or spoil {error}") from None
    _fill(path, model, state["model"])
    return model


def _laser3_weights(path: Path, state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the encoder's weights under their own names, and the settings of the model."""
    settings = state["cfg"]
    settings = settings if isinstance(settings, dict) else vars(settings)
    settings = settings.get("model") or {}
    settings = settings if isinstance(settings, dict) else vars(settings)
    weights = state["model"]
    if "decoder.version" in weights:
        weights = {name: value for name, value in weights.items() if name[:8] != "decoder."}
    weights = {name.removeprefix("encoder."): value for name, value in weights.items()}
    if "embed_tokens.weight" not in weights:
        raise CheckpointError(f"{path}: no embed_tokens.weight; this is no LASER3 encoder")
    return weights, settings


def _build_laser3(path: Path, weights: dict[str, Tensor], settings: dict[str, Any]) -> Laser3:
    numbers = {int(found[1]) for name in weights if (found := _LAYER.match(name))}
    if not numbers or "layers.0.fc1.weight" not in weights:
        raise CheckpointError(f"{path}: no layers.N.fc1.weight; this is no LASER3 encoder")
    vocabulary, dimension = weights["embed_tokens.weight"].shape
    model = Laser3(
        vocabulary=vocabulary,
        dimension=dimension,
        feed_forward=len(weights["layers.0.fc1.weight"]),
        layers=len(numbers),
        heads=int(settings.get("encoder_attention_heads", 4)),
        pool_first=settings.get("sentemb_criterion", "maxpool") == "cls",
        prepend_begin=bool(settings.get("prepend_bos", False)),
        last_norm="layer_norm.weight" in weights,
    )
    kept = {name: value for name, value in weights.items() if name in model.state_dict()}
    _fill(path, model, kept)
    return model


def _fill(path: Path, model: nn.Module, weights: dict[str, Tensor]) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit the layout: {error}") from None
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: {name} holds NaN or infinity; fetch the file again")


class _SafePickle:
    """Stands in for the module `pickle` in `torch.load`: tensors and plain records only."""

    load = pickle.load

    class Unpickler(pickle.Unpickler):
        """Finds what rebuilds tensors; every other class becomes a record without behaviour."""

        def find_class(self, module: str, name: str) -> Any:
            if (module, name) in _ALLOWED or (
                module == "torch" and (name.endswith("Storage") or name in _DTYPES)
            ):
                return super().find_class(module, name)
            if module.partition(".")[0] in ("argparse", "omegaconf", "fairseq", "types", "enum"):
                return _Record
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint")


_ALLOWED: Final = {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("builtins", "dict"),
    ("builtins", "list"),
    ("builtins", "set"),
}
_DTYPES: Final = {"float16", "float32", "float64", "int64", "int32", "bfloat16"}


class _Record(SimpleNamespace):
    """Settings of a class that is not needed to read them."""

    def __init__(self, *_values: Any, **fields: Any) -> None:
        super().__init__(**fields)


def _load(path: Path) -> dict[str, Any]:
    try:
        with ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is not None:
                raise CheckpointError(f"{path}: {damaged} is damaged; fetch the file again")
    except BadZipFile:
        raise CheckpointError(
            f"{path}: cut short, or not written by torch.save; fetch the file again"
        ) from None
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # LASER3 keeps its settings in an object of a class that weights_only refuses.
        try:
            state = torch.load(
                path, map_location="cpu", weights_only=False, pickle_module=_SafePickle
            )
        except (pickle.UnpicklingError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{path}: refused to load: {error}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, not a LASER checkpoint")
    return state


def _beside(path: Path, suffix: str) -> Path:
    choices = [path.with_suffix(f".{suffix}"), path.with_name(f"laser2.{suffix}")]
    for choice in choices:
        if choice.is_file():
            return choice
    raise CheckpointError(
        f"{path}: no {choices[0].name} or {choices[1].name} beside it; put it into {path.parent}"
    )


def _open_pieces(path: Path) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no SentencePiece model: {error}") from None


def _read_dictionary(path: Path) -> dict[str, int]:
    """Read a fairseq dictionary: `token count` lines behind the four specials."""
    dictionary = {token: number for number, token in enumerate(SPECIALS)}
    for number, line in enumerate(read_lines(path), 1):
        token, separator, count = line.rpartition(" ")
        if not separator or not count.isdigit():
            raise CheckpointError(f"{path}:{number}: expected `token count`, got {line[:60]!r}")
        dictionary.setdefault(token, len(dictionary))
    return dictionary
