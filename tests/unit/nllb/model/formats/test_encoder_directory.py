"""Directories open as they were written; changed, damaged and foreign ones are refused."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nllb.errors import CheckpointError
from nllb.model.encoder_tokenizer import NORMALIZATION_FILE, TOKENIZER_FILE
from nllb.model.formats.encoder_directory import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    EncoderDirectory,
    file_sha256,
)
from nllb.model.formats.sentence_space_file import SENTENCE_SPACE_FILE, write_sentence_space
from nllb.model.formats.settings import SETTINGS_FILE
from nllb.model.pretrained_encoder import list_encoder_weights
from nllb.model.sentence_space import SentenceSpace
from tests.damage import damage


@pytest.fixture
def copied(encoder_dir, tmp_path) -> Path:
    return Path(shutil.copytree(encoder_dir, tmp_path / "encoder"))


def change_json(path: Path, **values: object) -> None:
    document = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**document, **values}), "utf-8")


def without_hashes(folder: Path) -> Path:
    change_json(folder / SETTINGS_FILE, files={})
    return folder


def change_weights(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)
    without_hashes(folder)


def test_a_module_has_the_stored_weights(encoder_dir) -> None:
    directory = EncoderDirectory.open(encoder_dir)
    module = directory.load()
    assert not module.training
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, directory.read(name))


def test_embedding_rows_are_those_of_the_matrix(encoder_dir) -> None:
    directory = EncoderDirectory.open(encoder_dir)
    ids = torch.tensor([[5, 0], [7, 5]])
    assert torch.equal(directory.embedding().rows(ids), directory.read("embedding.weight")[ids])


def test_the_tokenizer_fits(encoder_dir) -> None:
    directory = EncoderDirectory.open(encoder_dir)
    ids = directory.tokenizer().encode("the house")
    assert max(ids) < directory.config.vocabulary_size


def test_a_directory_of_floats_opens(copied) -> None:
    directory = EncoderDirectory.open(copied)
    state = {
        weight.name: directory.read(weight.name)
        for weight in list_encoder_weights(directory.config)
    }
    save_file({name: tensor.half() for name, tensor in state.items()}, copied / WEIGHTS_FILE)
    again = EncoderDirectory.open(without_hashes(copied))
    assert torch.equal(again.read("layers.0.query.weight"), state["layers.0.query.weight"].half())
    assert again.input_range("layers.0.query") is None
    ids = torch.tensor([4, 2])
    assert torch.equal(again.embedding().rows(ids), again.read("embedding.weight")[ids])


@pytest.mark.parametrize("name", [CONFIG_FILE, TOKENIZER_FILE, NORMALIZATION_FILE, WEIGHTS_FILE])
def test_a_changed_file_is_named(copied, name) -> None:
    path = copied / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="is not the file that"):
        EncoderDirectory.open(copied)


@pytest.mark.parametrize("name", [CONFIG_FILE, TOKENIZER_FILE, NORMALIZATION_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_an_error(copied, name) -> None:
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        EncoderDirectory.open(without_hashes(copied)).tokenizer()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "m2m_100"}, "of type 'm2m_100'"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"hidden_size": 1 << 40}, "hidden_size|model_dim"),
        ({"hidden_size": "wide"}, "model_dim"),
        ({"num_hidden_layers": 4}, r"lacks the weight layers\.3"),
        ({"num_hidden_layers": 2}, "is not one of its weights"),
        ({"vocab_size": 999}, "does not match config"),
        ({"intermediate_size": 64}, "does not match config"),
        ({"pad_token_id": 0}, "must differ"),
    ],
)
def test_a_configuration_of_another_encoder_is_refused(copied, values, message) -> None:
    change_json(copied / CONFIG_FILE, **values)
    with pytest.raises(CheckpointError, match=message):
        EncoderDirectory.open(without_hashes(copied))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["layers.0.query.bias"].__setitem__(2, float("nan")), "query.bias .* NaN"),
        (lambda t: t["embedding.weight.scale"].__setitem__((1, 0), float("inf")), "NaN or inf"),
        (lambda t: t.pop("layers.1.outer.weight.scale"), "not .* of a floating-point type"),
        (lambda t: t.update({"layers.1.outer.weight.scale": torch.ones(64, 3)}), "4-bit blocks"),
        (lambda t: t.update({"x.weight": torch.ones(2)}), "x.weight is not one of its weights"),
        (lambda t: t.update({"layers.0.query.input_range": torch.ones(2)}), "input_range is"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(copied, change, message) -> None:
    change_weights(copied, change)
    with pytest.raises(CheckpointError, match=message):
        EncoderDirectory.open(copied)


def test_hashes_of_other_files_are_refused(copied) -> None:
    change_json(copied / SETTINGS_FILE, files={"../secret": file_sha256(copied / CONFIG_FILE)})
    with pytest.raises(CheckpointError, match="may have hashes"):
        EncoderDirectory.open(copied)


def test_a_translation_model_is_not_an_encoder(random_model_dir) -> None:
    with pytest.raises(CheckpointError, match="pretrained encoders are of type 'bert'"):
        EncoderDirectory.open(random_model_dir)


def test_damage_never_ends_in_a_traceback(encoder_dir, tmp_path) -> None:
    draw, refused = random.Random(11), 0
    for number in range(60):
        folder = Path(shutil.copytree(encoder_dir, tmp_path / str(number)))
        if number % 2:
            without_hashes(folder)
        damage(
            draw.choice([path for path in sorted(folder.iterdir()) if path.suffix != ".md"]), draw
        )
        try:
            directory = EncoderDirectory.open(folder)
            directory.tokenizer().encode("the house")
            directory.load()
        except CheckpointError:
            refused += 1
    assert refused > 20


def test_what_was_read_is_a_copy(encoder_dir) -> None:
    directory = EncoderDirectory.open(encoder_dir)
    directory.read("positions.weight").zero_()
    assert directory.read("positions.weight").any()


@pytest.mark.parametrize(
    "tensors",
    [
        {"mean": torch.zeros(63), "directions": torch.zeros(3, 64)},
        {"mean": torch.zeros(64), "directions": torch.zeros(3, 63)},
        {"mean": torch.zeros(64), "directions": torch.zeros(64)},
        {"mean": torch.zeros(64).half(), "directions": torch.zeros(3, 64).half()},
        {"mean": torch.zeros(64)},
        {"mean": torch.full((64,), torch.nan), "directions": torch.zeros(3, 64)},
    ],
)
def test_a_sentence_space_that_does_not_fit_is_refused(copied, tensors) -> None:
    save_file(tensors, copied / SENTENCE_SPACE_FILE)
    with pytest.raises(CheckpointError, match=SENTENCE_SPACE_FILE):
        EncoderDirectory.open(copied).sentence_space()


def test_a_sentence_space_is_read_and_its_hash_is_compared(copied) -> None:
    assert EncoderDirectory.open(copied).sentence_space() is None
    space = SentenceSpace.fit(torch.randn(100, 64, generator=torch.Generator().manual_seed(0)))
    write_sentence_space(copied, space)
    found = EncoderDirectory.open(copied).sentence_space()
    assert torch.equal(found.mean_D, space.mean_D)
    assert torch.equal(found.directions_KD, space.directions_KD)
    document = json.loads((copied / SETTINGS_FILE).read_text("utf-8"))
    change_json(copied / SETTINGS_FILE, files={**document["files"], SENTENCE_SPACE_FILE: "0" * 64})
    with pytest.raises(CheckpointError, match="is not the file"):
        EncoderDirectory.open(copied)
