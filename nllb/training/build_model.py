"""Builds the model, tokenizer and teacher of a run from its configuration."""

import dataclasses
from pathlib import Path

import torch

from nllb.errors import ConfigError
from nllb.io.manifest import Manifest
from nllb.model.configuration import ModelConfig
from nllb.model.encoder_source_tokenizer import EncoderSourceTokenizer
from nllb.model.formats.encoder_directory import EncoderDirectory
from nllb.model.formats.encoder_of_model import encoder_hash
from nllb.model.formats.open_model import load_model, open_model
from nllb.model.formats.weights import read_weight
from nllb.model.moe import MixtureOfExperts
from nllb.model.shipped_encoder import find_shipped_encoder
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer

from .batches.token_ids import check_fits, manifest_tokenizer
from .distributed.expert_parallel import spread_experts
from .distributed.ranks import Ranks
from .initialization import initialize, initialize_on_encoder, materialize
from .loss import Teacher
from .router_balance import freeze_router_biases, reset_router_biases
from .train_config import TrainConfig


def open_tokenizer(config: TrainConfig, manifest: Manifest) -> Tokenizer:
    """Return the tokenizer of the initial model or, without one, that of the data."""
    if config.model.initial is None:
        tokenizer = manifest_tokenizer(manifest)
        if config.model.encoder is None:
            return tokenizer
        encoder = open_encoder(config)
        return EncoderSourceTokenizer(tokenizer, encoder.tokenizer(), encoder.path)
    tokenizer = open_model(config.model.initial).tokenizer()
    check_fits(tokenizer, manifest, config.model.initial)
    return tokenizer


def open_encoder(config: TrainConfig) -> EncoderDirectory:
    """Open the pretrained encoder that a configuration names."""
    name = config.model.encoder
    assert name is not None
    return EncoderDirectory.open(find_shipped_encoder() if name == "shipped" else Path(name))


def resolve_model_config(config: TrainConfig, tokenizer: Tokenizer) -> ModelConfig:
    """Return the complete model configuration of a run."""
    if config.model.initial is None:
        shape = config.model.resolve(vocabulary_size=tokenizer.vocabulary_size)
        if config.model.encoder is not None:
            shape = _on_encoder(shape, open_encoder(config))
    else:
        shape = dataclasses.replace(
            open_model(config.model.initial).config,
            dropout=config.model.dropout,
            attention_dropout=config.model.attention_dropout,
            activation_dropout=config.model.activation_dropout,
        )
    has_bias = shape.router_bias or (shape.num_experts > 0 and config.routing.balance_by == "bias")
    return dataclasses.replace(shape, router_bias=has_bias)


def _on_encoder(shape: ModelConfig, encoder: EncoderDirectory) -> ModelConfig:
    if shape.model_dim != encoder.config.model_dim:
        raise ConfigError(
            f"model.model_dim is {shape.model_dim}, but the pretrained encoder {encoder.path} has "
            f"states of width {encoder.config.model_dim}, which the decoder must share: set "
            f"model.model_dim={encoder.config.model_dim}"
        )
    return dataclasses.replace(
        shape,
        pretrained_layers=encoder.config.num_layers,
        pretrained_encoder=encoder_hash(encoder.path),
    )


def meta_model(config: TrainConfig, shape: ModelConfig, ranks: Ranks) -> Transformer:
    """Return this rank's part of the model on the meta device, with only its own spread experts."""
    with torch.device("meta"):
        model = Transformer(shape)
    for layer in model.modules():
        if isinstance(layer, MixtureOfExperts):
            layer.options = config.routing
    if config.routing.balance_by == "bias":
        freeze_router_biases(model)
    if config.parallel.experts and ranks.size > 1:
        spread_experts(model, ranks)
    return model


def initial_model(
    config: TrainConfig, shape: ModelConfig, ranks: Ranks, tokenizer: Tokenizer | None = None
) -> Transformer:
    """Return this rank's part of the model with its initial weights.

    Memory is allocated only for that part.
    """
    model = meta_model(config, shape, ranks)
    names = list(model.state_dict())
    materialize(model)
    if config.model.initial is None:
        initialize(model, config.seed)
        if isinstance(tokenizer, EncoderSourceTokenizer):
            initialize_on_encoder(model, tokenizer, open_encoder(config))
    if config.routing.balance_by == "bias":
        reset_router_biases(model)
    if config.model.initial is not None:
        opened = open_model(config.model.initial).weights
        present = [name for name in names if name in opened or not name.endswith(".router.bias")]
        weights = {name: read_weight(opened, name).float() for name in present}
        model.load_state_dict(weights, strict=len(present) == len(names))
    return model


def open_teacher(
    config: TrainConfig, tokenizer: Tokenizer, shape: ModelConfig, ranks: Ranks
) -> Teacher | None:
    """Load the teacher of online distillation, if one is configured.

    Raises:
        ConfigError: The teacher has a different vocabulary.
    """
    section = config.distillation
    if section.teacher is None:
        return None
    opened = open_model(section.teacher)
    theirs = opened.tokenizer()
    same_ids = theirs.languages == tokenizer.languages and all(
        theirs.language_id(code) == tokenizer.language_id(code) for code in theirs.languages
    )
    same_size = opened.config.vocabulary_size == shape.vocabulary_size
    if theirs.vocabulary != tokenizer.vocabulary or not same_ids or not same_size:
        raise ConfigError(
            f"distillation.teacher: {section.teacher} has a different vocabulary than the student "
            f"({opened.config.vocabulary_size:,} and {shape.vocabulary_size:,} tokens): use a "
            f"teacher that was trained on the same data folder"
        )
    model = load_model(opened, ranks.device)
    return Teacher(model=model, temperature=section.temperature, alpha=section.alpha)
