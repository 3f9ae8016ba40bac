"""E5S1 files are read as they were written; damaged and foreign ones are refused before use."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from nllb.errors import CheckpointError
from nllb.model.formats.e5_file import open_e5_file
from nllb.model.formats.encoder_weight_names import encoder_weight_name
from nllb.model.formats.four_bit import dequantize_blocks
from nllb.model.pretrained_encoder import list_encoder_weights
from tests.damage import damage
from tests.tiny_encoder import PIECES, REPLACEMENTS, TinyShape, write_e5_file


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "tiny.bin"


def test_everything_is_read_as_it_was_written(path) -> None:
    weights = write_e5_file(path)
    file = open_e5_file(path)
    assert file.pieces == PIECES
    assert dict(file.replacements) == REPLACEMENTS
    assert file.config.norm_epsilon == 1e-12
    assert (file.config.bos_id, file.config.pad_id, file.config.eos_id) == (0, 1, 2)
    for weight in list_encoder_weights(file.config):
        if weight.is_matrix:
            found = dequantize_blocks(*file.read_blocks(weight.name))
        else:
            found = file.read_vector(weight.name)
        assert np.array_equal(found.numpy(), weights[encoder_weight_name(weight.name, "bert")])


def test_blocks_keep_their_bytes(path) -> None:
    write_e5_file(path)
    halves, scale = open_e5_file(path).read_blocks("layers.1.outer.weight")
    assert (halves.dtype, scale.dtype) == (torch.uint8, torch.float16)
    row = scale.numpy()[0, 0].tobytes() + halves.numpy()[0, :16].tobytes()
    assert row in path.read_bytes()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (TinyShape(version=2), "version 2, not of version 1"),
        (TinyShape(block=16), "blocks of 16 weights"),
        (TinyShape(rows=len(PIECES) - 1), "pieces for an embedding of"),
        (TinyShape(heads=5), "cannot be divided among 5 heads"),
        (TinyShape(special_ids=(0, 2, 2, 3)), "must differ"),
        (TinyShape(special_ids=(0, 2, 1, len(PIECES))), "are not pieces"),
        (TinyShape(pieces=(*PIECES[:-1], PIECES[5])), "a piece occurs twice"),
        (TinyShape(scores=[float("nan")] * len(PIECES)), "NaN or infinite"),
        (TinyShape(layers=0), "num_layers"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused(path, shape, message) -> None:
    write_e5_file(path, shape)
    with pytest.raises(CheckpointError, match=message):
        open_e5_file(path)


@pytest.mark.parametrize("content", [b"", b"E5S", b"GGUF" + b"\0" * 200, b"PK\x03\x04" * 50])
def test_files_of_other_kinds_are_refused(path, content) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tiny.bin"):
        open_e5_file(path)


def test_a_missing_file_is_an_error(path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        open_e5_file(path)


def test_a_git_lfs_pointer_is_named(path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        open_e5_file(path)


def test_a_file_that_is_cut_anywhere_is_refused(path) -> None:
    write_e5_file(path)
    whole = path.read_bytes()
    for length in [*range(4, 200), *range(200, len(whole) - 1, 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            open_e5_file(path)


def test_a_tensor_of_another_size_is_named(path) -> None:
    write_e5_file(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"l1.fi.b") + len(b"l1.fi.b") + 1
    content[place : place + 4] = struct.pack("<I", 5)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"l1\.fi\.b has 5 elements"):
        open_e5_file(path)


def test_a_missing_tensor_is_named(path) -> None:
    write_e5_file(path)
    path.write_bytes(path.read_bytes().replace(b"emb.ln.b", b"emb.ln.c"))
    with pytest.raises(CheckpointError, match=r"lacks 1 of the encoder's tensors.*emb\.ln\.b"):
        open_e5_file(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(path, value) -> None:
    weights = write_e5_file(path)
    bias = weights["encoder.layer.0.output.dense.bias"]
    broken = bias.copy()
    broken[3] = value
    path.write_bytes(path.read_bytes().replace(bias.tobytes(), broken.tobytes()))
    with pytest.raises(CheckpointError, match=r"layers\.0\.outer\.bias has values that are NaN"):
        open_e5_file(path).read_vector("layers.0.outer.bias")


def test_damage_never_ends_in_a_traceback(path) -> None:
    write_e5_file(path)
    whole, draw, refused = path.read_bytes(), random.Random(5), 0
    for _ in range(200):
        path.write_bytes(whole)
        damage(path, draw)
        try:
            file = open_e5_file(path)
            for weight in list_encoder_weights(file.config):
                (file.read_blocks if weight.is_matrix else file.read_vector)(weight.name)
        except CheckpointError:
            refused += 1
    assert refused > 20
