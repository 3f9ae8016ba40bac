"""The vocabulary of M2M-100 and SMaLL-100, in which `vocab.json` numbers the pieces.

The rows for a `vocab.json` of n entries are:

    0 <s>   1 <pad>   2 </s>   3 <unk>
    4 ... n-1              pieces, in the order of `vocab.json` and not of the SentencePiece model
    n ... n+99             the language tokens (`__en__`), in the order of `m2m_language_tokens.tsv`
    n+100 ...              unused rows

The pieces of the SentencePiece model are reordered when they are read, so that the rest of this
package has one numbering: the id of a piece is its index + 1. Entries without a piece become unused
pieces. Pieces without an entry follow after all others; text never gets their ids.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nllb.errors import CheckpointError
from nllb.io.paths import path_inside
from nllb.io.piece_proto import Piece, PieceKind, PieceModel
from nllb.io.text import read_table, write_json

from .configuration import read_document
from .formats.tokenizer_json import SPECIAL_PIECES
from .token_layout import (
    ROLES,
    TOKENIZER_CONFIG_FILE,
    Prompt,
    TokenLayout,
    read_added_tokens,
    token_entry,
)

ORDER_FILE: Final = "vocab.json"
_SMALL_NAMES: Final = ("small100", "small-100")
_SMALL_CLASS: Final = "SMALL100Tokenizer"


def read_m2m_layout(
    directory: Path, vocabulary: bytes, *, vocabulary_size: int
) -> tuple[bytes, TokenLayout]:
    """Return the reordered SentencePiece model and the layout of a directory with `vocab.json`.

    Raises:
        CheckpointError: the files are damaged, or do not match a model of this size.
    """
    path = path_inside(directory, ORDER_FILE)
    order = _read_order(path)
    model = _reorder(PieceModel.parse(vocabulary), order)
    config = read_tokenizer_config(directory)
    codes = config.get("language_codes") or "m2m100"
    known = _language_tokens(codes, directory / TOKENIZER_CONFIG_FILE)
    languages = {token: len(order) + number for number, token in enumerate(known)}
    added: dict[str, int] = {}
    taken = set(languages.values())
    for number, entry in sorted(read_added_tokens(directory).items()):
        token = entry["content"]
        if number >= len(order) and number not in taken and token not in languages:
            (languages if entry["special"] else added)[token] = number
    layout = TokenLayout(
        num_pieces=len(order) - 1,
        languages=languages,
        data_tags={},
        added=added,
        prompt=_prompt(directory, config),
        family="m2m_100",
    )
    if layout.size > vocabulary_size:
        raise CheckpointError(
            f"the tokenizer of {directory} needs {layout.size:,} rows, but the model has "
            f"{vocabulary_size:,}; the tokenizer and the weights are from different models"
        )
    return model.build(), layout


def write_m2m_layout(
    layout: TokenLayout, directory: Path, vocabulary: bytes, *, max_positions: int
) -> None:
    """Write the token files that transformers' M2M100Tokenizer reads."""
    pieces = PieceModel.parse(vocabulary).pieces[len(SPECIAL_PIECES) - 1 : layout.num_pieces]
    order = [*SPECIAL_PIECES, *(piece.text for piece in pieces)]
    write_json(directory / ORDER_FILE, {token: number for number, token in enumerate(order)})
    names = dict(enumerate(SPECIAL_PIECES)) | layout.names()
    special = {*SPECIAL_PIECES, *layout.languages}
    is_wmt21 = list(layout.languages)[:8] == _language_tokens("wmt21", directory)
    is_small = layout.prompt == "target first"
    write_json(
        directory / TOKENIZER_CONFIG_FILE,
        {
            "tokenizer_class": _SMALL_CLASS if is_small else "M2M100Tokenizer",
            "language_codes": "wmt21" if is_wmt21 else "m2m100",
            "added_tokens_decoder": {
                str(number): token_entry(token, special=token in special)
                for number, token in names.items()
            },
            "additional_special_tokens": list(layout.languages),
            **ROLES,
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_positions,
            "num_madeup_words": 8,
            "sp_model_kwargs": {},
        },
    )


def read_tokenizer_config(directory: Path) -> dict[str, Any]:
    """Return the content of `tokenizer_config.json`; empty if the file does not exist."""
    path = directory / TOKENIZER_CONFIG_FILE
    return read_document(path_inside(directory, path.name)) if path.is_file() else {}


def _read_order(path: Path) -> list[str]:
    """Return the tokens of `vocab.json` by id."""
    by_id = {number: token for token, number in read_document(path).items() if type(number) is int}
    order = [by_id[number] for number in range(len(by_id)) if number in by_id]
    if len(order) != len(read_document(path)) or order[:4] != list(SPECIAL_PIECES):
        raise CheckpointError(
            f"{path} is damaged or not that of M2M-100: it must number its tokens from 0 without "
            f"gaps, beginning with {', '.join(SPECIAL_PIECES)}"
        )
    return order


def _reorder(model: PieceModel, order: Sequence[str]) -> PieceModel:
    by_text = {piece.text: piece for piece in model.pieces}
    chosen = [by_text.get(text) or Piece(text, 0.0, PieceKind.UNUSED) for text in order[4:]]
    special = [by_text[text] for text in ("<unk>", "<s>", "</s>")]
    used = {*order, *("<unk>", "<s>", "</s>")}
    rest = [piece for piece in model.pieces if piece.text not in used]
    return replace(model, pieces=(*special, *chosen, *rest))


def _language_tokens(codes: Any, where: Path) -> list[str]:
    """Return the language tokens of a list that `language_codes` names, in the order of ids."""
    rows = list(read_table(Path(__file__).parent / "m2m_language_tokens.tsv"))
    if codes == "wmt21":
        listed = [row for row in rows if row["wmt21"] != "-"]
        return [row["token"] for row in sorted(listed, key=lambda row: int(row["wmt21"]))]
    if codes != "m2m100":
        raise CheckpointError(
            f"{where}: language_codes is {repr(codes)[:40]}; valid values are m2m100 and wmt21"
        )
    return [row["token"] for row in rows]


def _prompt(directory: Path, config: dict[str, Any]) -> Prompt:
    """Return whether the encoder input has the source or, as in SMaLL-100, the target language.

    The weights of SMaLL-100 look like those of M2M-100. The class of its tokenizer, the file with
    this class, or the name of the directory identifies it.
    """
    named = any(
        name in part.casefold() for part in directory.absolute().parts[-3:] for name in _SMALL_NAMES
    )
    has_class = config.get("tokenizer_class") == _SMALL_CLASS
    has_file = (directory / "tokenization_small100.py").is_file()
    return "target first" if named or has_class or has_file else "source first"
