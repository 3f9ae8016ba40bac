"""fairseq's checkpoints, written here from a model of transformers by rules of their own."""

import re
import sys
from argparse import Namespace
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from nllb.errors import CheckpointError
from nllb.model.formats.open_model import load_model, open_model

DENSE = {"encoder_layers": 3, "decoder_layers": 2, "decoder_ffn_dim": 64}
SPARSE = {
    "num_experts": 4,
    "encoder_layers": 4,
    "decoder_layers": 2,
    "encoder_sparse_step": 2,
    "decoder_sparse_step": 1,
    "moe_token_dropout": 0.2,
}


def fairseq_names(reference: Any) -> dict[str, torch.Tensor]:
    """Rename by the known differences of the two forms, not by this package's table."""
    state = {}
    for name, tensor in reference.state_dict().items():
        new = name.removeprefix("model.").replace(".cross_attention", ".encoder_attn")
        new = new.replace(".ff_layer_norm", ".final_layer_norm")
        new = new.replace(".ffn.router.classifier", ".moe_layer.gate.wg")
        new = re.sub(r"\.ffn\.experts\.expert_(\d+)\.", r".moe_layer.experts.\1.", new)
        new = new.replace(".ffn.fc", ".fc")
        if new == "shared.weight":
            continue
        state["decoder.output_projection.weight" if new == "lm_head.weight" else new] = tensor
    state["encoder.version"] = torch.tensor([3.0])
    state["decoder.embed_positions._float_tensor"] = torch.zeros(1)
    return state


def arguments(**more: Any) -> Namespace:
    return Namespace(encoder_attention_heads=4, decoder_attention_heads=4, **more)


@pytest.mark.parametrize("place", ["cfg", "args"])
def test_dense_file(place, make_reference, padded_batch, reference_logits, tmp_path: Path) -> None:
    reference = make_reference(**DENSE)
    saved = {"model": fairseq_names(reference), "extra_state": {"epoch": 3}}
    saved |= {"cfg": {"model": arguments()}} if place == "cfg" else {"args": arguments()}
    torch.save(saved, tmp_path / "checkpoint.pt")
    directory = open_model(tmp_path / "checkpoint.pt")
    assert directory.format == "fairseq"
    assert directory.config.encoder_layers == 3
    assert open_model(tmp_path).config == directory.config
    source, target = padded_batch
    with torch.no_grad():
        logits = load_model(directory)(source, target)
    expected = reference_logits(reference, source, target)
    assert expected[target != 1].std() >= 1
    torch.testing.assert_close(logits[target != 1], expected[target != 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_files_per_rank(
    num_ranks, make_reference, padded_batch, reference_logits, tmp_path: Path
) -> None:
    reference = make_reference(**SPARSE)
    state = fairseq_names(reference)
    config = {"cfg": {"model": arguments(moe_eom=0.2, moe_freq=2)}}
    ranks: list[dict[str, torch.Tensor]] = [{} for _ in range(num_ranks)]
    shared = {}
    for name, tensor in state.items():
        if match := re.search(r"\.experts\.(\d+)\.", name):
            rank, local = divmod(int(match[1]), 4 // num_ranks)
            new = name.replace(match[0], f".experts.{local}.")
            ranks[rank][new] = tensor.clone()
        else:
            shared[name] = tensor
    torch.save({"model": shared, **config}, tmp_path / "checkpoint_last-shared.pt")
    for rank, experts in enumerate(ranks):
        torch.save({"model": experts, **config}, tmp_path / f"checkpoint_last-rank-{rank}.pt")
    directory = open_model(tmp_path / "checkpoint_last-shared.pt")
    assert (directory.config.num_experts, directory.config.expert_output_masking) == (4, 0.2)
    assert (directory.config.encoder_sparse_step, directory.config.decoder_sparse_step) == (2, 1)
    source, target = padded_batch
    with torch.no_grad():
        logits = load_model(open_model(tmp_path))(source, target)
    expected = reference_logits(reference, source, target)
    assert expected[target != 1].std() >= 1
    torch.testing.assert_close(logits[target != 1], expected[target != 1], rtol=0, atol=1e-4)
    if num_ranks > 2:
        (tmp_path / "checkpoint_last-rank-1.pt").unlink()
        with pytest.raises(CheckpointError, match=r"lacks files of ranks.*\[0, 2, 3\]"):
            open_model(tmp_path)


def test_tokenizer_beside_it(make_reference, vocabulary, tmp_path: Path) -> None:
    reference = make_reference(vocab_size=2206)
    torch.save({"model": fairseq_names(reference), "args": arguments()}, tmp_path / "checkpoint.pt")
    directory = open_model(tmp_path)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        directory.tokenizer()
    (tmp_path / "sentencepiece.bpe.model").write_bytes(vocabulary.read_bytes())
    tokenizer = directory.tokenizer()
    assert tokenizer.language_id("zul_Latn") == 2202
    names = [tokenizer.token(number) for number in range(4, 2001)]
    lines = [f"{name} 1" for name in names] + ["__ace_Arab__ 1", "__ace_Latn__ 1"]
    (tmp_path / "dictionary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert directory.tokenizer().layout == tokenizer.layout
    lines[10], lines[11] = lines[11], lines[10]
    (tmp_path / "dictionary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"dictionary\.txt:11.*from different models"):
        directory.tokenizer()


def test_languages_of_the_checkpoint_itself(make_reference, vocabulary, tmp_path: Path) -> None:
    reference = make_reference(vocab_size=2006)
    config = {"model": arguments(), "task": Namespace(langs="fra_Latn,eng_Latn")}
    torch.save({"model": fairseq_names(reference), "cfg": config}, tmp_path / "checkpoint.pt")
    (tmp_path / "sentencepiece.bpe.model").write_bytes(vocabulary.read_bytes())
    tokenizer = open_model(tmp_path).tokenizer()
    assert tokenizer.languages == ("fra_Latn", "eng_Latn")
    assert tokenizer.data_tag_id("<MINED_DATA>") == 2003


def test_what_is_no_nllb_checkpoint(make_reference, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": 1}, path)
    with pytest.raises(CheckpointError, match="not a fairseq checkpoint"):
        open_model(path)
    torch.save({"model": {"decoder.embed_tokens.weight": torch.zeros(4, 4)}}, path)
    with pytest.raises(CheckpointError, match="not a pre-norm encoder-decoder"):
        open_model(path)
    state = fairseq_names(make_reference(**DENSE))
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match="number of attention heads"):
        open_model(path)
    gone = "decoder.layers.0.fc1.bias"
    torch.save({"model": {k: v for k, v in state.items() if k != gone}, "args": arguments()}, path)
    with pytest.raises(CheckpointError, match="lacks 1 of the model's tensors"):
        open_model(path)
    torch.save({"model": state | {"adapter": torch.zeros(2)}, "args": arguments()}, path)
    with pytest.raises(CheckpointError, match="1 tensors that an NLLB model does not have"):
        open_model(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="damaged or not a torch file"):
        open_model(path)


def test_classes_of_fairseq_need_not_be_there(make_reference, tmp_path: Path, monkeypatch) -> None:
    """A configuration with an enumeration of fairseq and nodes of omegaconf, as they are saved."""
    constants = ModuleType("fairseq.dataclass.constants")
    constants.Backend = Enum("Backend", {"FIRST": "c10d"}, module=constants.__name__)
    nodes = ModuleType("omegaconf.nodes")
    for name in ("DictConfig", "AnyNode"):
        setattr(nodes, name, type(name, (), {"__module__": nodes.__name__}))

    def node(kind: str, **content: Any) -> Any:
        made = getattr(nodes, kind)()
        vars(made).update(content)
        return made

    model = {"encoder_attention_heads": 4, "decoder_attention_heads": 2}
    content = {key: node("AnyNode", _val=value) for key, value in model.items()}
    config = {"model": node("DictConfig", _content=content), "backend": constants.Backend.FIRST}
    with monkeypatch.context() as patched:
        for module in (constants, nodes):
            patched.setitem(sys.modules, module.__name__, module)
            patched.setitem(sys.modules, module.__name__.partition(".")[0], module)
        saved = {"model": fairseq_names(make_reference(**DENSE)), "cfg": config}
        torch.save(saved, tmp_path / "checkpoint.pt")
    opened = open_model(tmp_path)
    assert (opened.config.encoder_heads, opened.config.decoder_heads) == (4, 2)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": {}, "cfg": Trap(tmp_path / "trapped")}, path)
    with pytest.raises(CheckpointError, match="without running code"):
        open_model(path)
    assert not (tmp_path / "trapped").exists()


class Trap:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)
