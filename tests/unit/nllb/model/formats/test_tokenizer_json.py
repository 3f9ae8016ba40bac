"""`tokenizer.json` is read exactly or rejected, and the written file keeps byte fallback."""

import json
from pathlib import Path
from typing import Any

import pytest

from nllb.errors import CheckpointError
from nllb.io.piece_models import load_pieces
from nllb.io.piece_proto import PieceKind, PieceModel
from nllb.model.formats.tokenizer_json import piece_model_of_json, write_tokenizer_json
from nllb.model.tokenizer import Tokenizer

TEXTS = ["ace_Latn: Bahsa Acèh.", "Hello 😀 𝒳 world", "ﬁ ½  Ａ", "日本語、中文", "", "x y"]
LANGUAGES = ["eng_Latn", "fra_Latn"]


@pytest.fixture(scope="module", params=["bpe", "unigram", "bpe with bytes", "unigram with bytes"])
def vocabulary_of_kind(request, train_vocabulary, tmp_path_factory) -> Path:
    from nllb.languages import languages

    lines = [f"{one.name}: {one.own_name}. {one.code}" for one in languages()]
    has_bytes = request.param.endswith("bytes")
    return train_vocabulary(
        lines,
        tmp_path_factory.mktemp("vocabulary"),
        vocab_size=600 + 256 * has_bytes,
        model_type=request.param.split()[0],
        character_coverage=0.98,
        byte_fallback=has_bytes,
    )


def test_ids_equal_the_sentencepiece_model_and_the_library(vocabulary_of_kind, tmp_path) -> None:
    import tokenizers

    tokenizer = Tokenizer.build(vocabulary_of_kind, LANGUAGES, normalize=False)
    tokenizer = tokenizer.with_languages(["tyv_Cyrl"])
    tokenizer.save(tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    (tmp_path / "sentencepiece.bpe.model").unlink()
    again = Tokenizer.open(tmp_path, vocabulary_size=tokenizer.vocabulary_size, normalize=False)
    assert again.layout == tokenizer.layout
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert again.encode(text) == ids
        assert library.encode(text, add_special_tokens=False).ids == ids
        assert again.decode(ids) == tokenizer.decode(ids)
    assert library.token_to_id("tyv_Cyrl") == tokenizer.language_id("tyv_Cyrl")


def test_an_emoji_is_written_and_read_as_bytes(vocabulary_of_kind, tmp_path) -> None:
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.build(vocabulary_of_kind, LANGUAGES, normalize=False)
    has_bytes = (tokenizer.byte_values(tokenizer.vocabulary_size) >= 0).any()
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path, src_lang="fra_Latn")
    ids = theirs("ok 😀").input_ids
    assert ids == tokenizer.encode_source("ok 😀", "fra_Latn")
    assert (3 not in ids) == has_bytes
    if has_bytes:
        assert theirs.decode(ids, skip_special_tokens=True) == "ok 😀"


def test_rows_without_a_name_keep_their_places(vocabulary_of_kind, tmp_path) -> None:
    vocabulary = vocabulary_of_kind.read_bytes()
    size = load_pieces(vocabulary, "it").get_piece_size()
    names = {size + 5: "eng_Latn", size + 9: "fra_Latn"}
    write_tokenizer_json(tmp_path, vocabulary, names, special={"eng_Latn", "fra_Latn"})
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    ids = {entry["content"]: entry["id"] for entry in document["added_tokens"]}
    assert {token: ids[token] for token in names.values()} == {n: i for i, n in names.items()}


def test_what_the_file_of_a_model_contains(vocabulary_of_kind) -> None:
    model = vocabulary_of_kind.read_bytes()
    parsed = PieceModel.parse(model)
    processor = load_pieces(model, "it")
    assert parsed.build() == model
    assert [piece.text for piece in parsed.pieces] == processor.id_to_piece(
        list(range(len(processor)))
    )
    assert [piece.kind == PieceKind.BYTE for piece in parsed.pieces] == [
        processor.is_byte(number) for number in range(len(processor))
    ]
    assert parsed.byte_fallback == any(piece.kind == PieceKind.BYTE for piece in parsed.pieces)
    for cut in (model[: len(model) // 2 + 1], model[:3], b"\x07"):
        with pytest.raises(CheckpointError, match="damaged"):
            PieceModel.parse(cut)


def _set(document: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for name in parents:
        document = document[name]
    document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.type", "WordPiece", "type 'WordPiece'"),
        ("model", None, "type None"),
        ("model.vocab", [], "no vocab"),
        ("model.merges", [["a"]], "not a merge"),
        ("model.merges", [], "not those of a SentencePiece model"),
        ("model.vocab", {"<s>": 0, "<pad>": 0}, "belongs to another token"),
        ("model.vocab", {"<s>": "x"}, "not a number"),
        ("pre_tokenizer", {"type": "ByteLevel"}, "splits text by ByteLevel"),
        ("pre_tokenizer", None, "no rule"),
        ("normalizer", {"type": "Lowercase"}, "'Lowercase'"),
        (
            "normalizer",
            {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
            "'Replace'",
        ),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "é"}, "not base64"),
    ],
)
def test_other_tokenizers_are_refused(vocabulary, tmp_path, path, value, message) -> None:
    Tokenizer.build(vocabulary, LANGUAGES).save(tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    _set(document, path, value)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=message):
        piece_model_of_json(tmp_path)


def test_other_tokens_at_the_first_ids_are_refused(vocabulary, tmp_path) -> None:
    Tokenizer.build(vocabulary, LANGUAGES).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text())
    ids = document["model"]["vocab"]
    ids["<s>"], ids["<pad>"] = 1, 0
    path.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="at the ids 0 to 3"):
        piece_model_of_json(tmp_path)
