"""The compiled kernel of the detector: its version and its validation of models and calls."""

import dataclasses
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lid.kernel_module
from lid.characters import character_classes, fold, simple_folds
from lid.engine import KernelEngine, open_engine
from lid.fasttext_model import read_fasttext
from lid.kernel_module import VERSION, load_kernel
from nllb.errors import CheckpointError, ResourceError

needs_kernel = pytest.mark.skipif(
    load_kernel() is None,
    reason="lid._kernel is not built; install nllb with a C compiler",
)


def test_version_equals_that_of_the_c_source() -> None:
    source = Path(lid.kernel_module.__file__).with_name("kernel.c").read_text(encoding="utf-8")
    assert re.findall(r"^#define VERSION (\d+)", source, flags=re.MULTILINE) == [str(VERSION)]


@pytest.mark.parametrize("built", [{"VERSION": VERSION + 1}, {}])
def test_kernel_with_another_version_is_rejected(monkeypatch, built) -> None:
    module = SimpleNamespace(__file__="old/_kernel.so", **built)
    monkeypatch.setitem(sys.modules, "lid._kernel", module)
    with pytest.raises(ResourceError, match=r"old/_kernel\.so has version \d, but this nllb"):
        load_kernel()


@needs_kernel
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bucket": -1}, "bucket is negative"),
        ({"max_ngram": 10**6}, "n-grams are too long"),
        ({"pruned": np.zeros(3, np.int32)}, "pruned has the wrong size"),
        ({"rows": np.zeros((3, 8), np.float32)}, "fewer rows than words"),
    ],
)
def test_error_names_the_damaged_model(model_paths, changes, message) -> None:
    model = dataclasses.replace(read_fasttext(model_paths["ftz"]), **changes)
    with pytest.raises(CheckpointError, match=rf"tiny\.ftz is damaged: .*{message}"):
        KernelEngine(model, load_kernel().Kernel, normalised=True)


@needs_kernel
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("matrix", ["rows", "output"])
def test_non_finite_weights_are_rejected(model_paths, matrix, value) -> None:
    model = read_fasttext(model_paths["bin"])
    changed = np.array(getattr(model, matrix))
    changed[:, 2] = value
    engine = KernelEngine(
        dataclasses.replace(model, **{matrix: changed}), load_kernel().Kernel, normalised=True
    )
    with pytest.raises(CheckpointError, match=r"tiny\.bin is damaged: its rows have values"):
        engine.score(["the library opens"])


@needs_kernel
def test_number_of_output_rows_must_equal_number_of_labels(model_paths, monkeypatch) -> None:
    model = read_fasttext(model_paths["bin"])
    fewer = dataclasses.replace(model, output=model.output[:-1])
    monkeypatch.setattr("lid.engine.read_fasttext", lambda path: fewer)
    with pytest.raises(CheckpointError, match="has 4 labels and 3 output rows"):
        open_engine(model_paths["bin"], normalised=True)


@needs_kernel
def test_rows_may_be_unaligned(model_paths) -> None:
    """In a memory-mapped `.bin` file the rows begin directly after the dictionary."""
    model = read_fasttext(model_paths["bin"])
    answers = []
    for shift in range(4):
        raw = np.empty(model.rows.nbytes + shift, np.uint8)
        raw[shift:] = np.frombuffer(model.rows.tobytes(), np.uint8)
        rows = np.frombuffer(raw[shift:].data, np.float32).reshape(model.rows.shape)
        moved = dataclasses.replace(model, rows=rows)
        engine = KernelEngine(moved, load_kernel().Kernel, normalised=True)
        answers.append(engine.score(["the library opens", "das Haus"])[0])
    assert all((answer == answers[0]).all() for answer in answers)


@needs_kernel
def test_tables_and_buffers_are_validated(model_paths) -> None:
    grams = load_kernel().Grams
    right = {
        "bits": np.zeros(64, np.uint8),
        "classes": character_classes(normalised=True),
        "folds": simple_folds(),
        "fold": fold,
        "longest_text": 100,
    }
    outside = simple_folds().copy()
    outside[65] = 0x110000  # not a code point
    unaligned = np.zeros(4 * 0x10000 + 1, np.uint8)[1:]
    for wrong in ({"folds": outside}, {"folds": unaligned}, {"longest_text": 0}):
        with pytest.raises(ValueError, match="wrong values"):
            grams(**(right | wrong))
    one = grams(**right)
    with pytest.raises(RuntimeError, match="already set up"):
        one.__init__(**right)
    with pytest.raises(RuntimeError, match="not set up"):
        grams.__new__(grams).count([], bytearray(), bytearray(), bytearray())
    number, shifted = np.zeros(1, np.int32), np.zeros(5, np.uint8)[1:]
    with pytest.raises(ValueError, match="not aligned"):
        one.count(["text"], number, number.copy(), shifted)
    kernel = load_kernel().Kernel
    with pytest.raises(RuntimeError, match="not set up"):
        kernel.__new__(kernel).embed([], bytearray(), bytearray())


@needs_kernel
def test_list_that_shrinks_during_the_call_is_rejected() -> None:
    texts = ["\u1e9b\u0323", "second"]  # the first text calls the fold function

    def shorten(text: str) -> str:
        texts.clear()
        return text

    one = load_kernel().Grams(
        bits=np.zeros(64, np.uint8),
        classes=character_classes(normalised=True),
        folds=simple_folds(),
        fold=shorten,
        longest_text=100,
    )
    with pytest.raises(RuntimeError, match="became shorter"):
        one.count(texts, *(np.zeros(2, np.int32) for _ in range(3)))
