"""An encoder that needs no training: random vectors for features, so that equal words are near."""

from pathlib import Path

import numpy
import pytest
import torch

from data_pipeline.mining.encoders.static_encoder import save_encoder


@pytest.fixture(scope="session")
def random_encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an encoder with a random table."""
    folder = tmp_path_factory.mktemp("encoder")
    generator = torch.Generator().manual_seed(0)
    owners = numpy.sort(numpy.random.default_rng(0).choice(1 << 24, 100, replace=False))
    table = torch.randn(20_000, 64, generator=generator)
    save_encoder(folder, table=table, owners=owners.astype(numpy.int32), card={"name": "random"})
    return folder
