"""Directories written here load in transformers, survive interruptions, and faults are told."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nllb.errors import CheckpointError, ResourceError
from nllb.model.configuration import ModelConfig
from nllb.model.formats.conversion import convert
from nllb.model.formats.hugging_face import write_hugging_face
from nllb.model.formats.open_model import load_model, open_model
from nllb.model.formats.quantized_storage import dequantize_rows, quantize_rows
from nllb.model.formats.weights import SCALE
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer

CONFIG = ModelConfig(
    vocabulary_size=2206,
    model_dim=16,
    encoder_layers=2,
    decoder_layers=2,
    encoder_heads=2,
    decoder_heads=4,
    encoder_ffn_dim=24,
    decoder_ffn_dim=40,
    max_positions=100,
    num_experts=4,
    encoder_sparse_step=2,
    decoder_sparse_step=1,
    expert_output_masking=0.2,
)
DENSE = replace(
    CONFIG, num_experts=0, encoder_sparse_step=0, decoder_sparse_step=0, expert_output_masking=0.0
)


@pytest.fixture(scope="module")
def tokenizer(vocabulary) -> Tokenizer:
    return Tokenizer.build(vocabulary)


@pytest.fixture(scope="module", params=[DENSE, CONFIG], ids=["dense", "sparse"])
def model(request, randomize) -> Transformer:
    module = Transformer(request.param).eval()
    randomize(module, 2)
    return module


@pytest.fixture(scope="module")
def folder(model, tokenizer, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("written") / "model"
    write_hugging_face(path, model.config, model.state_dict(), tokenizer, settings={"licence": "X"})
    return path


def test_transformers_loads_model_and_tokenizer(
    model, folder, padded_batch, reference_logits
) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    source, target = padded_batch
    reference = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    expected = reference_logits(reference, source, target)
    assert expected[target != 1].std() >= 1
    with torch.no_grad():
        torch.testing.assert_close(
            model(source, target)[target != 1], expected[target != 1], rtol=0, atol=1e-4
        )
    theirs = AutoTokenizer.from_pretrained(folder, src_lang="fra_Latn")
    ours = open_model(folder).tokenizer()
    assert theirs("Bonjour.").input_ids == ours.encode_source("Bonjour.", "fra_Latn")
    assert theirs.model_max_length == 100
    assert reference.generation_config.decoder_start_token_id == 2


def test_reading_gives_back_what_was_written(model, folder) -> None:
    directory = open_model(folder)
    assert directory.config == model.config
    state = model.state_dict()
    assert set(directory.weights) == set(state)
    for name, tensor in directory.weights.items():
        assert torch.equal(tensor, state[name])
        assert directory.weights.shape(name) == tuple(tensor.shape)
        assert directory.weights.dtype(name) == torch.float32
    assert directory.num_bytes == sum(tensor.numel() * 4 for tensor in state.values())
    assert directory.settings["licence"] == "X"
    assert directory.settings["storage"] == {"type": "float32"}


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "int8"])
def test_conversion_to_other_types(model, folder, padded_batch, tmp_path, storage) -> None:
    out = tmp_path / "out"
    assert convert(open_model(folder), out, storage=storage, quiet=True).state == "written"
    directory = open_model(out)
    assert directory.settings["licence"] == "X"
    assert directory.settings["source"]["name"] == str(folder)
    exact = model.state_dict()
    for name in exact:
        if storage == "int8" and name + SCALE in directory.weights:
            stored, scale = directory.weights[name], directory.weights[name + SCALE]
            assert stored.dtype == torch.int8
            error = (dequantize_rows(stored, scale) - exact[name]).abs()
            assert (error <= scale[:, None] * 0.5001).all()
            assert stored.abs().amax() == 127
        elif storage == "int8":
            assert torch.equal(directory.weights[name], exact[name])
        else:
            assert torch.equal(directory.weights[name], exact[name].to(getattr(torch, storage)))
    if storage == "int8":
        matrices = [n for n in exact if exact[n].dim() == 2 and "router" not in n]
        assert sum(name.endswith(SCALE) for name in directory.weights) == len(matrices)
    with torch.no_grad():
        difference = load_model(directory)(*padded_batch) - model(*padded_batch)
    assert 0 < difference.abs().median() < (0.01 if storage == "float16" else 0.15)
    again = tmp_path / "again"
    convert(directory, again, quiet=True)
    for name, tensor in open_model(again).weights.items():
        assert torch.equal(tensor, directory.weights[name])


def test_transformers_refuses_int8_instead_of_reading_nonsense(folder, tmp_path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    convert(open_model(folder), tmp_path / "out", storage="int8", quiet=True)
    with pytest.raises(OSError, match="no file named"):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")


def test_int8_weights_go_on_to_transformers(
    model, folder, padded_batch, reference_logits, tmp_path
) -> None:
    """What ships as int8 is, as float16, the same model in transformers."""
    from transformers import AutoModelForSeq2SeqLM

    source, target = padded_batch
    small, half = tmp_path / "int8", tmp_path / "float16"
    convert(open_model(folder), small, storage="int8", quiet=True)
    convert(open_model(small), half, storage="float16", quiet=True)
    # The same dequantised weights, once in transformers and once here.
    reference = AutoModelForSeq2SeqLM.from_pretrained(half, torch_dtype=torch.float32).eval()
    expected = reference_logits(reference, source, target)[target != 1]
    with torch.no_grad():
        equal = load_model(open_model(half))(source, target)[target != 1]
        near = load_model(open_model(small))(source, target)[target != 1]
    assert expected.std() >= 1
    torch.testing.assert_close(equal, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(near, expected, rtol=0, atol=0.02)  # scales in half precision


def test_int8_storage_is_a_byte_a_parameter(model, folder, tmp_path) -> None:
    convert(open_model(folder), tmp_path / "out", storage="int8", quiet=True)
    directory = open_model(tmp_path / "out")
    state = model.state_dict()
    small = sum(tensor.numel() for tensor in state.values() if tensor.dim() < 2)
    routers = [state[name] for name in state if "router" in name]
    matrices = [tensor for name, tensor in state.items() if tensor.dim() == 2]
    assert directory.num_bytes == (
        sum(tensor.numel() + 4 * len(tensor) for tensor in matrices)
        + sum(3 * router.numel() - 4 * len(router) for router in routers)
        + 4 * small
    )
    file = tmp_path / "out" / "int8.safetensors"
    assert file.stat().st_size < directory.num_bytes + 200 * len(directory.weights)


def test_rows_of_zeros_quantize() -> None:
    stored, scale = quantize_rows(torch.tensor([[0.0, 0.0], [2.0, -1.0]]))
    assert stored.tolist() == [[0, 0], [127, -64]]
    assert dequantize_rows(stored, scale)[0].tolist() == [0.0, 0.0]


def test_an_interrupted_conversion_goes_on(folder, tmp_path, monkeypatch) -> None:
    source, out = open_model(folder), tmp_path / "out"
    limit = {"max_shard_bytes": 100_000, "quiet": True}
    import nllb.model.formats.weight_files as weight_files

    written, write = [], weight_files._write_tensor

    def write_until_killed(stream, tensor, weights):
        if len(written) == 40:
            raise KeyboardInterrupt
        written.append(tensor.name)
        write(stream, tensor, weights)

    monkeypatch.setattr(weight_files, "_write_tensor", write_until_killed)
    with pytest.raises(KeyboardInterrupt):
        convert(source, out, **limit)
    assert not out.exists()
    finished = {path.name for path in (tmp_path / ".out.part").glob("model-*.safetensors")}
    assert finished
    (tmp_path / ".out.part" / ".half.part.safetensors").write_bytes(b"left by a killed process")
    monkeypatch.setattr(weight_files, "_write_tensor", write)
    times = {name: (tmp_path / ".out.part" / name).stat().st_mtime_ns for name in finished}
    assert convert(source, out, **limit).state == "written"
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == times
    assert not (tmp_path / ".out.part").exists()
    assert not [path for path in out.iterdir() if path.name[0] == "." or "unfin" in path.name]
    for name, tensor in open_model(out).weights.items():
        assert torch.equal(tensor, source.weights[name])
    assert convert(source, out, **limit).state == "already there"


def test_a_leftover_of_other_work_is_not_taken(folder, tmp_path) -> None:
    part = tmp_path / ".out.part"
    part.mkdir()
    (part / "unfinished.json").write_text('{"work": "another"}')
    (part / "stray.txt").write_text("x")
    convert(open_model(folder), tmp_path / "out", quiet=True)
    assert not (tmp_path / "out" / "stray.txt").exists()


def test_nothing_is_overwritten(folder, tmp_path) -> None:
    source = open_model(folder)
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(CheckpointError, match="already exists and is not empty"):
            convert(source, out, quiet=True)
    with pytest.raises(CheckpointError, match="already contains a model"):
        convert(source, folder, storage="int8", quiet=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert convert(source, empty, dry_run=True).state == "planned"
    assert not list(empty.iterdir())
    assert convert(source, empty, quiet=True).state == "written"


def test_a_full_disk_is_told_before_writing(folder, tmp_path, monkeypatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match="10 B are free"):
        convert(open_model(folder), tmp_path / "out", quiet=True)


@pytest.fixture
def broken(folder, tmp_path) -> Path:
    """A copy of a good directory, for a test to break."""
    import shutil

    return Path(shutil.copytree(folder, tmp_path / "broken"))


@pytest.mark.parametrize("size", [0, 4, 100, 20_000, -1])
def test_truncated_weights(broken, size) -> None:
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"truncated|damaged or truncated: it has .* bytes"):
        open_model(broken)


def test_other_architectures_are_named(broken) -> None:
    (broken / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"'bert'; supported are m2m_100 .* and nllb-moe"):
        open_model(broken)
    (broken / "config.json").write_text('{"model_type": "m2m_100", "d_model": 16}')
    with pytest.raises(CheckpointError, match="lacks vocab_size"):
        open_model(broken)
    (broken / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json:1: not JSON"):
        open_model(broken)


def change_config(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder_layers": 3}, r"lacks \d+ of the model's tensors"),
        ({"encoder_layers": 1}, r"\d+ tensors that a .* does not have"),
        ({"decoder_ffn_dim": 41}, "is 40 x 16, but must be 41 x 16"),
        ({"encoder_attention_heads": 3}, "16 is not a multiple of encoder_heads 3"),
        (
            {"activation_function": "tanh"},
            "activation is 'tanh'; valid values are relu, gelu, silu",
        ),
        ({"tie_word_embeddings": False}, "sets tie_word_embeddings to false"),
    ],
)
def test_a_configuration_of_another_model(broken, values, message) -> None:
    change_config(broken, **values)
    with pytest.raises(CheckpointError, match=message):
        open_model(broken)


def test_missing_parts_are_named(broken, tmp_path) -> None:
    (broken / "sentencepiece.bpe.model").unlink()
    directory = open_model(broken)
    directory.tokenizer()  # tokenizer.json suffices
    (broken / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        directory.tokenizer()
    (broken / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        open_model(broken)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="lacks 2 of its 2 weight files"):
        open_model(broken)
    with pytest.raises(CheckpointError, match=r"neither a config\.json"):
        open_model(tmp_path)
    with pytest.raises(CheckpointError, match="no such directory or file"):
        open_model(tmp_path / "nowhere" / "at all")
    with pytest.raises(CheckpointError, match=r"did you mean facebook/nllb-200-3\.3B"):
        open_model("nllb-200-3.3B")


def test_a_header_that_is_no_header(broken) -> None:
    (broken / "model.safetensors").write_bytes(struct.pack("<Q", 12) + b'{"a": [1,2]}')
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        open_model(broken)


def test_a_pickle_with_code_is_refused(broken) -> None:
    class Trap:
        def __reduce__(self):
            return Path.touch, (broken / "trapped",)

    (broken / "model.safetensors").unlink()
    torch.save({"model.shared.weight": Trap()}, broken / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="without running code"):
        open_model(broken)
    assert not (broken / "trapped").exists()


def test_opening_reads_no_weights(folder) -> None:
    def count_mapped() -> int:
        return Path("/proc/self/maps").read_text().count(f"{folder}/model.safetensors")

    before = count_mapped()
    directory = open_model(folder)
    assert count_mapped() == before
    first = directory.weights["embedding.weight"]
    assert count_mapped() == before + 1
    second = directory.weights["embedding.weight"]
    assert first.data_ptr() == second.data_ptr()  # the file's memory, not a copy


@pytest.mark.parametrize(
    "name",
    ["../outside.safetensors", "/etc/passwd", "a/../../outside.safetensors", "..", "", 3, None,
     ["x"], "C:\\outside.safetensors", "..\\outside.safetensors", "\\\\server\\x", "a\0b"],
)  # fmt: skip
def test_an_index_names_no_file_elsewhere(broken, name) -> None:
    (broken / "model.safetensors").rename(broken.parent / "outside.safetensors")
    index = {"weight_map": {"model.shared.weight": name}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="is not the name of a file"):
        open_model(broken)


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "config.json", "nllb.json", "tokenizer_config.json",
     "sentencepiece.bpe.model", "sub/part.safetensors"],
)  # fmt: skip
def test_links_out_of_the_directory_are_refused(broken, name) -> None:
    path, outside = broken / name, broken.parent / "outside"
    if name.startswith("sub"):
        outside.mkdir()
        (broken / "model.safetensors").rename(outside / "part.safetensors")
        (broken / "sub").symlink_to(outside)
        index = {"weight_map": {"model.shared.weight": name}}
        (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        path.rename(outside)
        path.symlink_to(outside)
    with pytest.raises(CheckpointError, match="is a link that leaves"):
        open_model(broken).tokenizer()


def test_links_within_a_directory_and_a_linked_directory_are_read(broken, tmp_path) -> None:
    (broken / "model.safetensors").rename(broken / "weights")
    (broken / "model.safetensors").symlink_to("weights")
    (tmp_path / "link").symlink_to(broken)
    open_model(tmp_path / "link").tokenizer()


def test_snapshots_of_the_hub_cache_are_links_to_its_blobs(broken, tmp_path) -> None:
    home = tmp_path / "hub" / "models--owner--name"
    snapshot, blobs = home / "snapshots" / "0123abc", home / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    for number, path in enumerate(sorted(broken.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / str(number))
    open_model(snapshot).tokenizer()
    other = tmp_path / "hub" / "models--owner--other" / "blobs" / "0"
    other.parent.mkdir(parents=True)
    other.write_bytes((snapshot / "config.json").read_bytes())
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(other)
    with pytest.raises(CheckpointError, match="is a link that leaves"):
        open_model(snapshot)


def test_nothing_outside_is_copied_by_a_conversion(broken, tmp_path) -> None:
    (tmp_path / "secret").write_text("secret")
    (broken / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="is a link that leaves"):
        convert(open_model(broken), tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder_layers": 10**9}, "encoder_layers is 1000000000; the maximum is 1,000"),
        ({"decoder_layers": 1000}, "lacks more than 1,000 of the model's tensors"),
        ({"num_experts": 10**9, "model_type": "nllb-moe"}, "num_experts is .*maximum"),
        ({"vocab_size": 10**12}, "vocabulary_size is .*maximum"),
        ({"max_position_embeddings": 10**9}, "max_positions is .*maximum"),
        ({"max_position_embeddings": 2**20, "d_model": 2**12}, "table of position embeddings"),
        ({"d_model": 10**30}, "model_dim is .*maximum"),
        ({"dropout": 1e308}, "dropout is"),
        ({"eos_token_id": [2, 3]}, "eos_token_id is .*not an int"),
        ({"encoder_layers": [[]]}, "encoder_layers is .*not an int"),
        ({"d_model": True}, "d_model is True"),
        ({"decoder_layers": None}, "lacks decoder_layers"),
    ],
)
def test_sizes_without_bounds_are_refused_at_once(broken, values, message) -> None:
    change_config(broken, **values)
    with pytest.raises(CheckpointError, match=message) as error:
        open_model(broken)
    assert str(broken) in str(error.value)


def test_an_end_token_in_a_list_of_its_own(broken) -> None:
    change_config(broken, eos_token_id=[2], decoder_start_token_id=[2])
    assert open_model(broken).config.eos_id == 2


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_with_the_prefix_of_a_wrapper(model, broken, prefix) -> None:
    from safetensors.torch import load_file, save_file

    path = broken / "model.safetensors"
    save_file({prefix + name: value for name, value in load_file(path).items()}, path)
    opened = open_model(broken)
    for name, value in model.state_dict().items():
        assert torch.equal(opened.weights[name], value)


def test_int8_without_scales_says_what_to_do(broken) -> None:
    from safetensors.torch import load_file, save_file

    path = broken / "model.safetensors"
    tensors = load_file(path)
    name = "model.encoder.layers.0.self_attn.k_proj.weight"
    save_file(tensors | {name: tensors[name].to(torch.int8)}, path)
    with pytest.raises(CheckpointError, match=r"int8 without the scales .*nllb convert"):
        open_model(broken)
    save_file(tensors | {name: tensors[name].to(torch.int32)}, path)
    with pytest.raises(CheckpointError, match=r"stored as torch\.int32"):
        open_model(broken)


@pytest.mark.parametrize("shape", [(3,), (24, 1), ()])
def test_scales_that_do_not_fit_their_matrix(broken, tmp_path, shape) -> None:
    from safetensors.torch import load_file, save_file

    convert(open_model(broken), tmp_path / "out", storage="int8", quiet=True)
    path = tmp_path / "out" / "int8.safetensors"
    name = "model.encoder.layers.0.self_attn.k_proj.weight.scale"
    save_file(load_file(path) | {name: torch.ones(shape)}, path)
    with pytest.raises(CheckpointError, match="does not match its configuration"):
        open_model(tmp_path / "out")


@pytest.mark.parametrize(
    "settings",
    [[], {"added_languages": "abc"}, {"added_languages": [3]}, {"added_languages": ["../x"]},
     {"licence": ["x"]}, {"shortlists": []}],
)  # fmt: skip
def test_settings_of_another_form_are_refused(broken, settings) -> None:
    (broken / "nllb.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"nllb\.json"):
        open_model(broken)
