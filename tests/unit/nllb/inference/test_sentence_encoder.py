"""Vectors have length 1, empty texts say so, long ones are cut into windows and say so."""

import numpy as np
import pytest
import torch

from nllb.errors import CheckpointError
from nllb.inference import sentence_encoder
from nllb.inference.sentence_encoder import SentenceEncoder
from nllb.model import shipped_encoder
from nllb.model.sentence_space import SentenceSpace
from nllb.model.shipped_encoder import SHIPPED_ENCODER, find_shipped_encoder

TEXTS = ["the old house", "", "the dog sleeps by the river " * 12, "  ", "a"]


@pytest.fixture(scope="module", params=["auto", "float32"])
def encoder(request, encoder_dir) -> SentenceEncoder:
    return SentenceEncoder.load(encoder_dir, dtype=request.param, num_threads=1)


def test_vectors_are_means_of_length_one(encoder) -> None:
    found = encoder.encode(["the old house"])
    [text] = encoder.tokenizer.tokenize(["the old house"], prefix="query: ")
    mean = encoder.engine.encode(text.windows).states_LTD[0].mean(0)
    assert found.vectors[0] == pytest.approx((mean / mean.norm()).numpy(), abs=1e-6)
    assert found.vectors.dtype == np.float32
    assert found.num_tokens.tolist() == [len(text.windows[0])]


def test_empty_texts_have_a_zero_vector_and_a_flag(encoder) -> None:
    found = encoder.encode(TEXTS)
    assert found.is_empty.tolist() == [False, True, False, True, False]
    norms = np.linalg.norm(found.vectors, axis=1)
    assert norms == pytest.approx([1, 0, 1, 0, 1], abs=1e-6)
    assert found.num_tokens[found.is_empty].tolist() == [0, 0]


def test_long_texts_are_cut_into_windows_and_say_so(encoder) -> None:
    found = encoder.encode(TEXTS)
    assert found.num_windows[2] > 1
    assert found.num_windows.tolist() == [1, 0, found.num_windows[2], 0, 1]
    [text] = encoder.tokenizer.tokenize([TEXTS[2]], prefix="query: ")
    mean = encoder.engine.encode(text.windows).states_LTD[0].mean(0)
    assert found.vectors[2] == pytest.approx((mean / mean.norm()).numpy(), abs=1e-6)


def test_common_directions_are_removed(encoder) -> None:
    plain = encoder.encode(TEXTS)
    space = SentenceSpace.fit(torch.from_numpy(plain.vectors[~plain.is_empty]), 1)
    found = SentenceEncoder(encoder.engine, encoder.tokenizer, space).encode(TEXTS)
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx([1, 0, 1, 0, 1], abs=1e-6)
    assert found.vectors @ space.directions_KD[0].numpy() == pytest.approx(0, abs=1e-5)
    expected = space.remove_from(torch.from_numpy(plain.vectors)).numpy()
    assert found.vectors[~found.is_empty] == pytest.approx(expected[~plain.is_empty], abs=1e-6)


def test_groups_change_nothing(encoder, monkeypatch) -> None:
    whole = encoder.encode(TEXTS)
    monkeypatch.setattr(sentence_encoder, "_GROUP_TOKENS", 30)
    parts = encoder.encode(TEXTS)
    assert parts.vectors == pytest.approx(whole.vectors, abs=1e-6)
    assert parts.num_tokens.tolist() == whole.num_tokens.tolist()


def test_prefixes_differ(encoder) -> None:
    query, plain = (encoder.encode(["the dog"], prefix=prefix) for prefix in ("query: ", ""))
    assert not np.allclose(query.vectors, plain.vectors)
    assert query.num_tokens[0] > plain.num_tokens[0]


def test_no_texts_give_no_vectors(encoder) -> None:
    assert encoder.encode([]).vectors.shape == (0, encoder.dimension)


def test_odd_characters_are_no_error(encoder) -> None:
    found = encoder.encode(["\ud800", "\0\0", "</s> <pad>", "e\u0301\u0301" * 300])
    assert np.isfinite(found.vectors).all()


def test_a_missing_directory_is_an_error(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="is not a pretrained encoder"):
        SentenceEncoder.load(tmp_path)


def test_an_installation_without_the_encoder_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shipped_encoder, "SHIPPED_ENCODER", tmp_path / "encoder")
    with pytest.raises(CheckpointError, match="does not include it"):
        find_shipped_encoder()


@pytest.mark.skipif(not SHIPPED_ENCODER.is_dir(), reason="installed without the encoder")
def test_the_shipped_encoder_finds_translations() -> None:
    encoder = SentenceEncoder.load(num_threads=1)
    english = ["Where is the station?", "The river is deep.", "My sister reads many books."]
    others = ["Wo ist der Bahnhof?", "La rivière est profonde.", "मेरी बहन बहुत किताबें पढ़ती है।"]
    similarity = encoder.encode(others).vectors @ encoder.encode(english).vectors.T
    assert similarity.argmax(1).tolist() == [0, 1, 2]
