"""From texts to label scores with one fastText model: our own kernel, or the fastText package.

Both give the same labels. The kernel (`kernel.c`, built where a C compiler is at hand) reads Python
strings directly; the package is the fallback, and what models with word n-grams or a label tree
need.
"""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lid.characters import FIRST_SCRIPT, character_classes, fold, scripts, simple_folds
from lid.fasttext_model import LABEL_PREFIX, FastTextModel, Matrix, read_fasttext
from lid.kernel_module import load_kernel
from nllb.errors import CheckpointError, ResourceError
from nllb.languages.normalization import normalize_for_detection

NOISE_PREFIX: Final = "other_"
"""Begins the labels of languages that are not in the table."""

LONGEST_TEXT: Final = 1 << 16
"""Characters of a text that are looked at; the rest would not change the answer."""

# Multiplications of a matrix product that OpenBLAS does on one thread. A larger one it shares out
# over threads that then wait busily for each other: twice the processor time where a core is taken.
_ONE_THREAD: Final = 1 << 18
# Rows of a product are a multiple of this, so that all rows are computed by the same code.
_ROW_STEP: Final = 8


class Engine(Protocol):
    """Scores texts against the labels of one model."""

    labels: tuple[str, ...]

    def score(self, texts: Sequence[str]) -> tuple[Matrix, npt.NDArray[np.int32]]:
        """Return each text's label scores (logarithms plus a constant) and letters per script."""
        ...


def open_engine(path: Path | str, *, normalised: bool, prefer_kernel: bool = True) -> Engine:
    """Read a model and choose the engine for it.

    Args:
        path: fastText model.
        normalised: whether the model was trained on text in the form of `normalize_for_detection`.
        prefer_kernel: take the kernel where it is built and knows the kind of model.

    Raises:
        CheckpointError: naming the file where it is not a usable model.
    """
    model = foreign_last(read_fasttext(path))
    kernel = load_kernel() if prefer_kernel else None
    if kernel is not None and model.loss == "softmax" and model.word_ngrams <= 1:
        return KernelEngine(model, kernel.Kernel, normalised=normalised)
    return PackageEngine(model, normalised=normalised)


def foreign_last(model: FastTextModel) -> FastTextModel:
    """Return the model with the labels of foreign languages, and their rows, behind the others.

    Raises:
        CheckpointError: it has not one output row for each label.
    """
    if model.loss != "softmax":
        return model
    if len(model.output) != len(model.labels):
        raise CheckpointError(
            f"{model.path} is damaged: {len(model.labels)} labels and {len(model.output)} output "
            f"rows; fetch it again"
        )
    order = sorted(
        range(len(model.labels)), key=lambda row: model.labels[row].startswith(NOISE_PREFIX)
    )
    labels = tuple(model.labels[row] for row in order)
    return dataclasses.replace(model, labels=labels, output=model.output[order])


class KernelEngine:
    """Input rows summed by the C kernel, label scores by small matrix products."""

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
                shortest=model.shortest_ngram,
                longest=model.longest_ngram,
                classes=character_classes(normalised=normalised),
                folds=simple_folds() if normalised else None,
                fold=fold,
                longest_text=LONGEST_TEXT,
            )
        except ValueError as error:
            raise CheckpointError(f"{model.path} is damaged: {error}; fetch it again") from error

    def score(self, texts: Sequence[str]) -> tuple[Matrix, npt.NDArray[np.int32]]:
        """Return label scores and letters per script of each text.

        Raises:
            CheckpointError: the model has values that are not finite.
        """
        vectors = np.empty((len(texts), self._dim), np.float32)
        letters = np.empty((len(texts), len(scripts())), np.int32)
        self._kernel.embed(list(texts), vectors, letters)
        scores = np.empty((len(texts), len(self.labels)), np.float32)
        # A product of another shape may add in another order, so every product has the same shape:
        # the scores of a text do not depend on the texts beside it.
        rows = max(1, _ONE_THREAD // self._output.size // _ROW_STEP) * _ROW_STEP
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
                f"{self._path}: its rows have values that are NaN, infinite or too large; the "
                f"model is damaged: download it again"
            )
        return scores, letters


class PackageEngine:
    """The fastText package, called below its Python `predict`, which numpy 2 breaks.

    `predict(str)` of the stock binding asks numpy for `array(copy=False)`, an error since numpy 2;
    hence the maintained binding `fasttext-community`, and of it only the C++ object's own methods.
    """

    def __init__(self, model: FastTextModel, *, normalised: bool) -> None:
        try:
            fasttext = importlib.import_module("fasttext")
        except ImportError:
            raise ResourceError(
                f"{model.path} needs the fastText package; run: pip install fasttext-community"
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
        """Return label scores and letters per script of each text."""
        scores = np.full((len(texts), len(self.labels)), -30.0, np.float32)
        letters = np.zeros((len(texts), len(scripts())), np.int32)
        classes = character_classes(normalised=self._normalised)
        for number, text in enumerate(texts):
            plain = plain_text(text, normalised=self._normalised)
            for probability, label in self._model.predict(plain + "\n", -1, 0.0, "strict"):
                scores[number, self._index[label]] = np.log(max(probability, 1e-13))
            points = np.frombuffer(plain.encode("utf-32-le"), np.uint32)
            counts = np.bincount(classes[points], minlength=FIRST_SCRIPT + letters.shape[1])
            letters[number] = counts[FIRST_SCRIPT:]
        return scores, letters


def plain_text(text: str, *, normalised: bool) -> str:
    """Return a text as a model's fastText file expects it: one line, no lone surrogates."""
    text = text[:LONGEST_TEXT]
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = "".join(" " if "\ud800" <= c <= "\udfff" else c for c in text)
    if normalised:
        return normalize_for_detection(text)
    return text.replace("\n", " ").replace("\0", " ")
