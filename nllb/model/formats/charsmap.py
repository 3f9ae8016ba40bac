"""Compiles XLM-R's normalisation: what characters, alone or composed, are replaced with.

The compiled form is SentencePiece's, which the `tokenizers` library reads as "Precompiled".
"""

import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_NORMALIZER_FIELD: Final = 3  # of ModelProto in sentencepiece_model.proto
_CHARSMAP_FIELD: Final = 2  # of NormalizerSpec there
_HANGUL, _LEAD, _VOWEL, _TAIL = 0xAC00, 0x1100, 0x1161, 0x11A7
_NUM_HANGUL, _NUM_VOWELS, _NUM_TAILS = 11172, 21, 28


def compile_charsmap(replacements: Mapping[str, str]) -> bytes:
    """Compile a map of single characters so that it also holds for characters that are spelt apart.

    A base character and the marks that Unicode composes with it are replaced as the composed
    character is. XLM-R's own map has those of these sequences that are fully decomposed; here a
    partly composed one is the same character, too: U+01A1 and U+0300, as Vietnamese is often typed.
    """
    rules = dict(replacements)
    for point in range(1, 0x110000):
        composed = chr(point)
        for spelling in _spellings(composed):
            if spelling != composed:
                rules[spelling] = replacements.get(composed, composed)
    return _compile(rules)


@cache
def _spellings(character: str) -> frozenset[str]:
    """Return a character and the sequences that Unicode's form NFC makes it of."""
    number = ord(character) - _HANGUL
    if 0 <= number < _NUM_HANGUL:
        tail = number % _NUM_TAILS
        if tail:
            begins = _spellings(chr(ord(character) - tail))
            return frozenset({character, *(begin + chr(_TAIL + tail) for begin in begins)})
        lead, vowel = divmod(number // _NUM_TAILS, _NUM_VOWELS)
        return frozenset((character, chr(_LEAD + lead) + chr(_VOWEL + vowel)))
    parts = unicodedata.decomposition(character).split()
    is_pair = len(parts) == 2 and not parts[0].startswith("<")
    if not is_pair or unicodedata.normalize("NFC", character) != character:
        return frozenset((character,))
    base, mark = (chr(int(part, 16)) for part in parts)
    return frozenset({character, *(begin + mark for begin in _spellings(base))})


def _compile(rules: Mapping[str, str]) -> bytes:
    """Let SentencePiece compile rules, into a model that is then thrown away."""
    from sentencepiece import SentencePieceTrainer

    model = BytesIO()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rules.tsv"
        lines = (f"{_points(source)}\t{_points(target)}\n" for source, target in rules.items())
        path.write_text("".join(lines), encoding="ascii")
        SentencePieceTrainer.train(
            sentence_iterator=iter(["a b c d e f g"] * 10),
            model_writer=model,
            model_type="char",
            vocab_size=12,
            hard_vocab_limit=False,
            normalization_rule_tsv=str(path),
            minloglevel=2,
        )
    [specification] = _fields(model.getvalue(), _NORMALIZER_FIELD)
    [charsmap] = _fields(specification, _CHARSMAP_FIELD)
    return charsmap


def _points(text: str) -> str:
    return " ".join(f"{ord(character):X}" for character in text)


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the fields of a protocol buffer that have this number and a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(message, at)
            if tag >> 3 == wanted:
                yield message[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        else:
            at += 4 if kind == 5 else 8


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
