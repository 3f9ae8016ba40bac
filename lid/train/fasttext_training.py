"""Train and quantise fastText classifiers with the fastText package."""

import importlib
from pathlib import Path
from typing import Any

from lid.fasttext_model import read_fasttext
from nllb.errors import CheckpointError, DataError, ResourceError
from nllb.io.atomic import atomic_path

from .lid_config import FastTextConfig


def train_supervised(text_path: Path, settings: FastTextConfig) -> Any:
    """Train a softmax classifier on `__label__CODE text` lines; one thread is reproducible."""
    try:
        fasttext = importlib.import_module("fasttext")
    except ImportError:
        raise ResourceError(
            "training requires the fastText package; run: pip install fasttext-community"
        ) from None
    return fasttext.train_supervised(
        str(text_path),
        dim=settings.dim,
        epoch=settings.epochs,
        lr=settings.learning_rate,
        minn=settings.min_ngram,
        maxn=settings.max_ngram,
        minCount=settings.min_count,
        bucket=settings.buckets,
        loss="softmax",
        thread=settings.threads,
        verbose=0,
    )


def save(model: Any, path: Path) -> None:
    """Write a model atomically, after checking that it can be read back.

    fastText does not report a disk that is full.

    Raises:
        DataError: The file cannot be written completely.
    """
    with atomic_path(path) as temporary:
        model.save_model(str(temporary))
        try:
            read_fasttext(temporary)
        except CheckpointError:
            raise DataError(
                f"cannot write {path}: the disk is full, limited or broken (fastText wrote "
                f"{temporary.stat().st_size:,} bytes, which are not the complete model)"
            ) from None


def quantise(model: Any, text_path: Path, path: Path, settings: FastTextConfig) -> None:
    """Prune the model to its strongest rows, fine-tune them, quantise and save the model."""
    model.quantize(
        input=str(text_path),
        cutoff=settings.kept_ngrams,
        retrain=True,
        epoch=settings.quantised_epochs,
        qnorm=True,
        dsub=settings.columns_per_code,
        verbose=0,
        thread=1,
    )
    save(model, path)
