"""fastText's own training, called in one place."""

import importlib
from pathlib import Path
from typing import Any

from nllb.errors import ResourceError
from nllb.textio import atomic_path


def train_supervised(
    text_path: Path,
    *,
    dim: int,
    epochs: int,
    learning_rate: float,
    shortest_ngram: int,
    longest_ngram: int,
    min_count: int,
    buckets: int,
    threads: int,
) -> Any:
    """Train a softmax classifier on `__label__CODE text` lines; one thread gives one result."""
    try:
        fasttext = importlib.import_module("fasttext")
    except ImportError:
        raise ResourceError(
            "training needs the fastText package; run: pip install fasttext-community"
        ) from None
    return fasttext.train_supervised(
        str(text_path),
        dim=dim,
        epoch=epochs,
        lr=learning_rate,
        minn=shortest_ngram,
        maxn=longest_ngram,
        minCount=min_count,
        bucket=buckets,
        loss="softmax",
        thread=threads,
        verbose=0,
    )


def save(model: Any, path: Path) -> None:
    """Write a model atomically."""
    with atomic_path(path) as beside:
        model.save_model(str(beside))


def quantise(
    model: Any,
    text_path: Path,
    path: Path,
    *,
    kept_ngrams: int,
    epochs: int,
    columns_per_code: int = 2,
) -> None:
    """Prune to the `kept_ngrams` strongest rows, train these on, write one byte per few columns."""
    model.quantize(
        input=str(text_path),
        cutoff=kept_ngrams,
        retrain=True,
        epoch=epochs,
        qnorm=True,
        dsub=columns_per_code,
        verbose=0,
        thread=1,
    )
    save(model, path)
