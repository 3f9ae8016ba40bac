"""Opens SentencePiece models after validating them, for all packages."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from nllb.errors import CheckpointError, DataError

from .text import read_bytes

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

MAX_MODEL_BYTES: Final = 128 << 20
"""Maximum size of a model; that of NLLB-200, with 256,000 pieces, has 5 MB."""


def read_piece_model(path: Path) -> bytes:
    """Return the bytes of a SentencePiece model.

    Raises:
        CheckpointError: the file is missing, cannot be read, or exceeds `MAX_MODEL_BYTES`.
    """
    if not path.is_file():
        raise CheckpointError(f"the SentencePiece model {path} does not exist")
    try:
        return read_bytes(path, max_bytes=MAX_MODEL_BYTES)
    except DataError as error:
        raise CheckpointError(str(error)) from error


def load_pieces(model: bytes, where: Path | str) -> "SentencePieceProcessor":
    """Open a SentencePiece model.

    Args:
        model: the content of the file.
        where: the path of the file, for messages.

    Raises:
        CheckpointError: the content is not a complete SentencePiece model.
    """
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(model)
        size = processor.get_piece_size()
        processor.id_to_piece(list(range(size)))
    except (OSError, RuntimeError, IndexError) as error:
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{where} is not a SentencePiece model, or is damaged or cut short"
            + (f" ({reason[0][-120:]})" if reason else "")
            + "; download it again"
        ) from None
    except UnicodeDecodeError:
        raise CheckpointError(
            f"{where} is damaged: a piece of the SentencePiece model is not UTF-8; download it "
            f"again"
        ) from None
    if not size:
        raise CheckpointError(f"{where} is a SentencePiece model without pieces; download it again")
    return processor


def open_pieces(path: Path) -> "SentencePieceProcessor":
    """Open the SentencePiece model of a file.

    Raises:
        CheckpointError: the file is missing, or is not a complete SentencePiece model.
    """
    return load_pieces(read_piece_model(path), path)
