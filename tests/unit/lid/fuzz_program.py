"""Fuzz the detector's kernel: mutated texts, models and calls must succeed or raise an error.

The tests run this program with a kernel that is built with sanitizers:
`fuzz_program.py LIBRARY SEED COUNT MODEL...`. The number and the kind of each mutation are printed
before it runs, so that after a crash the last line of the output identifies the mutation.
"""

import dataclasses
import importlib.util
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nllb.errors import CheckpointError


def load_module(library: Path):
    spec = importlib.util.spec_from_file_location("lid._kernel", library)
    module = importlib.util.module_from_spec(spec)
    sys.modules["lid._kernel"] = module
    spec.loader.exec_module(module)
    return module


KERNEL = load_module(Path(sys.argv[1]))

from lid.characters import character_classes, fold, simple_folds  # noqa: E402
from lid.engine import KernelEngine, open_engine, out_of_set_last  # noqa: E402
from lid.fasttext_model import FastTextModel, read_fasttext  # noqa: E402
from lid.ngrams import NgramSets  # noqa: E402

HUGE = 1 << 31
ALPHABETS = (
    "abcdefghij ABCDEFGHIJ ",
    "\u0430\u0431\u0432\u0433 \u0451\u0301\u0327\u00e9\u0130\u0131\u03a3\u03c3\u03c2 ",
    "\u0915\u094d\u0937 \u1100\u1161\u11a8 \u0e01\u0e31 \u65e5\u672c ",
    "\x00\n\t\r\v\f </s> __label__ <>&",
    "\ud800\udfff\ufeff\u200d\u200b\U0001f600\U0010ffff\ufdfa ",
)


class Fuzzer:
    """A random sequence of mutations."""

    def __init__(self, models: list[Path], seed: int):
        self.random = np.random.default_rng(seed)
        self.paths = models
        self.models = [out_of_set_last(read_fasttext(path)) for path in models]
        self.engines = [
            open_engine(path, normalised=normalised)
            for path in models
            for normalised in (True, False)
        ]
        assert all(isinstance(engine, KernelEngine) for engine in self.engines)
        self.folder = Path(tempfile.mkdtemp())

    def number(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def one_of(self, *choices):
        return choices[self.number(0, len(choices) - 1)]

    def text(self) -> str:
        """Return an empty, short or random text, or one that is longer than the maximum length."""
        match self.number(0, 9):
            case 0:
                return ""
            case 1:
                return self.one_of("x", "\u0e01", "\U00010400") * self.number(1, 70_000)
            case 2:
                return "".join(map(chr, self.random.integers(0, 0x110000, self.number(1, 60))))
            case _:
                alphabet = "".join(self.one_of(*ALPHABETS) for _ in range(2))
                places = self.random.integers(0, len(alphabet), self.number(1, 300))
                return "".join(alphabet[place] for place in places)

    def texts(self) -> list[str]:
        return [self.text() for _ in range(self.number(0, 6))]

    # Each method returns True if the call succeeded and False if it raised an expected error.

    def any_texts(self) -> bool:
        engine, texts = self.one_of(*self.engines), self.texts()
        scores, letters = engine.score(texts)
        assert np.isfinite(scores).all() and (letters >= 0).all()
        again, _ = engine.score(texts[::-1])  # words are now cached
        assert np.array_equal(scores, again[::-1])
        return True

    def any_ngrams(self) -> bool:
        """Compare the counts of the kernel with those of Python."""
        bits = self.random.integers(0, 256, 64 * self.number(1, 4)).astype(np.uint8)
        texts = [text[:400] for text in self.texts()]
        labels = self.random.integers(-1, 3, (len(texts), self.number(1, 4))).astype(np.int32)
        names = ["a", "b", "c"]
        found = NgramSets(names, bits).count(texts, labels)
        expected = NgramSets(names, bits, prefer_kernel=False).count(texts, labels)
        assert all(map(np.array_equal, found, expected))
        return True

    def values_not_finite(self) -> bool:
        model = self.one_of(*self.models)
        name = self.one_of("rows", "output")
        matrix = np.array(getattr(model, name))
        value = self.one_of(np.nan, np.inf, -np.inf, 3e38)
        matrix[:, self.number(0, model.dim - 1)] = value
        engine = self.make(dataclasses.replace(model, **{name: matrix}))
        try:
            scores, _ = engine.score(["the library"])
        except CheckpointError:
            return False
        assert np.isfinite(value) and np.isfinite(scores).all()
        return True

    def unaligned_rows(self) -> bool:
        model = self.one_of(*self.models)
        shift = self.number(0, 3)
        raw = np.empty(model.rows.nbytes + shift, np.uint8)
        raw[shift:] = np.frombuffer(np.ascontiguousarray(model.rows).tobytes(), np.uint8)
        rows = np.frombuffer(raw[shift:].data, np.float32).reshape(model.rows.shape)
        texts = self.texts()
        moved = self.make(dataclasses.replace(model, rows=rows), normalised=True).score(texts)
        plain = self.make(model, normalised=True).score(texts)
        assert np.array_equal(moved[0], plain[0])
        return True

    def make(self, model: FastTextModel, normalised: bool | None = None) -> KernelEngine:
        if normalised is None:
            normalised = bool(self.number(0, 1))
        return KernelEngine(model, KERNEL.Kernel, normalised=normalised)

    def model_of_other_shape(self) -> bool:
        """Use inconsistent sizes: they are rejected, or no access is out of bounds."""
        model = self.one_of(*self.models)
        places = np.full(model.bucket, -1, np.int32)
        places[:: self.number(1, 7)] = self.one_of(-2, 0, len(model.rows), HUGE - 1)
        changes = self.one_of(
            {"bucket": self.one_of(0, -1, 1, -HUGE, HUGE - 1, model.bucket + 1)},
            {"pruned": self.one_of(places, places[:-1], None)},
            {"rows": model.rows[: self.number(0, len(model.rows))]},
            {"words": model.words * self.number(2, 40)},
            {"words": model.words[: self.number(0, 9)]},
            {"min_ngram": self.one_of(-HUGE, -1, 0, 1, 9, HUGE - 1)},
            {"max_ngram": self.one_of(-HUGE, -1, 0, 1, 9, HUGE - 1)},
        )
        try:
            engine = self.make(dataclasses.replace(model, **changes))
            engine.score(self.texts())
        except CheckpointError:
            return False
        return True

    def damaged_file(self) -> bool:
        path = self.one_of(*self.paths)
        data = bytearray(path.read_bytes())
        for _ in range(self.number(1, 3)):
            at = self.number(
                60, len(data) - 1
            )  # the sizes in the header are validated by the reader
            data[at] = self.number(0, 255)
        changed = self.folder / "changed.bin"
        changed.write_bytes(data[: self.one_of(len(data), len(data), self.number(0, len(data)))])
        try:
            model = out_of_set_last(read_fasttext(changed))
        except Exception:
            return False  # the errors of the reader have tests of their own
        try:
            self.make(model).score(self.texts())
        except CheckpointError:
            return False
        return True

    def wrong_buffers(self) -> bool:
        kernel = self.one_of(*self.engines)._kernel
        texts = [*self.texts(), "one", "two"]
        dim, scripts = self.engines[0]._dim, 4
        vectors = np.zeros(len(texts) * dim + 1, np.float32)
        letters = np.zeros(len(texts) * scripts + 1, np.int32)
        exact, places = vectors[:-1], letters[:-1]
        wrong = (
            (texts, vectors, places),
            (texts, exact[:-1], places),
            (texts, exact, letters),
            (texts, vectors.view(np.uint8)[1:-3], places),
            (texts, exact, letters.view(np.uint8)[1:-3]),
            (tuple(texts), exact, places),
            ([*texts[:-1], b"one"], exact, places),
            ([*texts[:-1], None], exact, places),
            (texts, bytes(exact.nbytes), places),
        )
        return self.is_rejected(lambda: kernel.embed(*self.one_of(*wrong)))

    def wrong_tables(self) -> bool:
        classes, folds = character_classes(normalised=True), simple_folds()
        outside = folds.copy()
        outside[self.number(0, len(folds) - 1)] = 0x110000
        shifted = np.zeros(folds.nbytes + 1, np.uint8)[1:]
        given = {
            **{"bits": np.zeros(64, np.uint8), "classes": classes, "folds": folds},
            **{"fold": fold, "longest_text": 100},
        }
        wrong = self.one_of(
            {"classes": classes[:-1]},
            {"folds": folds[:-1]},
            {"folds": outside},
            {"folds": shifted},
            {"longest_text": self.one_of(0, -1, sys.maxsize)},
            {"bits": np.zeros(self.one_of(0, 63, 65), np.uint8)},
            {"fold": None, "again": True},
        )
        again = wrong.pop("again", False)
        grams = KERNEL.Grams.__new__(KERNEL.Grams)
        if again:
            grams.__init__(**given)
            return self.is_rejected(lambda: grams.__init__(**given))
        self.is_rejected(lambda: grams.__init__(**(given | wrong)))
        labels, known, total = (np.zeros(1, np.int32) for _ in range(3))
        return self.is_rejected(lambda: grams.count(["text"], labels, known, total))

    def fold_that_misbehaves(self) -> bool:
        """Call a fold function that raises, returns garbage, shortens the list or re-enters."""
        texts = ["e\u0301\u0327 \ud800", *self.texts(), "\u1e9b\u0323"]
        behaviour = self.number(0, 4)

        def misbehave(text: str) -> object:
            match behaviour:
                case 0:
                    raise RuntimeError("no")
                case 1:
                    return self.one_of(None, b"bytes", 7)
                case 2:
                    texts.clear()
                    return text
                case 3:
                    return text * 50
                case _:
                    if not again:
                        again.append(text)
                        grams.count(["x" * 3000], *(np.zeros(1, np.int32) for _ in range(3)))
                    return text

        again: list[str] = []
        grams = KERNEL.Grams(
            bits=np.full(64, 255, np.uint8),
            classes=character_classes(normalised=True),
            folds=simple_folds(),
            fold=misbehave,
            longest_text=2000,
        )
        buffers = [np.zeros(len(texts), np.int32) for _ in range(3)]
        try:
            grams.count(texts, *buffers)
        except (RuntimeError, TypeError):
            return False
        return behaviour > 2

    def calls_at_once(self) -> bool:
        engine = self.one_of(*self.engines)
        batches = [self.texts() for _ in range(4)]
        expected = [engine.score(texts) for texts in batches]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(engine.score, batches))
        for one, other in zip(found, expected, strict=True):
            assert all(map(np.array_equal, one, other))
        return True

    def is_rejected(self, call: Callable[[], object]) -> bool:
        try:
            call()
        except (CheckpointError, ValueError, TypeError, RuntimeError, BufferError):
            return False
        raise AssertionError("an invalid call succeeded")


def main(seed: str, count: str, *models: str) -> None:
    fuzzer = Fuzzer(list(map(Path, models)), int(seed))
    kinds = [
        *(fuzzer.any_texts, fuzzer.any_ngrams, fuzzer.values_not_finite, fuzzer.unaligned_rows),
        *(fuzzer.model_of_other_shape, fuzzer.damaged_file, fuzzer.wrong_buffers),
        *(fuzzer.wrong_tables, fuzzer.fold_that_misbehaves, fuzzer.calls_at_once),
    ]
    outcomes: Counter[str] = Counter()
    sys.setswitchinterval(1e-5)
    for number in range(int(count)):
        kind = kinds[number % len(kinds)]
        print(number, kind.__name__, flush=True)
        outcomes["succeeded" if kind() else "rejected"] += 1
    print(dict(outcomes))


main(*sys.argv[2:])
