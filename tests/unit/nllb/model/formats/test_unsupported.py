"""Models of other kinds are named, with what to do instead."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nllb.errors import CheckpointError
from nllb.model.formats.open_model import open_model
from nllb.model.formats.unsupported import describe_names


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        open_model(path, offline=True)
    return str(error.value)


def write_config(folder: Path, **values: object) -> None:
    (folder / "config.json").write_text(json.dumps(values))


def test_an_adapter_is_to_be_merged(tmp_path: Path) -> None:
    base = {"base_model_name_or_path": "facebook/nllb-200-distilled-600M"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(base))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    message = refused(tmp_path)
    assert "PEFT adapter" in message and "merge_and_unload" in message
    assert "facebook/nllb-200-distilled-600M" in message
    (tmp_path / "adapter_config.json").write_text("[" * 10_000)
    assert "PEFT adapter" in refused(tmp_path)
    write_config(tmp_path, model_type="m2m_100")
    assert "PEFT adapter" in refused(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert "lacks vocab_size" in refused(tmp_path)


def test_a_ctranslate2_directory(tmp_path: Path) -> None:
    for name in ("model.bin", "shared_vocabulary.json"):
        (tmp_path / name).write_bytes(b"x")
    assert "CTranslate2" in refused(tmp_path)
    write_config(tmp_path, add_source_eos=False)
    assert "CTranslate2" in refused(tmp_path) and "convert" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.gguf", r"llama\.cpp \(GGUF\)"),
        ("encoder_model.onnx", "ONNX"),
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
        ("rust_model.ot", "rust-bert"),
        ("model.npz", "Marian"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"\0" * 24)
    with pytest.raises(CheckpointError, match=message):
        open_model(tmp_path, offline=True)
    with pytest.raises(CheckpointError, match=message):
        open_model(tmp_path / name, offline=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nllb.zip", b"PK", "is an archive: unpack it"),
        ("model.safetensors", b"x", "give the directory"),
        ("weights", b"GGUF\x03", "GGUF"),
        ("weights", b"something", "is not a checkpoint"),
        ("a.pt", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refused(tmp_path / name)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("t5", "MADLAD-400"),
        ("marian", r"Marian \(OPUS-MT\)"),
        ("mbart", "mBART"),
        ("bert", "'bert'"),
        (["m2m_100"], "m2m_100"),
        (None, "None"),
    ],
)
def test_other_architectures_are_named(tmp_path: Path, model_type: object, name: str) -> None:
    write_config(tmp_path, model_type=model_type)
    with pytest.raises(CheckpointError, match=rf"{name}.*supported are m2m_100"):
        open_model(tmp_path, offline=True)


def test_weights_that_another_program_quantised(tmp_path: Path) -> None:
    write_config(tmp_path, model_type="m2m_100", quantization_config={"quant_method": "gptq"})
    assert "quantised with gptq" in refused(tmp_path)
    write_config(tmp_path, model_type="m2m_100", quantization_config={"load_in_8bit": True})
    assert "quantised with bitsandbytes" in refused(tmp_path)
    shape = {
        **{"vocab_size": 10, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
        **{"encoder_ffn_dim": 8, "decoder_ffn_dim": 8},
    }
    write_config(tmp_path, model_type="m2m_100", **shape)
    name = "model.encoder.layers.0.fc1.weight"
    tensors = {
        name: torch.zeros(8, 8, dtype=torch.int8),
        f"{name.removesuffix('weight')}SCB": torch.ones(8),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert "bitsandbytes" in refused(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "sentencepiece.bpe.model"])
def test_git_lfs_pointers_are_named(random_model_dir: Path, tmp_path: Path, name: str) -> None:
    import shutil

    folder = shutil.copytree(random_model_dir, tmp_path / "model")
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    with pytest.raises(CheckpointError, match=f"{name} is a git-lfs pointer"):
        open_model(folder).tokenizer()


def test_what_a_hub_model_is_can_be_told_from_its_files() -> None:
    assert "GGUF" in str(describe_names(["README.md", "nllb.Q4.gguf"]))
    assert "adapter" in str(describe_names(["adapter_config.json"]))
    assert describe_names(["config.json", "model.safetensors"]) is None
