"""Finds the pretrained encoder of a model: its own copy, or the shared one of this installation."""

from functools import partial
from pathlib import Path
from typing import Final

import torch

from nllb.errors import CheckpointError
from nllb.model.configuration import ModelConfig
from nllb.model.shipped_encoder import OWN_ENCODER, find_shipped_encoder
from nllb.model.transformer import SourceStates

from .encoder_directory import WEIGHTS_FILE, EncoderDirectory, file_sha256

HASH_LENGTH: Final = 16


def encoder_hash(path: Path) -> str:
    """Return the hash that identifies an encoder in the configuration of a model."""
    return file_sha256(path / WEIGHTS_FILE)[:HASH_LENGTH]


def open_encoder_of_model(path: Path, config: ModelConfig) -> EncoderDirectory:
    """Open the encoder that a model directory was trained on.

    Raises:
        CheckpointError: this installation has a different encoder, or none.
    """
    own = path / OWN_ENCODER
    directory = EncoderDirectory.open(own if own.is_dir() else find_shipped_encoder())
    found = encoder_hash(directory.path)
    if found != config.pretrained_encoder:
        raise CheckpointError(
            f"{path} was trained on the pretrained encoder {config.pretrained_encoder}, but "
            f"{directory.path} is {found}: install the version of nllb that the model was made "
            f"for, or copy its encoder to {own}"
        )
    if directory.config.num_layers != config.pretrained_layers:
        raise CheckpointError(
            f"{path} requires an encoder of {config.pretrained_layers} layers, but "
            f"{directory.path} has {directory.config.num_layers}"
        )
    return directory


def frozen_states(
    directory: EncoderDirectory, device: torch.device | str, config: ModelConfig
) -> SourceStates:
    """Return the encoder as a function that computes float32 states without gradients."""
    encoder = directory.load(device).requires_grad_(False)
    return partial(encoder, layers=None if config.memory == "mix" else (-1,))
