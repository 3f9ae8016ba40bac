"""Tokens and logits stay what transformers gave when `model/make.py` wrote them down.

transformers is not needed here: this holds on every Python and against every version of torch.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nllb.model.configuration import ModelConfig
from nllb.model.formats.weight_names import list_weights
from nllb.model.tokenizer import Tokenizer
from nllb.model.transformer import Transformer

FOLDER = Path(__file__).parent / "model"
REFERENCE = json.loads((FOLDER / "reference.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", REFERENCE["tokens"], ids=lambda entry: entry["language"])
def test_tokens(entry) -> None:
    tokenizer = Tokenizer.build(FOLDER / "vocabulary.model", normalize=False)
    assert tokenizer.encode_source(entry["text"], entry["language"]) == entry["ids"]


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_logits(kind) -> None:
    config = ModelConfig.from_hugging_face(REFERENCE[kind]["config"])
    names = {
        weight.name_in(config.architecture): (weight.name, weight.shape)
        for weight in list_weights(config)
    }
    draw, state = np.random.RandomState(0), {}
    for theirs in sorted(names):
        name, shape = names[theirs]
        noise = torch.from_numpy(draw.standard_normal(shape)).float()
        scale = 1.5 * shape[-1] ** -0.5 if len(shape) == 2 else 0.3
        state[name] = noise * scale + float("norm" in theirs and theirs.endswith("weight"))
    model = Transformer(config).eval()
    model.load_state_dict(state)
    source, target = torch.tensor(REFERENCE["source"]), torch.tensor(REFERENCE["target"])
    with torch.no_grad():
        logits = model(source, target)[target != 1]
    expected = torch.tensor(REFERENCE[kind]["every_12th"])
    torch.testing.assert_close(logits[:, ::12], expected, rtol=0, atol=1e-4)
