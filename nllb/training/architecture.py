"""The named architectures of `architectures.tsv`, and the model section of a configuration."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from nllb.config.schema import FractionBelowOne, NonNegativeInt, PositiveInt, Section, Text
from nllb.errors import CheckpointError, did_you_mean
from nllb.io.text import read_table
from nllb.model.configuration import MemoryKind, ModelConfig


class ModelSection(Section):
    """The model to train: a named architecture, and values that override its own."""

    architecture: Text = "tiny"
    """Row of `architectures.tsv`: 600m, 1.3b, 3.3b, moe-54b, ...; `small` and `tiny` for trials."""
    initial: Text | None = None
    """Model to start from, whose shape is used: a directory, a hub name or a fairseq checkpoint."""
    encoder: Text | None = None
    """A pretrained encoder that replaces NLLB's own: `shipped`, or the directory of another one;
    null trains an encoder from scratch."""
    memory: MemoryKind = "mix"
    """The states that the decoder attends to with a pretrained encoder: a learned `mix` of its
    layers, or the `last` layer."""
    encoder_type: Literal["auto", "float32"] = "auto"
    """Number type of the frozen encoder: `auto` is int8 on a CPU, as in translation, and float32 on
    a GPU."""
    tune_encoder: bool = False
    """Also train the layers of the pretrained encoder, in float32; the exported model then contains
    its own encoder. With `initial`, training starts from a model with a frozen encoder."""
    model_dim: PositiveInt | None = None
    """Width of the residual stream; null keeps the architecture's."""
    encoder_layers: PositiveInt | None = None
    """Layers of the encoder; null keeps the architecture's."""
    decoder_layers: PositiveInt | None = None
    """Layers of the decoder; null keeps the architecture's."""
    heads: PositiveInt | None = None
    """Attention heads of the layers that are trained; null keeps the architecture's."""
    ffn_dim: PositiveInt | None = None
    """Inner width of a feed-forward layer or of an expert; null keeps the architecture's."""
    experts: NonNegativeInt | None = None
    """Experts of a sparse layer; 0 is dense; null keeps the architecture's."""
    sparse_step: PositiveInt | None = None
    """Distance between sparse layers, in layers; null keeps the architecture's."""
    max_positions: PositiveInt = 1024
    """Maximum sequence length that the exported model declares."""
    dropout: FractionBelowOne = 0.1
    """Dropout of embeddings and of the output of each sublayer."""
    attention_dropout: FractionBelowOne = 0.1
    """Dropout of attention weights."""
    activation_dropout: FractionBelowOne = 0.0
    """Dropout after the activation of a feed-forward layer."""
    expert_output_masking: FractionBelowOne = 0.2
    """Probability that training zeroes an expert's output (EOM); evaluation multiplies by 1 - p."""

    def cross_field_errors(self) -> Iterator[str]:
        """Yield invalid values and combinations."""
        if self.architecture not in architectures():
            near = did_you_mean(self.architecture, architectures())
            yield (
                f"architecture: {self.architecture!r} is unknown{near or ';'} valid: "
                f"{', '.join(architectures())}"
            )
            return
        try:
            self.resolve(vocabulary_size=10)
        except CheckpointError as error:
            yield str(error)

    def resolve(self, *, vocabulary_size: int) -> ModelConfig:
        """Return the shape of the model."""
        row = architectures()[self.architecture]
        changed = {name: value for name, value in self if name in row and value is not None}
        row = {**row, **changed}
        is_pretrained = self.encoder is not None
        return ModelConfig(
            vocabulary_size=vocabulary_size,
            model_dim=row["model_dim"],
            encoder_layers=0 if is_pretrained else row["encoder_layers"],
            decoder_layers=row["decoder_layers"],
            encoder_heads=row["heads"],
            decoder_heads=row["heads"],
            encoder_ffn_dim=row["ffn_dim"],
            decoder_ffn_dim=row["ffn_dim"],
            num_experts=row["experts"],
            # `build_model` replaces what depends on the encoder's files.
            pretrained_layers=1 if is_pretrained else 0,
            memory=self.memory,
            encoder_sparse_step=row["sparse_step"] if row["experts"] and not is_pretrained else 0,
            decoder_sparse_step=row["sparse_step"] if row["experts"] else 0,
            max_positions=self.max_positions,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            expert_output_masking=self.expert_output_masking if row["experts"] else 0.0,
        )


@cache
def architectures() -> dict[str, dict[str, int]]:
    """Return the named architectures."""
    rows = read_table(Path(__file__).parent / "architectures.tsv")
    return {row.pop("name"): {key: int(value) for key, value in row.items()} for row in rows}


def family_of(architecture: str) -> str:
    """Return the fairseq2 family that an architecture is registered under."""
    return "nllb_moe" if architectures()[architecture]["experts"] else "nllb_dense"
