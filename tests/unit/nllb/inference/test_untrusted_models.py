"""Model directories with numbers that cannot be computed with: each is refused with a reason."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from nllb.errors import CheckpointError
from nllb.inference.generator import SearchOptions
from nllb.inference.layers import read_float
from nllb.inference.model_generator import ModelGenerator
from nllb.inference.quantization import read_int8
from nllb.inference.shortlist import SHORTLIST_FILE
from nllb.languages import parse_language
from nllb.model.formats.hugging_face import write_hugging_face
from nllb.model.formats.open_model import load_model, open_model

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def int8_model_dir(random_model_dir, tmp_path_factory) -> Path:
    source = open_model(random_model_dir)
    folder = tmp_path_factory.mktemp("int8") / "model"
    write_hugging_face(
        folder, source.config, source.weights, source.tokenizer(), settings={}, storage="int8"
    )
    return folder


@pytest.fixture
def changed(tmp_path) -> Callable[..., Path]:
    """Return a function that copies a model directory with another configuration or tensors."""

    def change(model_dir: Path, *, config=None, tensors=None) -> Path:
        folder = copytree(model_dir, tmp_path / "changed")
        if config is not None:
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | config))
        if tensors is not None:
            [path] = folder.glob("*.safetensors")
            stored = load_file(path)
            tensors(stored)
            save_file(stored, path, {"format": "pt"})
        return folder

    return change


def translate(folder: Path, dtype: str) -> None:
    generator = ModelGenerator.load(folder, dtype=dtype, device="cpu", num_threads=1)
    generator.generate(
        ["English and French", "Hindi"],
        source=parse_language("eng_Latn"),
        target=parse_language("fra_Latn"),
        search=SearchOptions(max_output_tokens=6),
    )


@pytest.mark.parametrize("wrong", [-5, 10**9])
@pytest.mark.parametrize(
    "name", ["pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id"]
)
def test_ids_outside_of_the_vocabulary(random_model_dir, changed, name, wrong) -> None:
    folder = changed(random_model_dir, config={name: wrong})
    with pytest.raises(CheckpointError, match=rf"{name} is {wrong}, .* vocabulary \(0 to \d+\)"):
        translate(folder, "int8")


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ("model.shared.weight", "embedding.weight"),
        ("model.encoder.layers.0.ffn.fc1.weight", "encoder.layers.0.feed_forward.inner.weight"),
        ("model.decoder.layers.1.self_attn.k_proj.bias", "layers.1.self_attention.key.bias"),
        ("model.encoder.layer_norm.weight", "encoder.norm.weight"),
        ("model.encoder.layers.1.ffn.router.classifier.weight", "feed_forward.router.weight"),
    ],
)
def test_weights_that_are_not_finite(
    random_model_dir, changed, dtype, value, stored, named
) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[stored].view(-1)[-1] = value

    folder = changed(random_model_dir, tensors=spoil)
    with pytest.raises(CheckpointError, match=rf"{named} has values that are NaN or infinite"):
        translate(folder, dtype)
    with pytest.raises(CheckpointError, match=named):
        load_model(open_model(folder))


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_experts_are_looked_at_when_they_are_read(random_model_dir, changed, dtype) -> None:
    def spoil(tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            if "expert_" in name and "fc2.weight" in name:
                tensor[0, 0] = float("nan")

    folder = changed(random_model_dir, tensors=spoil)
    with pytest.raises(CheckpointError, match=r"experts\.\d\.outer\.weight has values that are"):
        translate(folder, dtype)


def test_weights_that_float16_cannot_hold(random_model_dir, changed) -> None:
    folder = changed(random_model_dir, tensors=lambda t: t["model.shared.weight"].fill_(7e4))
    with pytest.raises(CheckpointError, match=r"embedding\.weight .* infinite as float16"):
        translate(folder, "float16")


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_finite_weights_whose_sums_overflow(random_model_dir, changed, dtype) -> None:
    def enlarge(tensors: Tensors) -> None:
        tensors["model.encoder.layers.0.ffn.fc2.weight"].fill_(1e38)
        tensors["model.encoder.layers.0.ffn.fc1.bias"].fill_(1e38)

    folder = changed(random_model_dir, tensors=enlarge)
    with pytest.raises(CheckpointError, match="scores are not finite numbers"):
        translate(folder, dtype)


NAME = "model.encoder.layers.0.ffn.fc1.weight"


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda t: t.pop(f"{NAME}.scale"),
            "is stored as int8 without the scales",
        ),
        (
            lambda t: t.update({f"{NAME}.scale": t[f"{NAME}.scale"][:-1].clone()}),
            r"fc1.weight.scale is 47 of torch.float32, but must be 48 of torch.float32",
        ),
        (
            lambda t: t.update({f"{NAME}.scale": t[f"{NAME}.scale"].int()}),
            r"fc1.weight.scale is 48 of torch.int32, but must be 48 of torch.float32",
        ),
        (
            lambda t: t.update({NAME: t[NAME].float()}),
            "inner.weight is stored as torch.float32 and has scales",
        ),
        (
            lambda t: t.update({f"{NAME[:-6]}bias": t[f"{NAME[:-6]}bias"].long()}),
            "inner.bias is stored as torch.int64",
        ),
        (lambda t: t[f"{NAME}.scale"].fill_(float("inf")), "inner.weight"),
    ],
    ids=["none", "too few", "integers", "of floats", "integer bias", "infinite"],
)
def test_scales_that_are_not_those_of_a_matrix(
    int8_model_dir, changed, dtype, spoil, message
) -> None:
    folder = changed(int8_model_dir, tensors=spoil)
    with pytest.raises(CheckpointError, match=message):
        translate(folder, dtype)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.tensor([-1, 2, 5]), "has ids from -1 to 5"),
        (torch.tensor([2, 5, 10**6]), "has ids from 2 to 1000000"),
        (torch.tensor([2, 5, 2**62]), "has ids from 2 to 4611686018427387904"),
        (torch.tensor([2, 7, 5]), "has ids that are not ascending"),
        (torch.tensor([2, 2]), "has ids that are not ascending"),
        (torch.tensor([], dtype=torch.int64), r"is int64 of shape \[0\]"),
    ],
)
def test_shortlists_of_another_model(random_model_dir, changed, ids, message) -> None:
    folder = changed(random_model_dir)
    save_file({"fra_Latn": ids}, folder / SHORTLIST_FILE)
    with pytest.raises(CheckpointError, match=f"shortlist of fra_Latn in .*{message}"):
        translate(folder, "int8")


@pytest.mark.parametrize(
    ("weight", "scale", "message"),
    [
        (torch.ones(3, 4).int(), None, "is int32 without scales"),
        (torch.ones(3, 4).char(), None, "is int8 without scales"),
        (torch.ones(3, 4), torch.ones(3), r"is float32 of shape \[3, 4\] and has scales"),
        (torch.ones(3).char(), torch.ones(3), r"is int8 of shape \[3\] and has scales"),
        (
            torch.ones(3, 4).char(),
            torch.ones(2),
            r"float32 of shape \[2\], but its 3 rows need one",
        ),
        (torch.ones(3, 4).char(), torch.ones(3).int(), r"scales that are int32 of shape \[3\]"),
        (torch.ones(3), None, "is not a matrix"),
    ],
)
def test_weights_that_do_not_come_from_a_file(weight, scale, message) -> None:
    weights = {"w": weight} | ({} if scale is None else {"w.scale": scale})
    with pytest.raises(CheckpointError, match=f"the weight w .*{message}|w {message}"):
        read_int8(weights, "w")
    if weight.ndim == 2 or scale is not None:
        with pytest.raises(CheckpointError, match=f"the weight w {message}|has scales that"):
            read_float(weights, "w")
