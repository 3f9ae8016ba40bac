"""Engines that compute the label scores of a fastText model.

`KernelEngine` uses our C kernel (`kernel.c`), which reads Python strings directly and is built if a
C compiler is available. `PackageEngine` uses the fastText package; it is the fallback, and models
with word n-grams or a hierarchical softmax require it. Both engines predict the same labels.
"""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from nllb.errors import CheckpointError, ResourceError
from nllb.languages.normalization import normalize_for_detection

from .characters import FIRST_SCRIPT, character_classes, fold, scripts, simple_folds
from .fasttext_model import LABEL_PREFIX, FastTextModel, Matrix, read_fasttext
from .kernel_module import load_kernel

OUT_OF_SET_PREFIX: Final = "other_"
"""Prefix of the labels of out-of-set languages (languages that are not in the table)."""

MAX_CHARACTERS: Final = 1 << 16
"""Maximum number of characters read from a text; more would not change the answer."""

# Maximum number of multiplications in a matrix product that OpenBLAS computes on one thread. It
# splits larger products over threads that busy-wait, which doubles the CPU time on a busy machine.
_SINGLE_THREAD_PRODUCTS: Final = 1 << 18
# The number of rows in a product is a multiple of this, so that the same code computes every row.
_ROW_STEP: Final = 8

# fastText adds 1e-5 to a probability before it takes the logarithm; the difference is only known
# up to the rounding of a float32.
_ADDED: Final = 1e-5
_SMALLEST: Final = 1e-10


class Engine(Protocol):
    """Computes the label scores of texts."""

    labels: tuple[str, ...]

    def score(self, texts: Sequence[str]) -> tuple[Matrix, npt.NDArray[np.int32]]:
        """Return label scores (log-probabilities up to a constant) and letter counts per script."""
        ...


def open_engine(path: Path | str, *, normalised: bool, prefer_kernel: bool = True) -> Engine:
    """Read a model and return the engine for it.

    Args:
        path: The fastText model file.
        normalised: Whether the model was trained on the output of `normalize_for_detection`.
        prefer_kernel: Use the C kernel if it is built and supports the model.

    Raises:
        CheckpointError: The file is not a usable model.
    """
    model = out_of_set_last(read_fasttext(path))
    kernel = load_kernel() if prefer_kernel else None
    if kernel is not None and model.loss == "softmax" and model.word_ngrams <= 1:
        return KernelEngine(model, kernel.Kernel, normalised=normalised)
    return PackageEngine(model, normalised=normalised)


def out_of_set_last(model: FastTextModel) -> FastTextModel:
    """Return the model with its labels reordered so that out-of-set labels come last.

    Raises:
        CheckpointError: The number of output rows differs from the number of labels.
    """
    if model.loss != "softmax":
        return model
    if len(model.output) != len(model.labels):
        raise CheckpointError(
            f"{model.path} is damaged: it has {len(model.labels)} labels and {len(model.output)} "
            f"output rows; download it again"
        )
    order = sorted(
        range(len(model.labels)), key=lambda row: model.labels[row].startswith(OUT_OF_SET_PREFIX)
    )
    labels = tuple(model.labels[row] for row in order)
    return dataclasses.replace(model, labels=labels, output=model.output[order])


class KernelEngine:
    """Sums input rows with the C kernel and computes label scores as small matrix products."""

    def __init__(self, model: FastTextModel, kernel: Any, *, normalised: bool) -> None:
        self.labels = model.labels
        self._path, self._dim = model.path, model.dim
        self._output = np.ascontiguousarray(model.output.T)
        try:
            self._kernel = kernel(
                words=model.words,
                rows=model.rows,
                pruned=model.pruned,
                dim=model.dim,
                bucket=model.bucket,
                shortest=model.min_ngram,
                longest=model.max_ngram,
                classes=character_classes(normalised=normalised),
                folds=simple_folds() if normalised else None,
                fold=fold,
                longest_text=MAX_CHARACTERS,
            )
        except ValueError as error:
            raise CheckpointError(f"{model.path} is damaged: {error}; download it again") from error

    def score(self, texts: Sequence[str]) -> tuple[Matrix, npt.NDArray[np.int32]]:
        """Return label scores and letter counts per script.

        Raises:
            CheckpointError: The model contains values that are not finite.
        """
        vectors = np.empty((len(texts), self._dim), np.float32)
        letters = np.empty((len(texts), len(scripts())), np.int32)
        self._kernel.embed(list(texts), vectors, letters)
        scores = np.empty((len(texts), len(self.labels)), np.float32)
        # Products of different shapes may add in different orders. All products have the same shape
        # so that the scores of a text do not depend on the other texts in the batch.
        rows = max(1, _SINGLE_THREAD_PRODUCTS // self._output.size // _ROW_STEP) * _ROW_STEP
        padded = np.zeros((rows, self._dim), np.float32)
        for start in range(0, len(texts), rows):
            part = vectors[start : start + rows]
            with np.errstate(invalid="ignore", over="ignore"):
                if len(part) < rows:
                    padded[: len(part)] = part
                    scores[start:] = (padded @ self._output)[: len(part)]
                else:
                    np.matmul(part, self._output, out=scores[start : start + rows])
        if not np.isfinite(scores).all():
            raise CheckpointError(
                f"{self._path} is damaged: its rows have values that are NaN, infinite or too "
                f"large; download it again"
            )
        return scores, letters


class PackageEngine:
    """Computes label scores with the fastText package.

    `predict(str)` of the original binding calls `array(copy=False)`, which is an error since NumPy
    2. This class therefore uses the maintained binding `fasttext-community` and calls the methods
    of its C++ object directly.
    """

    def __init__(self, model: FastTextModel, *, normalised: bool) -> None:
        try:
            fasttext = importlib.import_module("fasttext")
        except ImportError:
            raise ResourceError(
                f"{model.path} requires the fastText package; run: pip install fasttext-community"
            ) from None
        fasttext.FastText.eprint = lambda *_: None
        try:
            self._model = fasttext.load_model(str(model.path)).f
        except ValueError as error:
            raise CheckpointError(f"{model.path}: {error}") from error
        self.labels = model.labels
        self._normalised = normalised
        self._index = {LABEL_PREFIX + label: number for number, label in enumerate(model.labels)}

    def score(self, texts: Sequence[str]) -> tuple[Matrix, npt.NDArray[np.int32]]:
        """Return label scores and letter counts per script."""
        scores = np.full((len(texts), len(self.labels)), -30.0, np.float32)
        letters = np.zeros((len(texts), len(scripts())), np.int32)
        classes = character_classes(normalised=self._normalised)
        for number, text in enumerate(texts):
            plain = plain_text(text, normalised=self._normalised)
            for probability, label in self._model.predict(plain + "\n", -1, 0.0, "strict"):
                scores[number, self._index[label]] = np.log(max(probability - _ADDED, _SMALLEST))
            points = np.frombuffer(plain.encode("utf-32-le"), np.uint32)
            counts = np.bincount(classes[points], minlength=FIRST_SCRIPT + letters.shape[1])
            letters[number] = counts[FIRST_SCRIPT:]
        return scores, letters


def plain_text(text: str, *, normalised: bool) -> str:
    """Return a text in the form that fastText expects: a single line without lone surrogates."""
    text = text[:MAX_CHARACTERS]
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = "".join(" " if "\ud800" <= c <= "\udfff" else c for c in text)
    if normalised:
        return normalize_for_detection(text)
    return text.replace("\n", " ").replace("\0", " ")
