"""Reads and writes `tokenizer.json`, the file of the `tokenizers` library.

Directories that transformers 5 saved have only this file. It is converted to the SentencePiece
model from which it was made, so that this package has one tokenizer. The conversion is exact for
vocabularies that came from SentencePiece; others are rejected, because their ids would differ.
Normalization by patterns other than those of NLLB's tokenizers is also rejected: a pattern in an
untrusted file could take unlimited time.

The written file keeps byte fallback, which transformers 4 drops when it converts the SentencePiece
model itself.
"""

import base64
import binascii
from collections.abc import Container, Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nllb.errors import CheckpointError
from nllb.io.atomic import atomic_text
from nllb.io.paths import path_inside
from nllb.io.piece_models import load_pieces
from nllb.io.piece_proto import Piece, PieceKind, PieceModel, has_all_bytes, merges
from nllb.model.configuration import read_document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE: Final = "tokenizer.json"
SPECIAL_PIECES: Final = ("<s>", "<pad>", "</s>", "<unk>")
"""The tokens with the ids 0 to 3, in NLLB's order."""
MASK: Final = "<mask>"
_SPACE: Final = "\u2581"
_SPACES: Final = " {2,}"
_PATTERNS: Final = (_SPACES, "[\\n\\r\\t]")
"""Patterns whose replacement SentencePiece's own normalization covers."""
_UNUSED_SCORE: Final = -1e6
UNK_ID: Final = 3
_COPY: Final = "copy sentencepiece.bpe.model from the original model into the directory"

_Scored = list[tuple[str, float]]
"""Tokens by id with their scores."""


def piece_model_of_json(directory: Path) -> bytes:
    """Return the SentencePiece model that a directory's `tokenizer.json` describes.

    Raises:
        CheckpointError: the file is damaged, or describes a tokenizer of another kind.
    """
    path = path_inside(directory, TOKENIZER_FILE)
    document = read_document(path)
    model = document.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind not in ("BPE", "Unigram"):
        raise CheckpointError(
            f"{path} describes a tokenizer of the type {repr(kind)[:40]}; those of NLLB have the "
            f"type BPE or Unigram: {_COPY}"
        )
    _check_spaces(path, document)
    limit = _first_special_id(document)
    scored = _read_bpe(path, model, limit) if kind == "BPE" else _read_unigram(path, model, limit)
    first = [text for text, _ in scored[:4]]
    if first != list(SPECIAL_PIECES):
        raise CheckpointError(
            f"{path} has the tokens {repr(first)[:100]} at the ids 0 to 3; NLLB's layout requires "
            f"{list(SPECIAL_PIECES)}"
        )
    has_bytes = has_all_bytes([text for text, _ in scored])
    pieces = [Piece("<unk>", 0.0, PieceKind.UNKNOWN)]
    pieces += [Piece(text, 0.0, PieceKind.CONTROL) for text in ("<s>", "</s>")]
    for text, score in scored[4:]:
        is_byte = has_bytes and len(text) == 6 and text.startswith("<0x")
        pieces.append(Piece(text, score, PieceKind.BYTE if is_byte else PieceKind.NORMAL))
    built = PieceModel(
        pieces=tuple(pieces),
        algorithm="bpe" if kind == "BPE" else "unigram",
        character_map=_read_character_map(path, document.get("normalizer")),
        byte_fallback=has_bytes,
    ).build()
    load_pieces(built, path)
    return built


def write_tokenizer_json(
    directory: Path, vocabulary: bytes, names: Mapping[int, str], *, special: Container[str]
) -> None:
    """Write the file for a SentencePiece model of unigram or BPE pieces, and nothing for others.

    Args:
        directory: the model directory.
        vocabulary: the SentencePiece model.
        names: the tokens after the pieces, by ascending id.
        special: those that are special tokens, such as the languages.
    """
    from tokenizers import AddedToken, processors

    model = PieceModel.parse(vocabulary)
    if model.algorithm not in ("unigram", "bpe"):
        return
    tokenizer = _library_tokenizer(model, names)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL_PIECES])
    for token in names.values():
        is_mask, is_special = token == MASK, token in special or token == MASK
        added = AddedToken(token, lstrip=is_mask, normalized=is_mask, special=is_special)
        (tokenizer.add_special_tokens if is_special else tokenizer.add_tokens)([added])
    languages = [token for token in names.values() if token in special]
    if languages:  # transformers replaces this template when it sets a source language
        first = "eng_Latn" if "eng_Latn" in languages else languages[0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A </s>",
            pair=f"{first} $A $B </s>",
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, "</s>")],
        )
    with atomic_text(directory / TOKENIZER_FILE) as stream:
        stream.write(tokenizer.to_str(pretty=False))


def _library_tokenizer(model: PieceModel, names: Mapping[int, str]) -> "Tokenizer":
    """Return a tokenizer of the library that segments text as SentencePiece does."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = [(piece.text, piece.score) for piece in model.pieces[3:]]
    scored = [(text, 0.0) for text in SPECIAL_PIECES] + pieces
    for number in range(len(scored), max(names, default=-1) + 1):
        # Text has no spaces at this stage, so it never becomes an unused row.
        scored.append((names.get(number, f"<row {number}>"), _UNUSED_SCORE))
    fallback = model.byte_fallback
    if model.algorithm == "bpe":
        ids = {text: number for number, (text, _) in enumerate(scored)}
        tokenizer = Tokenizer(
            models.BPE(
                ids, merges(pieces), unk_token="<unk>", fuse_unk=True, byte_fallback=fallback
            )
        )
    else:
        tokenizer = Tokenizer(models.Unigram(scored, UNK_ID, byte_fallback=fallback))
    steps = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(_SPACES), " ")]
    if model.character_map:
        steps.insert(0, normalizers.Precompiled(model.character_map))
    tokenizer.normalizer = normalizers.Sequence(steps)
    spaces: dict[str, Any] = {"replacement": _SPACE, "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(**spaces)
    tokenizer.decoder = decoders.Metaspace(**spaces)
    if model.byte_fallback:
        tokenizer.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(**spaces)]
        )
    return tokenizer


def _first_special_id(document: Mapping[str, Any]) -> int | None:
    """Return the first id after the pieces, which are followed by special tokens."""
    added = document.get("added_tokens")
    ids = [
        entry["id"]
        for entry in (added if isinstance(added, list) else [])
        if isinstance(entry, dict) and entry.get("special") and type(entry.get("id")) is int
    ]
    return min((number for number in ids if number > 3), default=None)


def _read_bpe(path: Path, model: Mapping[str, Any], limit: int | None) -> _Scored:
    """Return the tokens by id, scored by the order of the merges that produce them."""
    vocabulary, listed = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(listed, list):
        raise CheckpointError(f"{path} is damaged: its BPE model has no vocab or no merges")
    tokens = _tokens_by_id(path, vocabulary)[:limit]
    pairs = [_read_merge(path, merge) for merge in listed]
    ranks: dict[str, int] = {}
    for left, right in pairs:
        ranks.setdefault(left + right, len(ranks))
    scored = [(token, -float(ranks.get(token, 0))) for token in tokens]
    if set(merges(scored[4:])) != set(pairs):
        raise CheckpointError(
            f"the merges in {path} are not those of a SentencePiece model, so that its ids cannot "
            f"be reproduced: {_COPY}"
        )
    return scored


def _read_merge(path: Path, merge: Any) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    is_pair = isinstance(parts, list) and len(parts) == 2
    if not is_pair or not all(isinstance(part, str) and part for part in parts):
        raise CheckpointError(f"{path} is damaged: {repr(merge)[:60]} is not a merge of two pieces")
    return parts[0], parts[1]


def _tokens_by_id(path: Path, vocabulary: Mapping[str, Any]) -> list[str]:
    """Return the tokens from id 0 on, up to the first id without a token."""
    by_id: dict[int, str] = {}
    for token, number in vocabulary.items():
        if type(number) is not int or number < 0 or number in by_id or not token:
            raise CheckpointError(
                f"{path} is damaged: {token[:40]!r} has the id {repr(number)[:40]}, which is not a "
                f"number or belongs to another token as well"
            )
        by_id[number] = token
    numbers = takewhile(by_id.__contains__, count())
    return [by_id[number] for number in numbers]


def _read_unigram(path: Path, model: Mapping[str, Any], limit: int | None) -> _Scored:
    listed = model.get("vocab")
    scored: _Scored = []
    for entry in listed if isinstance(listed, list) else []:
        is_pair = isinstance(entry, list) and len(entry) == 2
        if not is_pair or not isinstance(entry[0], str) or not isinstance(entry[1], int | float):
            raise CheckpointError(
                f"{path} is damaged: {repr(entry)[:60]} is not a piece with its score"
            )
        scored.append((entry[0], float(entry[1])))
    return scored[:limit]


def _check_spaces(path: Path, document: Mapping[str, Any]) -> None:
    """Check that spaces are treated as SentencePiece does."""
    rules = _steps(document.get("pre_tokenizer"), "pretokenizers")
    kinds = [rule.get("type") for rule in rules]
    scheme = rules[0].get("prepend_scheme", "always") if rules else None
    is_usual = kinds in (["Metaspace"], ["WhitespaceSplit", "Metaspace"])
    if not is_usual or scheme != "always":
        raise CheckpointError(
            f"{path} splits text by {', '.join(map(str, kinds))[:80] or 'no rule'}; NLLB's "
            f"tokenizers use Metaspace with a space before the text: {_COPY}"
        )


def _read_character_map(path: Path, normalizer: Any) -> bytes:
    """Return the compiled character map; the other rules are part of SentencePiece itself."""
    found = b""
    for step in _steps(normalizer, "normalizers"):
        kind, pattern = step.get("type"), step.get("pattern")
        text = pattern.get("Regex", pattern.get("String")) if isinstance(pattern, dict) else None
        if kind == "Precompiled":
            try:
                found = base64.b64decode(step.get("precompiled_charsmap") or "", validate=True)
            except (binascii.Error, ValueError, TypeError):
                raise CheckpointError(
                    f"{path} is damaged: its precompiled_charsmap is not base64"
                ) from None
        elif kind != "Strip" and not (kind == "Replace" and text in (*_PATTERNS, " ")):
            raise CheckpointError(
                f"{path} normalizes text with the rule {repr(kind)[:40]} {repr(text or '')[:40]}, "
                f"which NLLB's tokenizers do not have: {_COPY}"
            )
    return found


def _steps(rule: Any, name: str) -> Sequence[Mapping[str, Any]]:
    """Return the rules of a sequence, or the only rule."""
    if rule is None:
        return []
    listed = rule.get(name) if isinstance(rule, dict) and rule.get("type") == "Sequence" else [rule]
    steps = [step if isinstance(step, dict) else {"type": step} for step in listed or []]
    return steps
