"""Tokenizers for BLEU: those of sacrebleu by language, and SentencePiece from a local file."""

from array import array
from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import sha256
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np

from nllb.errors import CheckpointError, ConfigError, ResourceError, did_you_mean
from nllb.io.piece_models import open_pieces
from nllb.io.text import read_table

from .clipped_ngrams import Lengths, Symbols

DEFAULT_TOKENIZER: Final = "13a"
SPM_NAMES: Final = ("flores200", "flores101", "standin")
SpmName = Literal["flores200", "flores101", "standin"]

_SACREBLEU: Final = {
    "13a": ("tokenizer_13a", "Tokenizer13a"),
    "intl": ("tokenizer_intl", "TokenizerV14International"),
    "zh": ("tokenizer_zh", "TokenizerZh"),
    "char": ("tokenizer_char", "TokenizerChar"),
    "none": ("tokenizer_none", "NoneTokenizer"),
    "ja-mecab": ("tokenizer_ja_mecab", "TokenizerJaMecab"),
    "ko-mecab": ("tokenizer_ko_mecab", "TokenizerKoMecab"),
}
_EXTRAS: Final = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}


class Tokenizer(Protocol):
    """Splits sentences into the tokens that BLEU counts."""

    signature: str
    """Name after `tok:` in the signature."""

    def symbols(
        self, sentences: Sequence[str], vocabulary: "Vocabulary"
    ) -> tuple[Symbols, Lengths]:
        """Return the numbers of all tokens, and the number of tokens per sentence."""
        ...


class Vocabulary(dict[str, int]):
    """Numbers tokens in order from `first`; once it no longer grows, unknown tokens are -1."""

    def __init__(self, first: int = 0) -> None:
        self.first, self.grows = first, True

    def __missing__(self, token: str) -> int:
        if not self.grows:
            return -1
        number = self[token] = self.first + len(self)
        return number


class SacrebleuTokenizer:
    """One of sacrebleu's tokenizers, by its name."""

    def __init__(self, name: str) -> None:
        if name not in _SACREBLEU:
            raise ConfigError(
                f"unknown tokenizer {name!r}{did_you_mean(name, _SACREBLEU) or '.'} Valid: "
                f"{', '.join(_SACREBLEU)}"
            )
        module, kind = _SACREBLEU[name]
        try:
            self._tokenize: Any = getattr(import_module(f"sacrebleu.tokenizers.{module}"), kind)()
        except (ImportError, RuntimeError) as error:
            extra = _EXTRAS.get(name, "sacrebleu")
            raise ResourceError(
                f"tokenizer {name!r} is not installed; run: pip install '{extra}'"
            ) from error
        self.signature: str = self._tokenize.signature()

    def symbols(self, sentences: Sequence[str], vocabulary: Vocabulary) -> tuple[Symbols, Lengths]:
        """Return the numbers of all tokens, and the number of tokens per sentence."""
        lines = [self._tokenize(sentence.rstrip()).split() for sentence in sentences]
        numbers = array("i", map(vocabulary.__getitem__, chain.from_iterable(lines)))
        return np.array(numbers, dtype=np.int32), np.array(list(map(len, lines)), dtype=np.int32)


class SentencePieceTokenizer:
    """Pieces of a SentencePiece model from a local file, whose hash is in the signature.

    sacrebleu prints `tok:flores200` for any file in its cache. We print a name only for a file
    whose SHA-256 the user pinned, and otherwise `spm:unverified`. We count pieces instead of
    ids, which would make all unknown characters equal (up to 0.28 BLEU).
    """

    def __init__(
        self, path: Path, *, name: SpmName = "flores200", pinned: str | None = None
    ) -> None:
        if name not in SPM_NAMES:
            raise ConfigError(f"unknown SentencePiece name {name!r}; valid: {', '.join(SPM_NAMES)}")
        self.path, self.sha256 = path, _file_sha256(path)
        if pinned is not None and not _is_pin(pinned, self.sha256):
            raise ConfigError(
                f"{path}: SHA-256 is {self.sha256}, but {pinned} was pinned; it is another model, "
                f"with which scores cannot be compared"
            )
        if name == "standin":
            label = "spm:standin"
        else:
            label = name if pinned is not None else "spm:unverified"
        self.verified = pinned is not None and name != "standin"
        self.signature = f"{label}|spm-sha256:{self.sha256}"
        if not self.verified:
            self.signature += "|unverified"
        self._model: Any = None

    def symbols(self, sentences: Sequence[str], vocabulary: Vocabulary) -> tuple[Symbols, Lengths]:
        """Return the numbers of all pieces, and the number of pieces per sentence.

        Known pieces are numbered by their id, which is faster than strings. Sentences with an
        unknown piece, or with one that contains a space (which sacrebleu would split), use strings.
        """
        if self._model is None:
            self._model = open_pieces(self.path)
            size = self._model.GetPieceSize()
            pieces = [self._model.IdToPiece(number) for number in range(size)]
            self._by_string = np.array([piece.split() != [piece] for piece in pieces])
            self._by_string[self._model.unk_id()] = True
            self._ids = {piece: number for number, piece in enumerate(pieces)}
        vocabulary.first = len(self._ids)
        stripped = [sentence.rstrip() for sentence in sentences]
        lines = self._model.Encode(stripped, out_type=int, num_threads=1)
        ids = np.array(array("i", chain.from_iterable(lines)), dtype=np.int32)
        lengths = np.array(list(map(len, lines)), dtype=np.int32)
        strange = self._by_string[ids]
        if not strange.any():
            return ids, lengths
        for line in np.unique(np.repeat(np.arange(len(lines)), lengths)[strange]):
            tokens = " ".join(self._model.Encode(stripped[line], out_type=str)).split()
            known = map(self._ids.get, tokens)
            lines[line] = [
                vocabulary[token] if number is None or self._by_string[number] else number
                for token, number in zip(tokens, known, strict=True)
            ]
        lengths = np.array(list(map(len, lines)), dtype=np.int32)
        return np.array(array("i", chain.from_iterable(lines)), dtype=np.int32), lengths

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes load the model themselves.
        kept = {
            name: value
            for name, value in self.__dict__.items()
            if name not in {"_ids", "_by_string"}
        }
        return {**kept, "_model": None}


@cache
def bleu_tokenizer_name(language: str) -> tuple[str, str]:
    """Return the tokenizer for BLEU in a language, and the NLLB team's if it differs, or ''."""
    row = _table().get(language)
    if row is None:
        return DEFAULT_TOKENIZER, ""
    other = row["paper"] if not row["paper"].startswith(row["tokenizer"]) else ""
    return row["tokenizer"], other


@cache
def _table() -> dict[str, dict[str, str]]:
    rows = read_table(Path(__file__).with_name("bleu_tokenizers.tsv"))
    return {row["code"]: row for row in rows}


def _is_pin(pinned: str, found: str) -> bool:
    pinned = pinned.strip().lower().removeprefix("sha256:")
    if len(pinned) != 64 or set(pinned) - set("0123456789abcdef"):
        raise ConfigError(f"a pinned SHA-256 has 64 hexadecimal digits, not {pinned!r}")
    return pinned == found


@lru_cache(maxsize=8)
def _file_sha256(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"cannot read the SentencePiece model {path}: {error.strerror or error}; spBLEU needs "
            "the file that FLORES offers (sacrebleu_tokenizer_spm.model of FLORES-101, or the "
            "FLORES-200 one) at a local path"
        ) from error
