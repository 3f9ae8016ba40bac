"""The published NLLB checkpoints, with their configuration and the licence of their weights."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nllb.io.text import read_table

from .configuration import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownModel:
    """One published checkpoint.

    Attributes:
        name: its name on the Hugging Face hub.
        config: its configuration.
        licence: licence of the weights (the code of this package has a separate licence).
        summary: short description.
    """

    name: str
    config: ModelConfig
    licence: str
    summary: str


@cache
def known_models() -> tuple[KnownModel, ...]:
    """Return the published checkpoints, smallest first."""
    rows = read_table(Path(__file__).parent / "known_models.tsv")
    return tuple(_read_row(row) for row in rows)


def find_known_model(name: str) -> KnownModel | None:
    """Return the published checkpoint with a hub name, which may omit the owner."""
    names = {model.name: model for model in known_models()}
    return names.get(name) or {key.partition("/")[2]: names[key] for key in names}.get(name)


def _read_row(row: dict[str, str]) -> KnownModel:
    heads, ffn_dim, sparse_step = int(row["heads"]), int(row["ffn_dim"]), int(row["sparse_step"])
    config = ModelConfig(
        vocabulary_size=int(row["vocabulary_size"]),
        model_dim=int(row["model_dim"]),
        encoder_layers=int(row["encoder_layers"]),
        decoder_layers=int(row["decoder_layers"]),
        encoder_heads=heads,
        decoder_heads=heads,
        encoder_ffn_dim=ffn_dim,
        decoder_ffn_dim=ffn_dim,
        num_experts=int(row["num_experts"]),
        encoder_sparse_step=sparse_step,
        decoder_sparse_step=sparse_step,
    )
    return KnownModel(
        name=row["name"], config=config, licence=row["licence"], summary=row["summary"]
    )
