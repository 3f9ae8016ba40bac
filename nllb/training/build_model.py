"""The model, tokenizer and teacher of a run, from its configuration."""

import dataclasses

import torch

from nllb.errors import ConfigError
from nllb.io.manifest import Manifest
from nllb.model.configuration import ModelConfig
from nllb.model.formats.open_model import load_model, open_model
from nllb.model.formats.weights import read_weight
from nllb.model.moe import MixtureOfExperts
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer
from nllb.training.batches.token_ids import check_fits, tokenizer_of
from nllb.training.distributed.expert_parallel import spread_experts
from nllb.training.distributed.ranks import Ranks
from nllb.training.initialization import initialize, materialize
from nllb.training.loss import Teacher
from nllb.training.router_balance import freeze_router_biases, reset_router_biases
from nllb.training.train_config import TrainConfig


def open_tokenizer(config: TrainConfig, manifest: Manifest) -> Tokenizer:
    """Return the tokenizer of the initial model or, without one, that of the data."""
    if config.model.initial is None:
        return tokenizer_of(manifest)
    tokenizer = open_model(config.model.initial).tokenizer()
    check_fits(tokenizer, manifest, config.model.initial)
    return tokenizer


def resolve_model_config(config: TrainConfig, tokenizer: Tokenizer) -> ModelConfig:
    """Return the complete model configuration of a run."""
    if config.model.initial is None:
        shape = config.model.resolve(vocabulary_size=tokenizer.vocabulary_size)
    else:
        shape = dataclasses.replace(
            open_model(config.model.initial).config,
            dropout=config.model.dropout,
            attention_dropout=config.model.attention_dropout,
            activation_dropout=config.model.activation_dropout,
        )
    has_bias = shape.router_bias or (shape.num_experts > 0 and config.routing.balance_by == "bias")
    return dataclasses.replace(shape, router_bias=has_bias)


def meta_model(config: TrainConfig, shape: ModelConfig, ranks: Ranks) -> Transformer:
    """Return this rank's part of the model on the meta device: with spread experts, its own."""
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


def initial_model(config: TrainConfig, shape: ModelConfig, ranks: Ranks) -> Transformer:
    """Return this rank's part of the model with its initial weights.

    Memory is allocated only for that part.
    """
    model = meta_model(config, shape, ranks)
    names = list(model.state_dict())
    materialize(model)
    if config.model.initial is None:
        initialize(model, config.seed)
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
