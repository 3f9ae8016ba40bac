"""Text becomes the ids that XLM-R gives it; long text becomes windows; empty text says so."""

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from nllb.errors import CheckpointError
from nllb.io.atomic import atomic_text
from nllb.io.text import read_json, read_text, write_json
from nllb.model.encoder_tokenizer import (
    NORMALIZATION_FILE,
    TOKENIZER_FILE,
    EncoderTokenizer,
)
from nllb.model.formats.encoder_directory import CONFIG_FILE, read_encoder_config


@pytest.fixture(scope="module")
def tokenizer(encoder_dir) -> EncoderTokenizer:
    return EncoderTokenizer.open(encoder_dir, read_encoder_config(encoder_dir / CONFIG_FILE))


@pytest.fixture
def copied(encoder_dir, tmp_path) -> Path:
    for name in (TOKENIZER_FILE, NORMALIZATION_FILE, CONFIG_FILE):
        shutil.copy(encoder_dir / name, tmp_path)
    return tmp_path


def open_copy(folder: Path) -> EncoderTokenizer:
    return EncoderTokenizer.open(folder, read_encoder_config(folder / CONFIG_FILE))


def texts_of(tokenizer: EncoderTokenizer, ids: list[int], folder: Path) -> list[str]:
    vocabulary = read_json(folder / TOKENIZER_FILE)["model"]["vocab"]
    return [vocabulary[number][0] for number in ids]


def test_text_is_cut_into_pieces(tokenizer, encoder_dir) -> None:
    ids = tokenizer.encode("the old\thouse")
    assert texts_of(tokenizer, ids, encoder_dir) == ["▁the", "▁old", "▁house"]


def test_batches_equal_single_texts(tokenizer) -> None:
    texts = ["the house", "", "a dog sleeps by the river", "zzz"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_ids_equal_those_of_the_library_on_the_same_file(tokenizer, encoder_dir) -> None:
    theirs = Tokenizer.from_str(read_text(encoder_dir / TOKENIZER_FILE))
    for text in ["the house is small", "  the  dog ", "unknown çharacters", "a.b,c:d"]:
        assert tokenizer.tokenize([text])[0].windows == (tuple(theirs.encode(text).ids),)


def test_names_of_special_tokens_are_text(tokenizer) -> None:
    config = tokenizer.config
    special = {config.bos_id, config.eos_id, config.pad_id}
    assert not special & set(tokenizer.encode("a <s> b</s><pad><mask>"))


@pytest.mark.parametrize("text", ["", "   ", "\x01", "\t\n"])
def test_text_without_tokens_is_empty(tokenizer, text) -> None:
    [found] = tokenizer.tokenize([text], prefix="query: ")
    assert found.is_empty
    assert found.windows == ()


def test_a_sequence_has_its_prefix_and_special_tokens(tokenizer) -> None:
    config = tokenizer.config
    [found] = tokenizer.tokenize(["the dog"], prefix="query: ")
    assert found.windows == (
        (config.bos_id, *tokenizer.encode("query:"), *tokenizer.encode("the dog"), config.eos_id),
    )


def test_long_text_becomes_windows_that_lose_nothing(tokenizer) -> None:
    text = "the small house by the river " * 20
    [found] = tokenizer.tokenize([text], prefix="query: ")
    before = len(tokenizer.encode("query:")) + 1
    assert len(found.windows) > 2
    assert max(map(len, found.windows)) == tokenizer.config.max_positions
    joined = [number for window in found.windows for number in window[before:-1]]
    assert joined == tokenizer.encode(text)


def test_a_prefix_as_long_as_a_sequence_is_refused(tokenizer) -> None:
    with pytest.raises(ValueError, match="is as long as the longest sequence"):
        tokenizer.tokenize(["a"], prefix="the " * 40)


def test_pieces_say_where_they_are(tokenizer) -> None:
    text = "the ﬁ  house"
    pieces = tokenizer.token_spans(text)
    assert [text[piece.start : piece.end].strip() for piece in pieces][-1] == "house"
    assert [piece.token_id for piece in pieces] == tokenizer.encode(text)
    assert all(0 <= piece.start <= piece.end <= len(text) for piece in pieces)


def test_halves_of_surrogate_pairs_are_no_error(tokenizer) -> None:
    assert tokenizer.encode("the \ud800dog") == tokenizer.encode("the \ufffddog")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["model"].update(type="BPE"),
        lambda d: d["model"].update(unk_id=0),
        lambda d: d["model"]["vocab"].__setitem__(5, ["x", "high"]),
        lambda d: d["model"]["vocab"].__setitem__(5, [3, -1.0]),
        lambda d: d["model"]["vocab"].__setitem__(5, ["x", 1.0]),
        lambda d: d["normalizer"]["pattern"].update(Regex="(a+)+$"),
        lambda d: d.update(normalizer=None),
        lambda d: d.clear(),
    ],
)
def test_changed_files_are_refused(copied, change) -> None:
    path = copied / TOKENIZER_FILE
    document = read_json(path)
    change(document)
    write_json(path, document)
    with pytest.raises(CheckpointError):
        open_copy(copied)


def test_a_vocabulary_of_another_size_is_refused(copied) -> None:
    path = copied / TOKENIZER_FILE
    document = read_json(path)
    document["model"]["vocab"].pop()
    write_json(path, document)
    with pytest.raises(CheckpointError, match="from different models"):
        open_copy(copied)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_what_is_not_a_tokenizer_is_refused(copied, content) -> None:
    with atomic_text(copied / TOKENIZER_FILE) as stream:
        stream.write(content)
    with pytest.raises(CheckpointError):
        open_copy(copied)
