"""Read fastText models (`.bin` and quantised `.ftz` files) with NumPy only.

Source: the layout is that of `FastText::saveModel` in fastText, format versions 11 and 12. The
matrices of `.bin` files are memory-mapped; those of `.ftz` files are decoded when they are read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from nllb.errors import CheckpointError
from nllb.io.pointers import refuse_pointer

Matrix = npt.NDArray[np.float32]

LABEL_PREFIX: Final = "__label__"
END_OF_TEXT: Final = b"</s>"

_MAGIC: Final = 793712314
_LOSSES: Final[dict[int, Literal["hs", "ns", "softmax", "ova"]]] = {
    1: "hs",
    2: "ns",
    3: "softmax",
    4: "ova",
}
_SUPERVISED: Final = 3
_MAX_BUCKETS: Final = 1 << 25
"""Maximum number of hash buckets in a pruned model, whose bucket table is kept in memory. The
default of fastText is 2,000,000."""
_MAX_NGRAM: Final = 100
_MAX_DECODED_BYTES: Final = 256 << 20
_MAX_DECODED_RATIO: Final = 16
"""A decoded matrix may have `_MAX_DECODED_BYTES` bytes, or this many times the file size."""
_ARGUMENTS: Final = (
    "dim",
    "ws",
    "epoch",
    "min_count",
    "neg",
    "word_ngrams",
    "loss",
    "model",
    "bucket",
    "minn",
    "maxn",
    "lr_update_rate",
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FastTextModel:
    """A supervised fastText model."""

    path: Path
    """File that the model was read from."""
    labels: tuple[str, ...]
    """Labels without `__label__`, in the order of the output rows."""
    words: list[bytes]
    """Words of the dictionary, in the order of their input rows."""
    rows: Matrix
    """Input vectors: the words first, then the hashed n-grams."""
    output: Matrix
    """Output vectors, one per label (for `hs`, one per inner node of the label tree)."""
    pruned: npt.NDArray[np.int32] | None
    """Bucket -> index among the n-gram rows, or -1 if pruned; None if the model is not pruned."""
    bucket: int
    """Number of hash buckets for n-grams."""
    min_ngram: int
    """Minimum length of character n-grams."""
    max_ngram: int
    """Maximum length of character n-grams; 0 means words only."""
    word_ngrams: int
    """Maximum length of word n-grams; 1 means single words."""
    loss: str
    """Loss function: `softmax`, `hs`, `ns` or `ova`."""
    quantised: bool
    """Whether the input vectors were quantised in the file."""

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self.rows.shape[1])


def read_fasttext(path: Path | str) -> FastTextModel:
    """Read a supervised model.

    Raises:
        CheckpointError: The file is missing, truncated, or not a supervised fastText model.
    """
    path = Path(path)
    refuse_pointer(path)
    try:
        size = path.stat().st_size
        data = np.memmap(path, dtype=np.uint8, mode="r") if size else np.empty(0, np.uint8)
    except OSError as error:
        raise CheckpointError(f"cannot read the model {path}: {error.strerror or error}") from error
    return _Reader(path, data).model()


class _Reader:
    """Reads the file sequentially; reading past its end raises an error."""

    def __init__(self, path: Path, data: npt.NDArray[np.uint8]) -> None:
        self.path, self.data, self.position = path, data, 0

    def error(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: {what}; a supervised fastText model (.bin or .ftz) is required"
        )

    def take(self, count: int, kind: str) -> npt.NDArray[np.generic]:
        size = count * np.dtype(kind).itemsize
        if count < 0 or self.position + size > len(self.data):
            raise self.error(
                f"the file is truncated or damaged at byte {self.position:,} of "
                f"{len(self.data):,}: {size:,} more bytes expected"
            )
        piece = self.data[self.position : self.position + size]
        self.position += size
        return np.frombuffer(piece, dtype=kind)

    def number(self, kind: str = "<i4") -> int:
        return int(self.take(1, kind)[0])

    def model(self) -> FastTextModel:
        if len(self.data) < 8 or self.number() != _MAGIC:
            raise self.error("not a fastText model (the file signature is wrong)")
        version = self.number()
        if version not in (11, 12):
            raise self.error(f"fastText format {version} is not supported (supported: 11 and 12)")
        arguments = {name: self.number() for name in _ARGUMENTS}
        self.take(1, "<f8")  # the sampling threshold, which only training needs
        if arguments["model"] != _SUPERVISED:
            raise self.error("the file contains word vectors, not a classifier")
        if version == 11:
            arguments["maxn"] = 0  # as in fastText: supervised models of version 11 have no n-grams
        words, labels, pruned_pairs = self.dictionary()
        quantised = bool(self.number("u1"))
        rows = self.quantised_matrix() if quantised else self.matrix()
        output_quantised = bool(self.number("u1"))
        output = self.quantised_matrix() if quantised and output_quantised else self.matrix()
        if rows.shape[1] != arguments["dim"] or output.shape[1] != arguments["dim"]:
            raise self.error(
                f"rows have {rows.shape[1]} columns, but the header gives {arguments['dim']}"
            )
        model = FastTextModel(
            path=self.path,
            labels=labels,
            words=words,
            rows=rows,
            output=output,
            pruned=self.places(pruned_pairs, arguments["bucket"]),
            bucket=arguments["bucket"],
            min_ngram=arguments["minn"],
            max_ngram=arguments["maxn"],
            word_ngrams=arguments["word_ngrams"],
            loss=_LOSSES.get(arguments["loss"], "unknown"),
            quantised=quantised,
        )
        return self.validated(model)

    def validated(self, model: FastTextModel) -> FastTextModel:
        """Return the model after checking that its sizes are consistent."""
        min_ngram, max_ngram = model.min_ngram, model.max_ngram
        num_words, num_labels = len(model.words), len(set(model.labels))
        num_ngrams = len(model.rows) - num_words
        if not 0 <= min_ngram <= _MAX_NGRAM or not 0 <= max_ngram <= _MAX_NGRAM:
            raise self.error(f"invalid n-gram lengths: {min_ngram} to {max_ngram} characters")
        if not 1 <= model.word_ngrams <= _MAX_NGRAM or model.bucket < 0:
            raise self.error(
                f"invalid word n-grams: {model.word_ngrams} words, {model.bucket} buckets"
            )
        if len(model.output) != num_labels or len(model.labels) != num_labels:
            raise self.error(
                f"it has {len(model.output)} output rows for {num_labels} distinct labels"
            )
        if model.pruned is not None:
            if num_ngrams < 0 or not _all_in_range(model.pruned + 1, num_ngrams + 1):
                raise self.error("the row of an n-gram is out of range")
        elif num_ngrams < (model.bucket if max_ngram > 0 or model.word_ngrams > 1 else 0):
            raise self.error(
                f"it has {len(model.rows):,} rows for {num_words:,} words and {model.bucket:,} "
                "buckets"
            )
        return model

    def dictionary(self) -> tuple[list[bytes], tuple[str, ...], npt.NDArray[np.int32] | None]:
        size, num_words, num_labels = self.number(), self.number(), self.number()
        self.number("<i8")
        num_pruned = self.number("<i8")
        if min(size, num_words, num_labels) < 0 or size != num_words + num_labels:
            raise self.error(
                f"invalid dictionary: {size} entries, {num_words} words, {num_labels} labels"
            )
        if num_labels == 0:
            raise self.error("the dictionary has no labels")
        words: list[bytes] = []
        labels: list[str] = []
        # An entry is a null-terminated word, a count of 8 bytes and a type byte.
        raw = self.data
        if size > len(raw) - self.position:
            raise self.error(f"invalid dictionary: {size:,} entries in {len(raw):,} bytes")
        for _ in range(size):
            end = self.position
            block = raw[end : end + 4096].tobytes().find(0)
            if block < 0:
                raise self.error(
                    f"the file is truncated or damaged in the dictionary at byte {self.position:,}"
                )
            word = raw[end : end + block].tobytes()
            self.position = end + block + 1
            kind = int(self.take(9, "u1")[8])
            if kind == 0:
                words.append(word)
            else:
                labels.append(word.decode("utf-8", "replace").removeprefix(LABEL_PREFIX))
        if len(words) != num_words:
            raise self.error(
                f"the dictionary has {len(words)} words, but its header gives {num_words}"
            )
        pairs = self.take(2 * num_pruned, "<i4") if num_pruned > 0 else None
        if num_pruned == 0:  # every n-gram was pruned
            pairs = np.empty(0, np.int32)
        return words, tuple(labels), None if pairs is None else pairs.astype(np.int32)

    def places(
        self, pairs: npt.NDArray[np.int32] | None, bucket: int
    ) -> npt.NDArray[np.int32] | None:
        if pairs is None:
            return None
        if not 0 <= bucket <= _MAX_BUCKETS:
            raise self.error(f"it has {bucket:,} buckets; at most {_MAX_BUCKETS:,} are supported")
        buckets = pairs[0::2]
        if not _all_in_range(buckets, bucket):
            raise self.error("the bucket of an n-gram is out of range")
        places = np.full(bucket, -1, np.int32)
        places[buckets] = pairs[1::2]
        return places

    def shape(self) -> tuple[int, int]:
        num_rows, num_columns = self.number("<i8"), self.number("<i8")
        if num_rows < 0 or not 0 < num_columns <= 1 << 16:
            raise self.error(f"invalid matrix size: {num_rows} x {num_columns}")
        return num_rows, num_columns

    def matrix(self) -> Matrix:
        num_rows, num_columns = self.shape()
        values = self.take(num_rows * num_columns, "<f4")
        return np.asarray(values, np.float32).reshape(num_rows, num_columns)

    def quantised_matrix(self) -> Matrix:
        """Decode a product-quantised matrix: one centroid per run of columns, and maybe norms."""
        with_norms = bool(self.number("u1"))
        num_rows, num_columns = self.shape()
        codes = self.take(self.number(), "u1")
        num_runs, centroids = self.quantiser(num_columns)
        if len(codes) != num_rows * num_runs:
            raise self.error(f"it has {len(codes):,} codes for {num_rows:,} rows of {num_runs}")
        num_bytes = 4 * num_rows * num_columns
        if num_bytes > max(_MAX_DECODED_BYTES, _MAX_DECODED_RATIO * len(self.data)):
            raise self.error(
                f"{num_rows:,} rows that decode to {num_bytes:,} bytes exceed the size limit"
            )
        by_row = codes.reshape(num_rows, num_runs)
        rows = np.concatenate(
            [table[by_row[:, run]] for run, table in enumerate(centroids)], axis=1
        )
        if with_norms:
            norm_codes = self.take(num_rows, "u1")
            _, norms = self.quantiser(1)
            with np.errstate(all="ignore"):
                rows *= norms[0][norm_codes]
        if not np.isfinite(rows).all():
            raise self.error("a quantised matrix has values that are NaN or infinite")
        return np.ascontiguousarray(rows, np.float32)

    def quantiser(self, num_columns: int) -> tuple[int, list[Matrix]]:
        dim, num_runs, run_length, last_length = (self.number() for _ in range(4))
        if dim != num_columns or not 1 <= num_runs <= dim:
            raise self.error(f"the quantiser has {dim} columns, but the matrix has {num_columns}")
        lengths = [run_length] * (num_runs - 1) + [last_length]
        if min(lengths) < 1 or sum(lengths) != dim:
            raise self.error(f"invalid quantiser: {dim} columns in {num_runs} runs of {run_length}")
        values = np.asarray(self.take(dim * 256, "<f4"), np.float32)
        ends = np.cumsum([256 * length for length in lengths])
        pieces = np.split(values, ends[:-1])
        return num_runs, [p.reshape(256, n) for p, n in zip(pieces, lengths, strict=True)]


def _all_in_range(numbers: npt.NDArray[np.int32], end: int) -> bool:
    return len(numbers) == 0 or bool(0 <= numbers.min() and numbers.max() < end)
