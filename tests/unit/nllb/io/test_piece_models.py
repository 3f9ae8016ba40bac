"""SentencePiece models that are damaged are refused when they are opened."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nllb.errors import CheckpointError
from nllb.io import piece_models
from nllb.io.piece_models import load_pieces, open_pieces


@pytest.fixture(scope="module")
def model(train_vocabulary: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = ["the house is small", "an old man lives in it"] * 50
    folder = tmp_path_factory.mktemp("pieces")
    return train_vocabulary(lines, folder, vocab_size=40, hard_vocab_limit=False)


def test_a_whole_model(model: Path) -> None:
    pieces = open_pieces(model)
    assert pieces.decode(pieces.encode("the old house")) == "the old house"


def test_damaged_models(model: Path) -> None:
    whole = model.read_bytes()
    for data in (b"", b"text", whole[: len(whole) // 2], b"\x0a\xff\xff\xff\xff\x07" + b"\0" * 50):
        with pytest.raises(CheckpointError, match=r"x\.model is (not a|a) SentencePiece model"):
            load_pieces(data, "x.model")
    pieces = open_pieces(model)
    piece = next(p for p in map(pieces.id_to_piece, range(3, 40)) if p.isascii() and len(p) > 1)
    with pytest.raises(CheckpointError, match="not UTF-8"):
        load_pieces(whole.replace(piece.encode(), b"\xff" * len(piece)), "x.model")


def test_missing_and_much_too_long(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        open_pieces(tmp_path / "missing.model")
    monkeypatch.setattr(piece_models, "MAX_MODEL_BYTES", 1 << 20)
    (tmp_path / "long.model").write_bytes(b"\0" * ((1 << 20) + 1))
    with pytest.raises(CheckpointError, match="longer than 1 MiB"):
        open_pieces(tmp_path / "long.model")
