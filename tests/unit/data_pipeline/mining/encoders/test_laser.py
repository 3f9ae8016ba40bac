"""LASER2 and LASER3 against plain numpy implementations that share no code with ours."""

import argparse
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import sentencepiece
import torch

from data_pipeline.mining.encoders.encoder import normalized
from data_pipeline.mining.encoders.laser import prepare
from data_pipeline.mining.encoders.load_encoder import load_encoder
from nllb.errors import CheckpointError

SENTENCES = [
    "The house is small.",
    "",
    "An old man lives in the house by the river, and his dog lives there too.",
    "Two dogs.",
    "Where is the   River\u200b?",
]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def write_pieces(path: Path) -> list[str]:
    """Train a SentencePiece model and return its pieces without its own specials."""
    text = ["the house is small", "an old man lives in the house by the river", "where is the dog"]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text * 20),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]


def token_numbers(path: Path, dictionary: dict[str, int], sentence: str) -> list[int]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = processor.encode(prepare(sentence), out_type=str)
    return [dictionary.get(piece, 3) for piece in pieces] + [2]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + numpy.exp(-x))


def plain_lstm(weights: dict[str, Any], tokens: list[int], layers: int) -> Any:
    """One sentence through the bidirectional LSTM, a step at a time, and its maximum over time."""
    inputs = [weights["embed_tokens.weight"][token] for token in tokens]
    for layer in range(layers):
        both = []
        for suffix in ("", "_reverse"):
            w_ih, w_hh = (weights[f"lstm.weight_{k}_l{layer}{suffix}"] for k in ("ih", "hh"))
            bias = sum(weights[f"lstm.bias_{k}_l{layer}{suffix}"] for k in ("ih", "hh"))
            hidden = cell = numpy.zeros(w_hh.shape[1])
            outputs = []
            for x in inputs if not suffix else inputs[::-1]:
                i, f, g, o = numpy.split(w_ih @ x + w_hh @ hidden + bias, 4)
                cell = sigmoid(f) * cell + sigmoid(i) * numpy.tanh(g)
                hidden = sigmoid(o) * numpy.tanh(cell)
                outputs.append(hidden)
            both.append(outputs if not suffix else outputs[::-1])
        inputs = [numpy.concatenate(pair) for pair in zip(*both, strict=True)]
    return numpy.max(inputs, axis=0)


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def plain_transformer(
    weights: dict[str, Any], tokens: list[int], *, layers: int, heads: int, first: bool
) -> Any:
    """One sentence through the post-norm transformer, a head at a time."""
    if first:
        tokens = [0, *tokens]
    table = weights["embed_tokens.weight"]
    size = table.shape[1]
    rows = []
    for place, token in enumerate(tokens):
        angles = (place + 2) * numpy.exp(
            -numpy.log(10000) * numpy.arange(size // 2) / (size // 2 - 1)
        )
        position = numpy.concatenate([numpy.sin(angles), numpy.cos(angles)])
        rows.append(table[token] * numpy.sqrt(size) + position)
    x = numpy.array(rows)
    for layer in range(layers):

        def linear(name: str, value: Any, layer: int = layer) -> Any:
            prefix = f"layers.{layer}.{name}"
            return value @ weights[f"{prefix}.weight"].T + weights[f"{prefix}.bias"]

        def norm(name: str, value: Any, layer: int = layer) -> Any:
            prefix = f"layers.{layer}.{name}"
            return layer_norm(value, weights[f"{prefix}.weight"], weights[f"{prefix}.bias"])

        q, k, v = (linear(f"self_attn.{name}_proj", x) for name in "qkv")
        width = size // heads
        outputs = []
        for head in range(heads):
            cut = slice(head * width, (head + 1) * width)
            scores = q[:, cut] @ k[:, cut].T / numpy.sqrt(width)
            scores = numpy.exp(scores - scores.max(-1, keepdims=True))
            outputs.append(scores / scores.sum(-1, keepdims=True) @ v[:, cut])
        x = norm("self_attn_layer_norm", x + linear("self_attn.out_proj", numpy.hstack(outputs)))
        x = norm("final_layer_norm", x + linear("fc2", numpy.maximum(linear("fc1", x), 0)))
    if "layer_norm.weight" in weights:
        x = layer_norm(x, weights["layer_norm.weight"], weights["layer_norm.bias"])
    return x[0] if first else x.max(0)


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def write_laser2(folder: Path, *, rows: int | None = None) -> tuple[Path, dict[str, int]]:
    pieces = write_pieces(folder / "laser2.spm")
    # The dictionary's order is its own: ids of SentencePiece must not be used.
    dictionary = {token: number for number, token in enumerate([*SPECIALS, *reversed(pieces)])}
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (rows or len(dictionary), 12)}
    for layer in range(3):
        for suffix in ("", "_reverse"):
            end = f"l{layer}{suffix}"
            shapes[f"lstm.weight_ih_{end}"] = (32, 12 if layer == 0 else 16)
            shapes[f"lstm.weight_hh_{end}"] = (32, 8)
            shapes[f"lstm.bias_ih_{end}"] = shapes[f"lstm.bias_hh_{end}"] = (32,)
    params = {
        "num_embeddings": rows or len(dictionary),
        "padding_idx": 1,
        "embed_dim": 12,
        "hidden_size": 8,
        "num_layers": 3,
        "bidirectional": True,
        "left_pad": False,
        "padding_value": 0.0,
    }
    path = folder / "laser2.pt"
    state = {"params": params, "model": random_tensors(shapes, 1), "dictionary": dictionary}
    torch.save(state, path)
    return path, dictionary


def write_laser3(
    folder: Path, *, criterion: str, mask: bool, settings: Any
) -> tuple[Path, dict[str, int]]:
    path = folder / "laser3-wol_Latn.v1.pt"
    pieces = write_pieces(path.with_suffix(".spm"))
    (path.with_suffix(".cvocab")).write_text("".join(f"{p} 1\n" for p in pieces), encoding="utf-8")
    dictionary = {token: number for number, token in enumerate([*SPECIALS, *pieces])}
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (len(dictionary) + mask, 16)}
    for layer in range(2):
        for name in ("q", "k", "v", "out"):
            shapes[f"layers.{layer}.self_attn.{name}_proj.weight"] = (16, 16)
            shapes[f"layers.{layer}.self_attn.{name}_proj.bias"] = (16,)
        for name, shape in {"fc1": (24, 16), "fc2": (16, 24)}.items():
            shapes[f"layers.{layer}.{name}.weight"] = shape
            shapes[f"layers.{layer}.{name}.bias"] = shape[:1]
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            shapes[f"layers.{layer}.{name}.weight"] = shapes[f"layers.{layer}.{name}.bias"] = (16,)
    if mask:
        shapes["layer_norm.weight"] = shapes["layer_norm.bias"] = (16,)
    weights = {f"encoder.{name}": value for name, value in random_tensors(shapes, 2).items()}
    weights["decoder.version"] = torch.zeros(1)
    weights["decoder.output.weight"] = torch.zeros(3, 3)
    model = {
        "encoder_attention_heads": 4,
        "sentemb_criterion": criterion,
        "prepend_bos": criterion == "cls",
    }
    torch.save({"cfg": {"model": settings(**model)}, "model": weights}, path)
    return path, dictionary


def plain(path: Path, state_model: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {k.removeprefix("encoder."): v.double().numpy() for k, v in state_model.items()}


def test_laser2_equals_a_plain_implementation(tmp_path: Path) -> None:
    path, dictionary = write_laser2(tmp_path)
    encoder = load_encoder(path)
    found = encoder.encode(SENTENCES, "eng_Latn")
    assert found.shape == (5, 16) == (5, encoder.dimension)
    weights = plain(path, torch.load(path, weights_only=True)["model"])
    for row, sentence in zip(found, SENTENCES, strict=True):
        if sentence:
            tokens = token_numbers(tmp_path / "laser2.spm", dictionary, sentence)
            numpy.testing.assert_allclose(row, plain_lstm(weights, tokens, 3), atol=1e-5)
        else:
            assert not row.any()


@pytest.mark.parametrize("criterion", ["cls", "maxpool"])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("settings", [dict, argparse.Namespace])
def test_laser3_equals_a_plain_implementation(
    tmp_path: Path, criterion: str, mask: bool, settings: Any
) -> None:
    path, dictionary = write_laser3(tmp_path, criterion=criterion, mask=mask, settings=settings)
    found = load_encoder(path).encode(SENTENCES, "wol_Latn")
    with torch.serialization.safe_globals([argparse.Namespace]):
        weights = plain(path, torch.load(path, weights_only=True)["model"])
    for row, sentence in zip(found, SENTENCES, strict=True):
        if sentence:
            tokens = token_numbers(path.with_suffix(".spm"), dictionary, sentence)
            expected = plain_transformer(
                weights, tokens, layers=2, heads=4, first=criterion == "cls"
            )
            numpy.testing.assert_allclose(row, expected, atol=1e-5)


def test_a_sentence_has_one_vector_in_any_batch(tmp_path: Path) -> None:
    path, _ = write_laser3(tmp_path, criterion="maxpool", mask=False, settings=dict)
    encoder = load_encoder(path)
    together = encoder.encode(SENTENCES, "")
    alone = numpy.concatenate([encoder.encode([sentence], "") for sentence in SENTENCES])
    numpy.testing.assert_allclose(together, alone, atol=1e-5)
    assert encoder.encode([], "").shape == (0, 16)


def test_bfloat16_keeps_the_directions(tmp_path: Path) -> None:
    laser2, _ = write_laser2(tmp_path)
    laser3, _ = write_laser3(tmp_path, criterion="maxpool", mask=True, settings=dict)
    for path in (laser2, laser3):
        full, half = load_encoder(path), load_encoder(path, "bfloat16")
        assert full.key != half.key
        rows = [normalized(encoder.encode(SENTENCES, "")) for encoder in (full, half)]
        cosines = (rows[0] * rows[1]).sum(axis=1)[[bool(sentence) for sentence in SENTENCES]]
        assert cosines.min() > 0.999
        assert (rows[0] != rows[1]).any()


class Opens:
    """Does something when it is unpickled."""

    def __reduce__(self) -> Any:
        return (open, ("/nonexistent/laser",))


def test_a_pickle_with_a_zip_behind_it_is_not_run(tmp_path: Path) -> None:
    write_pieces(tmp_path / "laser2.spm")
    target, path = tmp_path / "written", tmp_path / "laser2.pt"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("x", "y")
    program = b"\x80\x02cos\nmkdir\nX" + len(str(target)).to_bytes(4, "little")
    path.write_bytes(program + str(target).encode() + b"\x85R." + archive.getvalue())
    with pytest.raises(CheckpointError, match="not a torch file"):
        load_encoder(path)
    assert not target.exists()


def test_bad_checkpoints_say_what_is_wrong(tmp_path: Path) -> None:
    path, _ = write_laser2(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        load_encoder(path)
    torch.save({"cfg": {"model": Opens()}, "model": {}}, path)
    with pytest.raises(CheckpointError, match="without running code from it, which is refused"):
        load_encoder(path)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a LASER checkpoint: it contains weights"):
        load_encoder(path)
    write_laser2(tmp_path, rows=20)
    with pytest.raises(CheckpointError, match=r"dictionary has .* entries"):
        load_encoder(path)
    write_laser2(tmp_path)
    state = torch.load(path, weights_only=True)
    state["model"]["lstm.bias_ih_l0"][3] = torch.nan
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"lstm\.bias_ih_l0 contains NaN"):
        load_encoder(path)
    (tmp_path / "laser2.spm").unlink()
    write_laser2_without_pieces = path
    state["model"]["lstm.bias_ih_l0"][3] = 0
    torch.save(state, write_laser2_without_pieces)
    with pytest.raises(CheckpointError, match=r"laser2\.spm"):
        load_encoder(path)
    with pytest.raises(CheckpointError, match="there is no encoder"):
        load_encoder(tmp_path / "nothing")
