"""The model configuration, read from and written to Hugging Face's `config.json`.

The architectures are `m2m_100` and `nllb-moe`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from nllb.errors import CheckpointError, DataError
from nllb.io.pointers import refuse_pointer
from nllb.io.text import read_json

from .formats.unsupported import check_architecture

Side = Literal["encoder", "decoder"]
Activation = Literal["relu", "gelu", "silu"]
SecondExpertPolicy = Literal["all", "sampling", "random"]
MemoryKind = Literal["mix", "last"]
Architecture = Literal["m2m_100", "nllb-moe", "nllb-pretrained-encoder"]

MAX_DOCUMENT_BYTES = 64 << 20
"""Maximum size of a model's JSON file; the tokenizer.json of NLLB-200 has 17 to 32 MB."""
MAX_POSITION_BYTES = 1 << 30
"""Maximum size of the table of position embeddings, which is computed and not read from a file."""
_LIMITS = {
    "vocabulary_size": 1 << 24,
    "model_dim": 1 << 17,
    "encoder_layers": 1000,
    "decoder_layers": 1000,
    "encoder_ffn_dim": 1 << 20,
    "decoder_ffn_dim": 1 << 20,
    "num_experts": 1 << 14,
    "max_positions": 1 << 20,
}
"""Maximum values, far above those of any trained model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """One encoder-decoder, dense or with mixture-of-experts layers.

    Attributes:
        vocabulary_size: rows of the shared embedding, including unused rows.
        model_dim: width of the residual stream.
        encoder_layers: number of encoder layers.
        decoder_layers: number of decoder layers.
        encoder_heads: attention heads of an encoder layer.
        decoder_heads: attention heads of a decoder layer.
        encoder_ffn_dim: inner width of an encoder feed-forward layer, and of each of its experts.
        decoder_ffn_dim: inner width of a decoder feed-forward layer, and of each of its experts.
        activation: activation of the feed-forward layers.
        max_positions: maximum sequence length of the model in tokens.
        scale_embedding: multiply embeddings by sqrt(model_dim).
        bos_id: id of <s>, which NLLB never uses.
        pad_id: id of <pad>.
        eos_id: id of </s>.
        unk_id: id of <unk>.
        decoder_start_id: id that the decoder input begins with, before the target language's token.
        pretrained_layers: layers of the pretrained encoder that replaces NLLB's own; 0 means that
            there is none. Otherwise, `encoder_layers` is 0, and the decoder starts with the target
            language's token.
        pretrained_encoder: first digits of the SHA-256 of the pretrained encoder's weights, which
            are in other files.
        memory: the states that the decoder attends to: a learned mix of all layers of the
            pretrained encoder, or the last layer.
        num_experts: number of experts in a mixture-of-experts layer; 0 means a dense model.
        encoder_sparse_step: encoder layer i (from 0) has experts iff (i + 1) is a multiple of this;
            0 means never.
        decoder_sparse_step: the same for the decoder.
        router_bias: whether the router has a bias; that of the published NLLB models does not.
        expert_output_masking: probability p that training zeroes an expert's output; evaluation
            multiplies by 1 - p.
        second_expert_policy: choice of the second expert in training; evaluation always uses the
            second best.
        normalize_before_dropping: training normalises router weights before, not after, tokens
            beyond capacity are dropped.
        batch_prioritized_routing: training fills an expert's capacity by descending router
            probability, not by position.
        eval_capacity_fraction: expert capacity at evaluation as a fraction of the tokens. It is
            only stored: evaluation never drops a token.
        dropout: dropout of embeddings and of the output of each sublayer, in training.
        attention_dropout: dropout of attention weights, in training.
        activation_dropout: dropout after the activation of a feed-forward layer, in training.
    """

    vocabulary_size: int
    model_dim: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    activation: Activation = "relu"
    max_positions: int = 1024
    scale_embedding: bool = True
    bos_id: int = 0
    pad_id: int = 1
    eos_id: int = 2
    unk_id: int = 3
    decoder_start_id: int = 2

    pretrained_layers: int = 0
    pretrained_encoder: str = ""
    memory: MemoryKind = "mix"

    num_experts: int = 0
    encoder_sparse_step: int = 0
    decoder_sparse_step: int = 0
    router_bias: bool = False
    expert_output_masking: float = 0.0
    second_expert_policy: SecondExpertPolicy = "all"
    normalize_before_dropping: bool = False
    batch_prioritized_routing: bool = False
    eval_capacity_fraction: float = 1.0

    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0

    def __post_init__(self) -> None:
        if errors := self._find_errors():
            raise CheckpointError("the model configuration is invalid: " + "; ".join(errors))

    def _find_errors(self) -> list[str]:
        errors = []
        positive = [
            "vocabulary_size",
            "model_dim",
            "encoder_heads",
            "decoder_heads",
            "max_positions",
        ]
        positive += ["decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim"]
        if self.pretrained_layers == 0:
            positive.append("encoder_layers")
        elif self.encoder_layers or not 0 < self.pretrained_layers <= _LIMITS["encoder_layers"]:
            errors.append(
                f"encoder_layers is {self.encoder_layers} and pretrained_layers "
                f"{self.pretrained_layers}; with a pretrained encoder they must be 0 and 1 to "
                f"{_LIMITS['encoder_layers']}"
            )
        if self.memory not in get_args(MemoryKind):
            valid = ", ".join(get_args(MemoryKind))
            errors.append(f"memory is {self.memory!r}; valid values are {valid}")
        errors += [
            f"{name} is {getattr(self, name)}; it must be positive"
            for name in positive
            if getattr(self, name) < 1
        ]
        errors += [
            f"{name} is {getattr(self, name)}; the maximum is {limit:,}"
            for name, limit in _LIMITS.items()
            if getattr(self, name) > limit
        ]
        if 4 * (self.max_positions + self.pad_id + 1) * self.model_dim > MAX_POSITION_BYTES:
            errors.append(
                f"max_positions is {self.max_positions}, pad_id {self.pad_id} and model_dim "
                f"{self.model_dim}: their table of position embeddings would exceed "
                f"{MAX_POSITION_BYTES >> 30} GiB"
            )
        if self.model_dim < 4 or self.model_dim % 2:
            errors.append(
                f"model_dim is {self.model_dim}; sinusoidal positions require an even number of at "
                f"least 4"
            )
        for name in ("bos_id", "pad_id", "eos_id", "unk_id", "decoder_start_id"):
            if not 0 <= getattr(self, name) < self.vocabulary_size:
                errors.append(
                    f"{_NAMES.get(name, name)} is {getattr(self, name)}, which is not a row of the "
                    f"vocabulary (0 to {self.vocabulary_size - 1})"
                )
        for name, heads in (
            ("encoder_heads", self.encoder_heads),
            ("decoder_heads", self.decoder_heads),
        ):
            if heads > 0 and self.model_dim % heads:
                errors.append(f"model_dim {self.model_dim} is not a multiple of {name} {heads}")
        if self.activation not in get_args(Activation):
            errors.append(
                f"activation is {self.activation!r}; valid values are "
                f"{', '.join(get_args(Activation))}"
            )
        if self.num_experts == 1 or self.num_experts < 0:
            errors.append(
                f"num_experts is {self.num_experts}; it must be 0 (dense) or at least 2 (top-2 "
                f"routing)"
            )
        for name in ("expert_output_masking", "dropout", "attention_dropout", "activation_dropout"):
            if not 0 <= getattr(self, name) < 1:
                errors.append(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        if self.second_expert_policy not in get_args(SecondExpertPolicy):
            valid = ", ".join(get_args(SecondExpertPolicy))
            errors.append(
                f"second_expert_policy is {self.second_expert_policy!r}; valid values are {valid}"
            )
        return errors

    def num_layers(self, side: Side) -> int:
        """Return the number of layers of the encoder or the decoder."""
        return self.encoder_layers if side == "encoder" else self.decoder_layers

    def num_heads(self, side: Side) -> int:
        """Return the number of attention heads of the encoder or the decoder."""
        return self.encoder_heads if side == "encoder" else self.decoder_heads

    def ffn_dim(self, side: Side) -> int:
        """Return the inner feed-forward width of the encoder or the decoder."""
        return self.encoder_ffn_dim if side == "encoder" else self.decoder_ffn_dim

    def is_sparse(self, side: Side, layer: int) -> bool:
        """Return whether a layer (counted from 0) has experts."""
        step = self.encoder_sparse_step if side == "encoder" else self.decoder_sparse_step
        return self.num_experts > 0 and step > 0 and (layer + 1) % step == 0

    @property
    def architecture(self) -> Architecture:
        """The architecture's name in `config.json`: transformers' name, or this package's own."""
        if self.pretrained_layers:
            return "nllb-pretrained-encoder"
        return "nllb-moe" if self.num_experts else "m2m_100"

    @classmethod
    def from_hugging_face(
        cls, values: Mapping[str, Any], *, where: str = "config.json"
    ) -> "ModelConfig":
        """Read the content of a `config.json`.

        Raises:
            CheckpointError: it describes an unsupported architecture, or lacks a value.
        """
        architecture = check_architecture(values, where)
        if values.get("tie_word_embeddings") is False:
            raise CheckpointError(
                f"{where} sets tie_word_embeddings to false; only models with tied embeddings are "
                f"supported, as all NLLB models are"
            )
        names = _NAMES | (_MOE_NAMES if architecture == "nllb-moe" else {})
        if architecture == "nllb-pretrained-encoder":
            names |= _MOE_NAMES | _PRETRAINED_NAMES
        if missing := [
            theirs
            for ours, theirs in names.items()
            if ours in _REQUIRED and values.get(theirs) is None
        ]:
            raise CheckpointError(f"{where} lacks {', '.join(missing)}")
        found: dict[str, Any] = {
            ours: _single(ours, values[theirs])
            for ours, theirs in names.items()
            if theirs in values
        }
        if architecture == "nllb-moe":  # the defaults of transformers
            for ours, default in _MOE_DEFAULTS.items():
                found.setdefault(ours, default)
        if wrong := list(_wrong_types(names, found)):
            raise CheckpointError(f"{where} cannot be used: {'; '.join(wrong)}")
        found["activation"] = {"swish": "silu"}.get(
            found.get("activation", "relu"), found.get("activation", "relu")
        )
        try:
            return cls(**{ours: value for ours, value in found.items() if value is not None})
        except CheckpointError as error:
            raise CheckpointError(f"{where}: {error}") from None

    def to_hugging_face(self) -> dict[str, Any]:
        """Return the content of a `config.json` that transformers reads."""
        names = _NAMES | (_MOE_NAMES if self.num_experts else {})
        if self.pretrained_layers:
            names |= _MOE_NAMES | _PRETRAINED_NAMES
        values = {theirs: getattr(self, ours) for ours, theirs in names.items()}
        sparse = {
            "router_dtype": "float32",
            "router_ignore_padding_tokens": False,
            "expert_capacity": 64,
        }
        return {
            "architectures": [_CLASSES[self.architecture]],
            "model_type": self.architecture,
            **values,
            **(sparse if self.num_experts else {}),
            "is_encoder_decoder": True,
            "tie_word_embeddings": True,
            "num_hidden_layers": self.encoder_layers,
            "encoder_layerdrop": 0.0,
            "decoder_layerdrop": 0.0,
            "init_std": 0.02,
            "use_cache": True,
        }


_NAMES = {
    "vocabulary_size": "vocab_size",
    "model_dim": "d_model",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "encoder_heads": "encoder_attention_heads",
    "decoder_heads": "decoder_attention_heads",
    "encoder_ffn_dim": "encoder_ffn_dim",
    "decoder_ffn_dim": "decoder_ffn_dim",
    "activation": "activation_function",
    "max_positions": "max_position_embeddings",
    "scale_embedding": "scale_embedding",
    "bos_id": "bos_token_id",
    "pad_id": "pad_token_id",
    "eos_id": "eos_token_id",
    "decoder_start_id": "decoder_start_token_id",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
}
_MOE_NAMES = {
    "num_experts": "num_experts",
    "encoder_sparse_step": "encoder_sparse_step",
    "decoder_sparse_step": "decoder_sparse_step",
    "router_bias": "router_bias",
    "expert_output_masking": "moe_token_dropout",
    "second_expert_policy": "second_expert_policy",
    "normalize_before_dropping": "normalize_router_prob_before_dropping",
    "batch_prioritized_routing": "batch_prioritized_routing",
    "eval_capacity_fraction": "moe_eval_capacity_token_fraction",
}
_PRETRAINED_NAMES = {
    "pretrained_layers": "pretrained_encoder_layers",
    "pretrained_encoder": "pretrained_encoder",
    "memory": "memory",
}
_CLASSES: dict[Architecture, str] = {
    "m2m_100": "M2M100ForConditionalGeneration",
    "nllb-moe": "NllbMoeForConditionalGeneration",
    "nllb-pretrained-encoder": "NllbOnPretrainedEncoder",  # of this package, not of transformers
}
_REQUIRED = {
    *("vocabulary_size", "model_dim", "encoder_layers", "decoder_layers"),
    *("encoder_heads", "decoder_heads", "encoder_ffn_dim", "decoder_ffn_dim"),
}
_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}
_MOE_DEFAULTS = {
    "num_experts": 128,
    "encoder_sparse_step": 4,
    "decoder_sparse_step": 4,
    "expert_output_masking": 0.2,
}


def _wrong_types(names: Mapping[str, str], found: Mapping[str, Any]) -> Iterator[str]:
    for field in fields(ModelConfig):
        value = found.get(field.name)
        kind = field.type.__name__ if isinstance(field.type, type) else "str"
        kinds = _KINDS.get(kind, (str,))
        right = isinstance(value, kinds) and (kind == "bool" or not isinstance(value, bool))
        if value is not None and not right:
            article = "an" if kind == "int" else "a"
            yield f"{names[field.name]} is {repr(value)[:80]}, which is not {article} {kind}"


def _single(name: str, value: Any) -> Any:
    """Return the only id of a list, since generation configurations may list a single id."""
    return (
        value[0] if name.endswith("_id") and isinstance(value, list) and len(value) == 1 else value
    )


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model directory.

    Raises:
        CheckpointError: the file is damaged, or does not contain an object.
    """
    refuse_pointer(path)
    try:
        document = read_json(path, max_bytes=MAX_DOCUMENT_BYTES)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(document, dict):
        raise CheckpointError(
            f"{path} contains a {type(document).__name__}; it must be a JSON object"
        )
    return document
